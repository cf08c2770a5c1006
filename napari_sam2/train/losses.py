"""Losses: how wrong an attempt was.

Masks, predicted IoU, presence, and the outline the encoder sees by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_sam2.models.network.mask_decoder import DecoderOutput
from napari_sam2.train.clip_propagation import DecoderPass, PromptedBatch

LOSS_STRIDE = 2
"""Input pixels per cell of the grid that masks are compared on; the network's logits have 4, and are enlarged."""

# cells: an object counts as at least this large, or the pixels around a speck would outweigh all
# else
_MIN_AREA_CELLS = 32.0


@dataclass(frozen=True)
class LossWeights:
    """Of the parts of the loss.

    `positive`: how much more a missed cell weighs than one too many.
    """

    bce: float = 0.25
    dice: float = 1.0
    iou: float = 0.5
    presence: float = 0.5
    outline: float = 0.5
    positive: float = 1.5


def compute_loss(
    decoder_passes: Iterable[DecoderPass], batch: PromptedBatch, weights: LossWeights
) -> tuple[Tensor, dict[str, float]]:
    """The mean loss over all attempts, and its parts by name."""
    parts: dict[str, list[Tensor]] = {}
    count = 0
    for attempt in decoder_passes:
        for name, values in _compute_parts(
            attempt, batch.masks[attempt.rows, attempt.frame], weights
        ).items():
            parts.setdefault(name, []).append(values)
        count += len(attempt.rows)
    sums = {name: torch.cat(values).sum() / max(1, count) for name, values in parts.items()}
    loss = sum(
        (getattr(weights, name) * value for name, value in sums.items()),
        torch.zeros((), device=batch.frames.device),
    )
    return loss, {name: float(value.detach()) for name, value in sums.items()}


def compute_outline_loss(finest_features: Tensor, head: torch.nn.Module, labels: Tensor) -> Tensor:
    """Foreground and boundary at stride 4, from (N, C, h, w) features and (N, S, S) labels of all objects."""
    target = make_outline_targets(labels, finest_features.shape[-1])
    logits = head(finest_features)
    return (
        functional.cross_entropy(logits, target)
        + _compute_soft_dice(
            logits.softmax(dim=1)[:, 1:], functional.one_hot(target, 3).movedim(3, 1)[:, 1:].float()
        ).mean()
    )


def make_outline_targets(labels: Tensor, side: int) -> Tensor:
    """(N, S, S) labels to (N, side, side) classes: 0 background, 1 inside, 2 where an object ends in this cell."""
    step = labels.shape[-1] // side
    cells = labels.float()[:, None]
    high, low = functional.max_pool2d(cells, step)[:, 0], -functional.max_pool2d(-cells, step)[:, 0]
    return torch.where(high == 0, 0, torch.where(high == low, 1, 2))


def _compute_parts(
    decoder_pass: DecoderPass, truth: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """By name, one value for each object; masks of absent objects are not compared."""
    decoded, there = _convert_to_float32(decoder_pass.decoded), truth.flatten(1).any(dim=1)
    exact = functional.avg_pool2d(truth.float()[:, None], LOSS_STRIDE)[:, 0]
    with torch.no_grad():
        fine = _upsample(decoded.masks, exact.shape[-1])
        ious, errors = _compute_iou(fine, exact), _compute_errors(fine, exact, weights)
        best = 1 + (weights.bce * errors[0] + weights.dice * errors[1])[:, 1:].argmin(dim=1)
    row = torch.arange(len(best), device=best.device)
    learning = _upsample(
        torch.stack([decoded.masks[:, 0], decoded.masks[row, best]], dim=1), exact.shape[-1]
    )
    taken = {
        name: each.mean(dim=1)
        for name, each in zip(
            ("bce", "dice"), _compute_errors(learning, exact, weights), strict=True
        )
    }
    presence = functional.binary_cross_entropy_with_logits(
        decoded.scores, there.float(), reduction="none"
    )
    guesses = ((decoded.ious - ious) ** 2).mean(dim=1) * 4
    return {
        **{name: values * there for name, values in taken.items()},
        "iou": guesses * there,
        "presence": presence,
    }


def _convert_to_float32(decoded: DecoderOutput) -> DecoderOutput:
    """In float32, whatever it was computed in: sums over many cells are no matter for half precision."""
    return DecoderOutput(
        decoded.masks.float(), decoded.ious.float(), decoded.tokens, decoded.scores.float()
    )


def _compute_errors(
    logits: Tensor, coverage: Tensor, weights: LossWeights
) -> tuple[Tensor, Tensor]:
    """(R, M, s, s) logits against (R, s, s) cover in 0..1: BCE in parts of the object's area, and dice, (R, M) each."""
    target = coverage[:, None].expand_as(logits)
    heavier = torch.full((), weights.positive, device=logits.device)
    bce = functional.binary_cross_entropy_with_logits(
        logits, target, pos_weight=heavier, reduction="none"
    ).sum(dim=(2, 3))
    return bce / coverage.sum(dim=(1, 2)).clamp(min=_MIN_AREA_CELLS)[:, None], _compute_soft_dice(
        logits.sigmoid(), target
    )


def _compute_soft_dice(probabilities: Tensor, target: Tensor) -> Tensor:
    both = (probabilities * target).sum(dim=(2, 3))
    return 1 - (2 * both + 1) / (probabilities.sum(dim=(2, 3)) + target.sum(dim=(2, 3)) + 1)


def _compute_iou(logits: Tensor, coverage: Tensor) -> Tensor:
    predicted, target = logits > 0, coverage[:, None] >= 0.5
    union = (predicted | target).sum(dim=(2, 3))
    return (predicted & target).sum(dim=(2, 3)) / union.clamp(min=1)


def _upsample(masks: Tensor, side: int) -> Tensor:
    return functional.interpolate(masks, size=(side, side), mode="bilinear", align_corners=False)
