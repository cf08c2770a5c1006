"""Small networks with random weights, and the same in transformers' implementation."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers import Sam2VideoModel

from napari_sam2.core.card import ModelCard
from napari_sam2.models.network.configs import Configuration
from napari_sam2.models.network.hiera import _make_vision_config as vision
from napari_sam2.models.network.sam2_network import Sam2Network, _make_transformers_config
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.train.smoke import TINY

SMALL = Configuration(
    width=16,
    blocks=(1, 1, 2, 1),
    global_blocks=(3,),
    memory_layers=2,
    feed_forward=64,
    decoder_feed_forward=64,
    fuser=64,
    hidden=128,
    iou_hidden=64,
)
SMALL_CONV = TINY
"""Our own encoder with small heads."""

VARIANTS = {
    "2.1": SMALL,
    "2.0": replace(SMALL, pointer_time=False, occlusion=False),
    "two heads, other windows": replace(
        SMALL,
        heads=2,
        windows=(8, 4, 16, 8),
        background=(14, 14),
        blocks=(2, 1, 2, 1),
        global_blocks=(4,),
    ),
}


def make_network(
    configuration: Configuration = SMALL, *, seed: int = 0, presence: float = 0.0
) -> Sam2Network:
    """Weights so large that prompts and memory change the answer.

    `presence` is added to each presence score.
    """
    torch.manual_seed(seed)
    network = Sam2Network(configuration).eval()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1:
                value.copy_(torch.randn_like(value) * (2.0 / value[0].numel()) ** 0.5)
            elif name.endswith("scale"):
                value.fill_(0.5)
            elif name.endswith("bias"):
                value.copy_(torch.randn_like(value) * 0.1)
        for name in (
            "no_memory_embedding",
            "no_object_pointer",
            "memory_temporal_positional_encoding",
            "occlusion_spatial_embedding_parameter",
        ):
            if hasattr(network, name):
                getattr(network, name).normal_()
        network.shared_image_embedding.positional_embedding.copy_(
            network.prompt_encoder.shared_embedding.positional_embedding
        )
        network.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(presence)
    return network


def make_model(
    configuration: Configuration = SMALL, *, size: int = 128, presence: float = 20.0, seed: int = 0
) -> Sam2Predictor:
    """A VideoModel of one input size, whose objects are present by default."""
    return Sam2Predictor(
        make_network(configuration, presence=presence, seed=seed),
        ModelCard("small", sha256="0" * 64, input_sizes=(size,)),
    )


def make_transformers_model(model: Sam2Predictor) -> Sam2VideoModel:
    """The model of transformers with the same weights and input size."""
    configuration, (size,) = model.network.configuration, model.card.input_sizes
    config = _make_transformers_config(configuration)
    config.vision_config = vision(configuration)
    config.vision_config.backbone_feature_sizes = [[size // stride] * 2 for stride in (4, 8, 16)]
    config.memory_attention_rope_feat_sizes = [size // 16] * 2
    config.image_size = config.prompt_encoder_config.image_size = size
    config.enable_temporal_pos_encoding_for_object_pointers = configuration.pointer_time
    config.enable_occlusion_spatial_embedding = configuration.occlusion
    network = Sam2VideoModel._from_config(config, attn_implementation="sdpa").eval()
    network.load_state_dict(model.network.state_dict(), strict=True)
    return network
