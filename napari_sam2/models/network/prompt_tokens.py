"""Prompts as the network reads them: tokens for points and box corners, a plane for masks."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoPromptEncoder

from napari_sam2.models.precision import use_float32

NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT, PADDING = 0, 1, 2, 3, -1
"""Labels of points in SAM 2; a `PADDING` point ends every list of points."""

# Width of a drawn click, in mask cells.
_CLICK_SIGMA = 1.5
# Drawn prompts are logits from minus this to this.
_DRAWN_LOGIT = 4.0


def encode_points(encoder: Sam2VideoPromptEncoder, points: Tensor, labels: Tensor) -> Tensor:
    """(B, P, C) tokens of (B, P, 2) points (x, y) in 0..1 of the input, and (B, P) labels."""
    label = labels[..., None]
    with use_float32(points.device):
        positions = encoder.shared_embedding(points)
    tokens = torch.where(label == PADDING, encoder.not_a_point_embed.weight, positions)
    return tokens + encoder.point_embed(labels.clamp(min=0)) * (label >= 0)


def rotate_points(points: Tensor, labels: Tensor) -> Tensor:
    """(B, P, 2) points (x, y) in 0..1 on the input turned by 180°.

    The two corners of a box, which come first, are swapped.
    """
    rotated = 1 - points
    if labels.shape[1] < 2:
        return rotated
    has_box = (labels[:, 0] == TOP_LEFT)[:, None, None]
    return torch.cat(
        [torch.where(has_box, rotated[:, :2].flip(1), rotated[:, :2]), rotated[:, 2:]], dim=1
    )


def encode_mask(encoder: Sam2VideoPromptEncoder, logits: Tensor | None, side: int) -> Tensor:
    """The (1 or B, C, side, side) features to add for (B, 4 side, 4 side) logits of a dense prompt.

    None gives the embedding of no dense prompt.
    """
    if logits is None:
        return encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, side, side)
    return encoder.mask_embed(logits[:, None])


def clamp_logits(logits: Tensor) -> Tensor:
    """Mask logits clamped to the range of drawn prompts."""
    return logits.clamp(-_DRAWN_LOGIT, _DRAWN_LOGIT)


def make_empty_logits(side: int) -> Tensor:
    """(side, side) logits of an empty dense prompt."""
    return torch.full((side, side), -_DRAWN_LOGIT)


def draw_prompts(
    points: Tensor, labels: Tensor, side: int, previous_logits: Tensor | None = None
) -> Tensor:
    """(B, side, side) logits with a box filled, clicks as bumps, and negative clicks as dents.

    Parameters
    ----------
    points
        (B, P, 2) (x, y) in 0..1.
    labels
        (B, P).
    previous_logits
        (B, side, side) of the previous answer; they replace the box, clamped to the same range.
    """
    line = torch.arange(side, device=points.device) + 0.5
    x, y = line[None, None, :], line[None, :, None]
    cells = (points * side)[..., None, None]  # (B, P, 2, 1, 1)
    drawn = (
        _draw_box(cells, labels, (x, y))
        if previous_logits is None
        else clamp_logits(previous_logits) / (2 * _DRAWN_LOGIT) + 0.5
    )
    for index in range(points.shape[1]):
        click, label = cells[:, index], labels[:, index, None, None]
        bump = torch.exp(-((x - click[:, 0]) ** 2 + (y - click[:, 1]) ** 2) / (2 * _CLICK_SIGMA**2))
        drawn = torch.where(label == POSITIVE, torch.maximum(drawn, bump), drawn)
        drawn = torch.where(label == NEGATIVE, torch.minimum(drawn, 1 - bump), drawn)
    return (drawn * 2 - 1) * _DRAWN_LOGIT


def _draw_box(points: Tensor, labels: Tensor, grid: tuple[Tensor, Tensor]) -> Tensor:
    """(B, side, side): 1 inside the box if the first two points are its corners, else 0."""
    x, y = grid
    if labels.shape[1] < 2:
        return torch.zeros_like(x * y).expand(len(points), -1, -1)
    first, second = points[:, 0], points[:, 1]
    inside = (x >= first[:, 0]) & (x <= second[:, 0]) & (y >= first[:, 1]) & (y <= second[:, 1])
    return (inside & (labels[:, 0, None, None] == TOP_LEFT)).float()
