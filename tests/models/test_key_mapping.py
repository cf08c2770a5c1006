"""Names and shapes of weights: from Meta's to transformers', and errors if they do not fit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from napari_sam2.core.errors import CheckpointError
from napari_sam2.models.network.configs import (
    PUBLISHED_CONFIGURATIONS,
    Configuration,
    infer_configuration,
)
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.weights.key_mapping import check_keys, rename_keys
from tests.models.networks import SMALL, VARIANTS

# One key of each kind: transformers' name and Meta's, independent of the table that is tested.
_KEYS = [
    (
        "vision_encoder.backbone.patch_embed.projection.weight",
        "image_encoder.trunk.patch_embed.proj.weight",
    ),
    ("vision_encoder.backbone.pos_embed_window", "image_encoder.trunk.pos_embed_window"),
    (
        "vision_encoder.backbone.blocks.0.layer_norm2.bias",
        "image_encoder.trunk.blocks.0.norm2.bias",
    ),
    (
        "vision_encoder.backbone.blocks.1.attn.qkv.weight",
        "image_encoder.trunk.blocks.1.attn.qkv.weight",
    ),
    (
        "vision_encoder.backbone.blocks.1.attn.proj.weight",
        "image_encoder.trunk.blocks.1.attn.proj.weight",
    ),
    (
        "vision_encoder.backbone.blocks.1.mlp.proj_out.weight",
        "image_encoder.trunk.blocks.1.mlp.layers.1.weight",
    ),
    ("vision_encoder.neck.convs.3.bias", "image_encoder.neck.convs.3.conv.bias"),
    (
        "prompt_encoder.shared_embedding.positional_embedding",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (
        "prompt_encoder.mask_embed.layer_norm2.weight",
        "sam_prompt_encoder.mask_downscaling.4.weight",
    ),
    ("prompt_encoder.mask_embed.conv3.weight", "sam_prompt_encoder.mask_downscaling.6.weight"),
    ("prompt_encoder.not_a_point_embed.weight", "sam_prompt_encoder.not_a_point_embed.weight"),
    ("mask_decoder.upscale_conv2.weight", "sam_mask_decoder.output_upscaling.3.weight"),
    (
        "mask_decoder.output_hypernetworks_mlps.2.proj_in.weight",
        "sam_mask_decoder.output_hypernetworks_mlps.2.layers.0.weight",
    ),
    (
        "mask_decoder.iou_prediction_head.layers.0.weight",
        "sam_mask_decoder.iou_prediction_head.layers.1.weight",
    ),
    (
        "mask_decoder.pred_obj_score_head.proj_out.bias",
        "sam_mask_decoder.pred_obj_score_head.layers.2.bias",
    ),
    (
        "mask_decoder.transformer.layers.1.layer_norm4.weight",
        "sam_mask_decoder.transformer.layers.1.norm4.weight",
    ),
    (
        "mask_decoder.transformer.layers.1.mlp.proj_in.weight",
        "sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight",
    ),
    (
        "mask_decoder.transformer.layers.0.self_attn.o_proj.bias",
        "sam_mask_decoder.transformer.layers.0.self_attn.out_proj.bias",
    ),
    (
        "mask_decoder.transformer.layer_norm_final_attn.bias",
        "sam_mask_decoder.transformer.norm_final_attn.bias",
    ),
    (
        "memory_attention.layers.1.cross_attn_image.o_proj.weight",
        "memory_attention.layers.1.cross_attn_image.out_proj.weight",
    ),
    ("memory_attention.layers.0.layer_norm3.weight", "memory_attention.layers.0.norm3.weight"),
    ("memory_attention.layer_norm.weight", "memory_attention.norm.weight"),
    (
        "memory_encoder.mask_downsampler.layers.3.conv.weight",
        "memory_encoder.mask_downsampler.encoder.9.weight",
    ),
    (
        "memory_encoder.mask_downsampler.layers.0.layer_norm.bias",
        "memory_encoder.mask_downsampler.encoder.1.bias",
    ),
    (
        "memory_encoder.mask_downsampler.final_conv.bias",
        "memory_encoder.mask_downsampler.encoder.12.bias",
    ),
    ("memory_encoder.memory_fuser.layers.1.scale", "memory_encoder.fuser.layers.1.gamma"),
    (
        "memory_encoder.memory_fuser.layers.1.depthwise_conv.weight",
        "memory_encoder.fuser.layers.1.dwconv.weight",
    ),
    (
        "memory_encoder.memory_fuser.layers.0.pointwise_conv2.bias",
        "memory_encoder.fuser.layers.0.pwconv2.bias",
    ),
    ("memory_encoder.projection.weight", "memory_encoder.out_proj.weight"),
    ("object_pointer_proj.layers.0.bias", "obj_ptr_proj.layers.1.bias"),
    ("temporal_positional_encoding_projection_layer.weight", "obj_ptr_tpos_proj.weight"),
    ("memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    ("no_memory_embedding", "no_mem_embed"),
    ("no_object_pointer", "no_obj_ptr"),
    ("occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
]


def _shapes(configuration: Configuration) -> dict[str, Tensor]:
    with torch.device("meta"):
        return Sam2Network(configuration).state_dict()


@pytest.mark.parametrize(("theirs", "meta"), _KEYS, ids=[meta for _, meta in _KEYS])
def test_metas_key_becomes_that_of_transformers(theirs: str, meta: str) -> None:
    state = rename_keys({"sam_mask_decoder.iou_token.weight": torch.zeros(1), meta: torch.zeros(1)})
    assert theirs in state and theirs in _shapes(SMALL)


def test_a_whole_checkpoint_of_meta(shared_folder: Path) -> None:
    tensors = torch.load(shared_folder / "reference" / "meta_format_small.pt", weights_only=True)[
        "model"
    ]
    state = rename_keys(tensors)
    check_keys(state, _shapes(infer_configuration(state, global_blocks=(5,))))
    assert torch.equal(
        state["prompt_encoder.point_embed.weight"][2:3],
        tensors["sam_prompt_encoder.point_embeddings.2.weight"],
    )


@pytest.mark.parametrize("generation", ["SAM 2.1", "SAM 2"])
@pytest.mark.parametrize("name", PUBLISHED_CONFIGURATIONS)
def test_the_published_sizes_are_inferred_from_their_shapes(name: str, generation: str) -> None:
    later = generation == "SAM 2.1"
    configuration = replace(PUBLISHED_CONFIGURATIONS[name], pointer_time=later, occlusion=later)
    assert infer_configuration(_shapes(configuration)) == configuration


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("tiny", 38_962_498),
        ("small", 46_055_074),
        ("base-plus", 80_850_690),
        ("large", 224_447_650),
    ],
)
def test_the_published_sizes_have_as_many_parameters_as_metas(name: str, parameters: int) -> None:
    """As counted in Meta's checkpoints, which hold the Gaussian matrix once, as a buffer."""
    assert sum(
        value.numel()
        for key, value in _shapes(PUBLISHED_CONFIGURATIONS[name]).items()
        if "positional_embedding" not in key
    ) == pytest.approx(parameters, rel=2e-3)


