"""The image encoder of SAM 2: Hiera and its feature pyramid, from transformers' modules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam2HieraDetConfig, Sam2VisionConfig
from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModel, Sam2VisionNeck

from napari_sam2.models.network.configs import Configuration

# Of ImageNet: red, green and blue in 0..1.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
# Stages that add the features of the stage above; the two finest levels use their own stage only.
_TOP_DOWN = (2, 3)


class HieraEncoder(nn.Module):
    """From (B, 1, S, S) grey values in 0..1 to `hidden` channels at strides 4, 8 and 16."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        vision = _make_vision_config(configuration)
        self.backbone = Sam2HieraDetModel(vision.backbone_config)
        self.neck = Sam2VisionNeck(vision)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, deviation = (
            torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (_MEAN, _STD)
        )
        stages = self.backbone((pixels - mean) / deviation).intermediate_hidden_states
        return self._compute_pyramid(stages)

    def _compute_pyramid(self, stages: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """As Sam2VisionNeck, but without its position encodings, which nothing reads."""
        above: Tensor | None = None
        levels = []
        for stage in range(len(stages) - 1, -1, -1):
            level = self.neck.convs[len(stages) - 1 - stage](stages[stage].permute(0, 3, 1, 2))
            if above is not None and stage in _TOP_DOWN:
                level = level + F.interpolate(above, scale_factor=2.0, mode="nearest")
            above = level
            levels.append(level)
        return levels[-1], levels[-2], levels[-3]


def _make_vision_config(configuration: Configuration) -> Sam2VisionConfig:
    channels = [configuration.width * 2**stage for stage in range(len(configuration.blocks))]
    backbone = Sam2HieraDetConfig(
        hidden_size=configuration.width,
        num_attention_heads=configuration.heads,
        blocks_per_stage=list(configuration.blocks),
        embed_dim_per_stage=channels,
        num_attention_heads_per_stage=[
            configuration.heads * 2**stage for stage in range(len(channels))
        ],
        window_size_per_stage=list(configuration.windows),
        window_positional_embedding_background_size=list(configuration.background),
        global_attention_blocks=list(configuration.global_blocks),
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=channels[::-1],
        fpn_hidden_size=configuration.hidden,
    )
    vision.backbone_config._attn_implementation = "sdpa"
    return vision
