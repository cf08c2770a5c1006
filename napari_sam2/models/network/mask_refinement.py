"""Refinement: masks looked at once more, by convolutions that see what was prompted.

Small networks gain most by it.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = 16
_DILATIONS = (
    2,
    4,
    8,
)  # with the first layer each cell sees 31 × 31 of them: 124 pixels of the input
_LOGIT_SCALE = (
    8.0  # masks and prompts are divided by it: what a network likes to read is about as large as 1
)
_MASKS = 4


class MaskRefinement(nn.Module):
    """What is added to the logits of all four masks.

    It begins as nothing, so that a trained network can be given one.
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
        """(B, C, h, w) features of each object, (B, 4, h, w) logits and the (B, h, w) dense prompt to (B, 4, h, w) logits."""
        shown = (
            torch.cat([masks, dense[:, None]], dim=1).clamp(-2 * _LOGIT_SCALE, 2 * _LOGIT_SCALE)
            / _LOGIT_SCALE
        )
        x = F.relu(self.norm(self.enter(torch.cat([features, shown], dim=1))))
        for layer in self.layers:
            x = x + F.relu(layer(x))
        return self.leave(x)