def test_an_unpublished_size_needs_its_global_blocks() -> None:
    with pytest.raises(CheckpointError, match="width 16 and blocks .* global_blocks"):
        infer_configuration(_shapes(SMALL))
    assert infer_configuration(_shapes(SMALL), global_blocks=SMALL.global_blocks) == SMALL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {k: v for k, v in state.items() if not k.startswith("mask_decoder.iou")},
            r"lacks \d+ weights \(mask_decoder.iou_token",
        ),
        (
            lambda state: {**state, "extra.weight": torch.zeros(1)},
            r"has unexpected 1 weight \(extra.weight\)",
        ),
        (
            lambda state: {**state, "no_object_pointer": torch.zeros(1, 7)},
            r"no_object_pointer \(1, 7\), expected \(1, 128\)",
        ),
    ],
    ids=["missing", "unexpected", "other shape"],
)
def test_error_names_the_weights_that_do_not_fit(change: object, message: str) -> None:
    state = change({key: torch.zeros(value.shape) for key, value in _shapes(SMALL).items()})  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message):
        Sam2Network.of(SMALL, state)


def test_another_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not a SAM 2 network"):
        infer_configuration({"encoder.layer.0.weight": torch.zeros(3, 3)})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_configuration_survives_json(variant: str) -> None:
    assert Configuration.from_json(VARIANTS[variant].to_json()) == VARIANTS[variant]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "expected a JSON object"), ('{"depth": 3}', re.escape("unknown fields ['depth']"))],
)
def test_an_invalid_configuration_is_refused(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Configuration.from_json(text)
