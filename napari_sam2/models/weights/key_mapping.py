"""Names of weights: from those of Meta's checkpoints to those of transformers, which we use."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from napari_sam2.core.errors import CheckpointError

# Keys listed in an error.
_MAX_KEYS_SHOWN = 4

_MLPS = (
    r"((?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head"
    r"|object_pointer_proj))"
)

_RULES = [
    (
        r"^image_encoder\.trunk\.patch_embed\.proj\.",
        "vision_encoder.backbone.patch_embed.projection.",
    ),
    (r"^(image_encoder\.trunk\.blocks\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^(image_encoder\.trunk\.blocks\.\d+)\.mlp\.layers\.0\.", r"\1.mlp.proj_in."),
    (r"^(image_encoder\.trunk\.blocks\.\d+)\.mlp\.layers\.1\.", r"\1.mlp.proj_out."),
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (
        r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "prompt_encoder.shared_embedding.positional_embedding",
    ),
    (r"^sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^sam_mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^sam_mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(sam_mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^(sam_mask_decoder\.transformer\.layers\.\d+)\.mlp\.layers\.0\.", r"\1.mlp.proj_in."),
    (r"^(sam_mask_decoder\.transformer\.layers\.\d+)\.mlp\.layers\.1\.", r"\1.mlp.proj_out."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (_MLPS + r"\.layers\.0\.", r"\1.proj_in."),
    (_MLPS + r"\.layers\.1\.", r"\1.layers.0."),
    (_MLPS + r"\.layers\.2\.", r"\1.proj_out."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^(memory_attention\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^memory_attention\.norm\.", "memory_attention.layer_norm."),
    (
        r"^memory_encoder\.mask_downsampler\.encoder\.12\.",
        "memory_encoder.mask_downsampler.final_conv.",
    ),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (
        r"^memory_encoder\.fuser\.(layers\.\d+)\.dwconv\.",
        r"memory_encoder.memory_fuser.\1.depthwise_conv.",
    ),
    (
        r"^memory_encoder\.fuser\.(layers\.\d+)\.pwconv(\d)\.",
        r"memory_encoder.memory_fuser.\1.pointwise_conv\2.",
    ),
    (
        r"^memory_encoder\.fuser\.(layers\.\d+)\.norm\.",
        r"memory_encoder.memory_fuser.\1.layer_norm.",
    ),
    (r"^memory_encoder\.fuser\.(layers\.\d+)\.gamma$", r"memory_encoder.memory_fuser.\1.scale"),
    (r"\.out_proj\.", ".o_proj."),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
]
_DOWNSAMPLER = re.compile(r"^memory_encoder\.mask_downsampler\.encoder\.(\d+)\.")
_POINT = "sam_prompt_encoder.point_embeddings.{}.weight"
_GAUSSIAN = "prompt_encoder.shared_embedding.positional_embedding"


def rename_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under transformers' keys, from either naming. Tensors are not copied."""
    if not any(key.startswith(("image_encoder.", "sam_mask_decoder.")) for key in state):
        return dict(state)
    points = [_POINT.format(label) for label in range(4)]
    renamed = {_rename_key(key): value for key, value in state.items() if key not in points}
    if all(point in state for point in points):
        renamed["prompt_encoder.point_embed.weight"] = torch.cat([state[point] for point in points])
    if _GAUSSIAN in renamed:
        renamed["shared_image_embedding.positional_embedding"] = renamed[_GAUSSIAN]
    return renamed


def check_keys(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless both have the same keys and shapes; the text lists a few."""
    faults = [
        ("lacks", [key for key in expected if key not in state]),
        ("has unexpected", [key for key in state if key not in expected]),
        (
            "has wrong shapes in",
            [
                _format_shapes(key, state, expected)
                for key in expected
                if _is_shape_different(key, state, expected)
            ],
        ),
    ]
    texts = [f"{fault} {_format_keys(keys)}" for fault, keys in faults if keys]
    if texts:
        raise CheckpointError(
            f"the checkpoint {'; '.join(texts)}. Is it a SAM 2 checkpoint of this size?"
        )


def _rename_key(key: str) -> str:
    layer = _DOWNSAMPLER.match(key)
    if layer and layer[1] != "12":
        # Each layer is a convolution, its norm, and an activation without weights.
        number = int(layer[1])
        kind = "conv" if number % 3 == 0 else "layer_norm"
        return f"memory_encoder.mask_downsampler.layers.{number // 3}.{kind}.{key[layer.end() :]}"
    for pattern, replacement in _RULES:
        key = re.sub(pattern, replacement, key)
    return key


def _is_shape_different(
    key: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> bool:
    return key in state and state[key].shape != expected[key].shape


def _format_shapes(key: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    return f"{key} {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"


def _format_keys(keys: list[str]) -> str:
    more = f" and {len(keys) - _MAX_KEYS_SHOWN} more" if len(keys) > _MAX_KEYS_SHOWN else ""
    plural = "" if len(keys) == 1 else "s"
    return f"{len(keys)} weight{plural} ({', '.join(keys[:_MAX_KEYS_SHOWN])}{more})"
