"""Refinement of masks by convolutions that also read the dense prompt.

Small networks gain most from it.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = 16
# With the first layer, each cell reads 31 × 31 cells: 124 input pixels.
_DILATIONS = (2, 4, 8)
# Masks and prompts are divided by it, to about the range -1..1.
_LOGIT_SCALE = 8.0
_MASKS = 4


class MaskRefinement(nn.Module):
    """Convolutions whose output is added to the logits of all four masks.

    The last layer starts at zero, so that a trained network does not change if one is added.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels + _MASKS + 1, _CHANNELS, 3, padding=1)
        self.norm = nn.GroupNorm(4, _CHANNELS)
        self.layers = nn.ModuleList(
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=step, dilation=step) for step in _DILATIONS
        )
        self.leave = nn.Conv2d(_CHANNELS, _MASKS, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, features: Tensor, masks: Tensor, dense: Tensor) -> Tensor:
        """The (B, 4, h, w) logits to add.

        Parameters
        ----------
        features
            (B, C, h, w) of each object.
        masks
            (B, 4, h, w) logits.
        dense
            (B, h, w) logits of the dense prompt.
        """
        limit = 2 * _LOGIT_SCALE
        planes = torch.cat([masks, dense[:, None]], dim=1).clamp(-limit, limit) / _LOGIT_SCALE
        x = F.relu(self.norm(self.enter(torch.cat([features, planes], dim=1))))
        for layer in self.layers:
            x = x + F.relu(layer(x))
        return self.leave(x)
