"""Random weights that behave like trained ones with respect to speed and agreement.

Masks are neither empty nor full, they depend on clicks and memory, and rounding errors stay small
over a propagation. Usual initialisations fail: memory has no effect beside the features of the
frame, or errors grow with every frame.
"""

from __future__ import annotations

import math
import zlib
from functools import cache

import torch
from torch import Tensor

from napari_sam2.models.network.configs import PUBLISHED_CONFIGURATIONS
from napari_sam2.models.network.sam2_network import Sam2Network

SIZE = "tiny"
# Gain of a layer, over 1 / sqrt(inputs): of the first entry whose parts are all in the name.
_GAINS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("conv_s",), 0.2),  # smooth masks: rounding errors change few pixels
    # soft attention: a steep one amplifies rounding errors from frame to frame
    (("memory_attention.layers", "attn", "q_proj"), 0.4),
    (("memory_attention.layers", "self_attn", "k_proj"), 0.4),
    (("memory_attention.layers", "cross_attn_image", "k_proj"), 0.58),
    (("memory_attention.layers", "attn"), 3.0),  # memory has an effect
    (("mask_decoder.transformer", "attn", "q_proj"), 0.58),
    (("mask_decoder.transformer", "attn", "k_proj"), 0.58),
    (("mask_decoder.transformer", "attn"), 1.44),
    (("memory_encoder.mask_downsampler",), 3.0),  # memory depends more on the mask
    (("memory_encoder.feature_projection",), 0.2),
    (("memory_encoder.projection",), 1.15),
    (("output_hypernetworks_mlps",), 2.0),  # logits of several units, as trained networks have
    (("object_pointer_proj",), 1.6),
    # a wrong age of a pointer changes masks by more than MIN_IOU allows
    (("temporal_positional_encoding_projection",), 10.0),
    (("iou_prediction_head",), 2.0),  # the best of three masks is best by more than an error
)
_GAIN = 0.58
_UNIT_VARIANCE = (
    "point_embed.",
    "not_a_point_embed",
    "no_mask_embed",
    "_token",
    "positional_embedding",
)
_SMALL_VARIANCE = ("no_memory_", "memory_temporal_", "no_object_pointer", "occlusion_")
_PRESENCE_LOGIT = 5.0  # with random weights, objects would be absent by chance


@cache
def make_state() -> dict[str, Tensor]:
    """Make weights of SAM 2.1 tiny under transformers' names, the same on every machine."""
    with torch.device("meta"):
        template = Sam2Network(PUBLISHED_CONFIGURATIONS[SIZE]).state_dict()
    found = {name: _draw_tensor(name, tensor.shape) for name, tensor in template.items()}
    found["shared_image_embedding.positional_embedding"] = found[
        "prompt_encoder.shared_embedding.positional_embedding"
    ]
    return found


def _draw_tensor(name: str, shape: torch.Size) -> Tensor:
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name == "mask_decoder.pred_obj_score_head.proj_out.bias":
        return noise * 0 + _PRESENCE_LOGIT
    if name.endswith(".scale"):
        return 0.1 + 0.02 * noise
    if any(part in name for part in _UNIT_VARIANCE):
        return noise
    if any(part in name for part in _SMALL_VARIANCE):
        return 0.3 * noise
    if len(shape) == 1:
        return 1 + 0.05 * noise if name.endswith(".weight") else 0.02 * noise
    gain = next((gain for parts, gain in _GAINS if all(part in name for part in parts)), _GAIN)
    return noise * (gain / math.sqrt(shape[1:].numel()))
