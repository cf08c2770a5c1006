"""Selection of the weights that train."""

from __future__ import annotations

from typing import Literal

from torch import nn

from napari_sam2.models.network.sam2_network import Sam2Network

TrainableParts = Literal["decoder", "decoder+memory", "everything", "lora"]

_ENCODER_PREFIXES = ("vision_encoder.", "mask_decoder.conv_s0.", "mask_decoder.conv_s1.")
"""Weights of the features of a frame; SAM 2 keeps the last two in the decoder."""

_DECODER_PREFIXES = ("mask_decoder.",)
_MEMORY_PREFIXES = (
    "memory_attention.",
    "memory_encoder.",
    "object_pointer_proj.",
    "temporal_positional_encoding_projection_layer.",
)
_MEMORY_PARAMETERS = (
    "memory_temporal_positional_encoding",
    "no_object_pointer",
    "no_memory_embedding",
    "occlusion_spatial_embedding_parameter",
)
_NEVER_TRAINED = ("positional_embedding", "no_memory_positional_encoding")
"""Weights that are random by design and shared, or never used."""


def select_trainable(network: Sam2Network, parts: TrainableParts, *, rank: int = 8) -> None:
    """Select the weights that train; the others are frozen, and need no memory for gradients.

    Parameters
    ----------
    parts
        "decoder": the mask decoder. "decoder+memory": also the memory encoder and attention.
        "everything": also the image encoder and the prompt encoder. "lora": the decoder, and
        adapters on the frozen image encoder (peft).
    rank
        Rank of the adapters.
    """
    for name, value in network.named_parameters():
        value.requires_grad_(_is_trainable(name, parts))
    if parts == "lora":
        from napari_sam2.train.lora import add_adapters

        add_adapters(network, rank)


def is_encoder_trainable(network: Sam2Network) -> bool:
    """Whether any weight of the image encoder trains."""
    return any(
        value.requires_grad
        for name, value in network.named_parameters()
        if name.startswith(_ENCODER_PREFIXES)
    )


def get_trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that train, by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def _is_trainable(name: str, parts: TrainableParts) -> bool:
    if name.endswith(_NEVER_TRAINED):
        return False
    if parts == "everything":
        return True
    decoder = name.startswith(_DECODER_PREFIXES) and not name.startswith(_ENCODER_PREFIXES)
    if parts == "decoder+memory":
        return decoder or name.startswith(_MEMORY_PREFIXES) or name in _MEMORY_PARAMETERS
    return decoder
