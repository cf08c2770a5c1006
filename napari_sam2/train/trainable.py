"""Tuned: which weights train, chosen by name."""

from __future__ import annotations

from typing import Literal

from torch import nn

from napari_sam2.models.network.sam2_network import Sam2Network

TrainableParts = Literal["decoder", "decoder+memory", "everything", "lora"]

_ENCODER_PREFIXES = ("vision_encoder.", "mask_decoder.conv_s0.", "mask_decoder.conv_s1.")
"""What makes the features of a frame; the last two lie in the decoder for SAM 2's convenience."""

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
"""Random by design and the same in two places, or never read."""


def select_trainable(network: Sam2Network, parts: TrainableParts, *, rank: int = 8) -> None:
    """Let these weights train and no others; frozen ones take no gradient memory.

    "decoder" is the mask decoder; "decoder+memory" also all that makes, keeps and reads memories;
    "everything" adds the image encoder and the prompts; "lora" trains the decoder, and adapters of
    `rank` on the frozen image encoder (peft).
    """
    for name, value in network.named_parameters():
        value.requires_grad_(_is_trainable(name, parts))
    if parts == "lora":
        from napari_sam2.train.lora import add_adapters

        add_adapters(network, rank)


def is_encoder_trainable(network: Sam2Network) -> bool:
    """Whether anything that makes the features of a frame trains."""
    return any(
        value.requires_grad
        for name, value in network.named_parameters()
        if name.startswith(_ENCODER_PREFIXES)
    )


def get_trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that train, by name."""
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
