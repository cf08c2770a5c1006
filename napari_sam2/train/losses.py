"""Losses of masks, predicted IoU, presence, and of the encoder's own outlines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from napari_sam2.models.network.mask_decoder import DecoderOutput
from napari_sam2.train.clip_propagation import DecoderPass, PromptedBatch

LOSS_STRIDE = 2
"""Input pixels per cell of the grid on which masks are compared.

The network's logits have 4 pixels per cell, and are upsampled.
"""

# An object counts as at least this large, else the pixels around a tiny one would dominate.
_MIN_AREA_CELLS = 32.0


@dataclass(frozen=True)
class LossWeights:
    """Weights of the parts of the loss.

    `positive` is the weight of a missed cell relative to an extra one.
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
    """Compute the mean loss over all decoder passes, and its parts by name."""
    parts: dict[str, list[Tensor]] = {}
    count = 0
    for decoder_pass in decoder_passes:
        truth = batch.masks[decoder_pass.rows, decoder_pass.frame]
        for name, values in _compute_parts(decoder_pass, truth, weights).items():
            parts.setdefault(name, []).append(values)
        count += len(decoder_pass.rows)
    sums = {name: torch.cat(values).sum() / max(1, count) for name, values in parts.items()}
    loss = sum(
        (getattr(weights, name) * value for name, value in sums.items()),
        torch.zeros((), device=batch.frames.device),
    )
    return loss, {name: float(value.detach()) for name, value in sums.items()}


def compute_outline_loss(finest_features: Tensor, head: torch.nn.Module, labels: Tensor) -> Tensor:
    """Compute the loss of foreground and boundary at stride 4.

    From (N, C, h, w) features and (N, S, S) labels of all objects.
    """
    target = make_outline_targets(labels, finest_features.shape[-1])
    logits = head(finest_features)
    one_hot = functional.one_hot(target, 3).movedim(3, 1)[:, 1:].float()
    dice = _compute_soft_dice(logits.softmax(dim=1)[:, 1:], one_hot)
    return functional.cross_entropy(logits, target) + dice.mean()


def make_outline_targets(labels: Tensor, side: int) -> Tensor:
    """Convert (N, S, S) labels to (N, side, side) classes: 0 background, 1 inside, 2 boundary."""
    step = labels.shape[-1] // side
    cells = labels.float()[:, None]
    high, low = functional.max_pool2d(cells, step)[:, 0], -functional.max_pool2d(-cells, step)[:, 0]
    return torch.where(high == 0, 0, torch.where(high == low, 1, 2))


def _compute_parts(
    decoder_pass: DecoderPass, truth: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Compute each part of the loss by object; masks of absent objects are not compared."""
    decoded, present = _convert_to_float32(decoder_pass.decoded), truth.flatten(1).any(dim=1)
    exact = functional.avg_pool2d(truth.float()[:, None], LOSS_STRIDE)[:, 0]
    with torch.no_grad():
        fine = _upsample(decoded.masks, exact.shape[-1])
        ious, errors = _compute_iou(fine, exact), _compute_errors(fine, exact, weights)
        best = 1 + (weights.bce * errors[0] + weights.dice * errors[1])[:, 1:].argmin(dim=1)
    row = torch.arange(len(best), device=best.device)
    compared = torch.stack([decoded.masks[:, 0], decoded.masks[row, best]], dim=1)
    bce, dice = _compute_errors(_upsample(compared, exact.shape[-1]), exact, weights)
    presence = functional.binary_cross_entropy_with_logits(
        decoded.scores, present.float(), reduction="none"
    )
    iou_error = ((decoded.ious - ious) ** 2).mean(dim=1) * 4
    return {
        "bce": bce.mean(dim=1) * present,
        "dice": dice.mean(dim=1) * present,
        "iou": iou_error * present,
        "presence": presence,
    }


def _convert_to_float32(decoded: DecoderOutput) -> DecoderOutput:
    """Convert to float32, because sums over many cells overflow in half precision."""
    return DecoderOutput(
        decoded.masks.float(), decoded.ious.float(), decoded.tokens, decoded.scores.float()
    )


def _compute_errors(
    logits: Tensor, coverage: Tensor, weights: LossWeights
) -> tuple[Tensor, Tensor]:
    """Compare (R, M, s, s) logits with (R, s, s) coverage in 0..1.

    Returns (R, M) BCE, as a share of the object's area, and (R, M) dice.
    """
    target = coverage[:, None].expand_as(logits)
    positive = torch.full((), weights.positive, device=logits.device)
    bce = functional.binary_cross_entropy_with_logits(
        logits, target, pos_weight=positive, reduction="none"
    ).sum(dim=(2, 3))
    area = coverage.sum(dim=(1, 2)).clamp(min=_MIN_AREA_CELLS)[:, None]
    return bce / area, _compute_soft_dice(logits.sigmoid(), target)


def _compute_soft_dice(probabilities: Tensor, target: Tensor) -> Tensor:
    overlap = (probabilities * target).sum(dim=(2, 3))
    return 1 - (2 * overlap + 1) / (probabilities.sum(dim=(2, 3)) + target.sum(dim=(2, 3)) + 1)


def _compute_iou(logits: Tensor, coverage: Tensor) -> Tensor:
    predicted, target = logits > 0, coverage[:, None] >= 0.5
    union = (predicted | target).sum(dim=(2, 3))
    return (predicted & target).sum(dim=(2, 3)) / union.clamp(min=1)


def _upsample(masks: Tensor, side: int) -> Tensor:
    return functional.interpolate(masks, size=(side, side), mode="bilinear", align_corners=False)
