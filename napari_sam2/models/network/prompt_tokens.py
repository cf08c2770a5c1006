"""Prompts as a network takes them: tokens for points and box corners, a plane for masks."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPromptEncoder

from napari_sam2.models.precision import use_float32

NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT, PADDING = 0, 1, 2, 3, -1
"""Labels of points, as SAM 2 has them.

`PADDING` is the padding point that ends every list of points.
"""

_CLICK_SIGMA = 1.5  # of the Gaussian that stands for a click, in cells of the plane
_DRAWN_LOGIT = 4.0  # drawn prompts are logits from -4 to 4


def encode_points(encoder: Sam2VideoPromptEncoder, points: Tensor, labels: Tensor) -> Tensor:
    """(B, P, 2) points (x, y) in 0..1 over the outer edges of the input, (B, P) labels to (B, P, C) tokens."""
    label = labels[..., None]
    with use_float32(points.device):
        places = encoder.shared_embedding(points)
    sines = torch.where(label == PADDING, encoder.not_a_point_embed.weight, places)
    return sines + encoder.point_embed(labels.clamp(min=0)) * (label >= 0)


def rotate_points(points: Tensor, labels: Tensor) -> Tensor:
    """(B, P, 2) points (x, y) in 0..1 on the input turned by half a circle: the corners of a box, its first two, change places."""
    opposite = 1 - points
    if labels.shape[1] < 2:
        return opposite
    boxed = (labels[:, 0] == TOP_LEFT)[:, None, None]
    return torch.cat(
        [torch.where(boxed, opposite[:, :2].flip(1), opposite[:, :2]), opposite[:, 2:]], dim=1
    )


def encode_mask(encoder: Sam2VideoPromptEncoder, logits: Tensor | None, side: int) -> Tensor:
    """(B, 4 side, 4 side) logits of a mask, or None, to what is added to (1 or B, C, side, side) features."""
    if logits is None:
        return encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, side, side)
    return encoder.mask_embed(logits[:, None])


def clamp_logits(logits: Tensor) -> Tensor:
    """Logits of a mask in the range of drawn prompts."""
    return logits.clamp(-_DRAWN_LOGIT, _DRAWN_LOGIT)


def make_empty_logits(side: int) -> Tensor:
    """(side, side) logits of a plane on which nothing is drawn."""
    return torch.full((side, side), -_DRAWN_LOGIT)


def draw_prompts(
    points: Tensor, labels: Tensor, side: int, previous_logits: Tensor | None = None
) -> Tensor:
    """(B, side, side) logits that show the prompts: a box filled, a click as a bump, a negative click as a dent.

    `previous_logits`, the (B, side, side) logits of the previous answer, takes the place of the box, clamped
    to the same range.
    """
    line = torch.arange(side, device=points.device) + 0.5
    x, y = line[None, None, :], line[None, :, None]
    places = (points * side)[..., None, None]  # (B, P, 2, 1, 1)
    shown = (
        _draw_box(places, labels, (x, y))
        if previous_logits is None
        else clamp_logits(previous_logits) / (2 * _DRAWN_LOGIT) + 0.5
    )
    for index in range(points.shape[1]):
        place, label = places[:, index], labels[:, index, None, None]
        bump = torch.exp(-((x - place[:, 0]) ** 2 + (y - place[:, 1]) ** 2) / (2 * _CLICK_SIGMA**2))
        shown = torch.where(label == POSITIVE, torch.maximum(shown, bump), shown)
        shown = torch.where(label == NEGATIVE, torch.minimum(shown, 1 - bump), shown)
    return (shown * 2 - 1) * _DRAWN_LOGIT


def _draw_box(points: Tensor, labels: Tensor, grid: tuple[Tensor, Tensor]) -> Tensor:
    """(B, side, side): 1 in the box whose corners the first two points are; 0 everywhere where they are none."""
    x, y = grid
    if labels.shape[1] < 2:
        return torch.zeros_like(x * y).expand(len(points), -1, -1)
    first, second = points[:, 0], points[:, 1]
    inside = (x >= first[:, 0]) & (x <= second[:, 0]) & (y >= first[:, 1]) & (y <= second[:, 1])
    return (inside & (labels[:, 0, None, None] == TOP_LEFT)).float()
