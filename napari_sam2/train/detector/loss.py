"""The detector's loss: foreground, two distances, and the size of objects."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from napari_sam2.train.detector.pool import DetectionBatch

_DISTANCE_WEIGHT, _SIZE_WEIGHT, _DICE_WEIGHT = 5.0, 3.0, 0.5
_BACKGROUND_SHARE = 0.1  # of what a pixel of the foreground counts, in the distances


def compute_losses(logits: Tensor, batch: DetectionBatch) -> dict[str, Tensor]:
    """Parts of the loss by name, and their sum as "loss"; `logits` are (B, 4, H, W)."""
    foreground = batch.targets[:, 0]
    entropy = binary_cross_entropy_with_logits(logits[:, 0], foreground)
    shares = logits.sigmoid()
    counted = (foreground + _BACKGROUND_SHARE) * batch.counts[:, 0]
    squared = (shares[:, 1:3] - batch.targets[:, 1:3]).square() * counted[:, None]
    distances = squared.sum((0, 2, 3)) / counted.sum().clamp(min=1)
    error = (shares[:, 3] - batch.targets[:, 3]).abs() * batch.counts[:, 1]
    parts = {
        "entropy": entropy,
        "dice": 1 - _measure_dice(shares[:, 0], foreground),
        "boundary": distances[0],
        "centre": distances[1],
        "size": error.sum() / batch.counts[:, 1].sum().clamp(min=1),
    }
    parts["loss"] = (
        parts["entropy"]
        + _DICE_WEIGHT * parts["dice"]
        + _DISTANCE_WEIGHT * (parts["boundary"] + parts["centre"])
        + _SIZE_WEIGHT * parts["size"]
    )
    return parts


def _measure_dice(shares: Tensor, foreground: Tensor) -> Tensor:
    common = 2 * (shares * foreground).sum() + 1
    return common / (torch.add(shares.sum(), foreground.sum()) + 1)
