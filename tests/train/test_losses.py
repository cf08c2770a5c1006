"""Losses, computed by hand on masks of a few cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.models.network.mask_decoder import DecoderOutput
from napari_sam2.train.clip_propagation import DecoderPass, PromptedBatch
from napari_sam2.train.losses import LossWeights, compute_loss, make_outline_targets

SIZE = 32


def _truth() -> torch.Tensor:
    masks = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    masks[0, 0, 8:24, 8:24] = True
    return masks


def _batch(masks: torch.Tensor) -> PromptedBatch:
    return PromptedBatch(
        torch.zeros(1, 1, SIZE, SIZE),
        torch.zeros(1, dtype=torch.long),
        masks,
        (FramePrompts(points=((16.0, 16.0),), positive=(True,)),),
    )


def _attempt(
    *, right: int | None, score: float = 20.0, ious: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
) -> DecoderPass:
    """Make four empty masks, except the single one and the alternative `right`."""
    masks = torch.full((1, 4, SIZE // 4, SIZE // 4), -20.0)
    for index in () if right is None else (0, right):
        masks[0, index, 2:6, 2:6] = 20.0
    decoded = DecoderOutput(
        masks.requires_grad_(), torch.tensor([ious]), torch.zeros(1, 4, 8), torch.tensor([score])
    )
    return DecoderPass(0, "click", torch.tensor([0]), decoded, True)


@pytest.mark.parametrize("right", [1, 2, 3])
def test_the_best_of_three_counts_and_the_others_learn_nothing(right: int) -> None:
    attempt = _attempt(
        right=right, ious=tuple(1.0 if index in (0, right) else 0.0 for index in range(4))
    )
    loss, parts = compute_loss([attempt], _batch(_truth()), LossWeights())
    worse, _ = compute_loss([_attempt(right=None)], _batch(_truth()), LossWeights())
    assert float(loss.detach()) < 0.3 < float(worse.detach()) and parts["iou"] < 0.03
    loss.backward()
    touched = attempt.decoded.masks.grad.abs().sum(dim=(0, 2, 3))  # type: ignore[union-attr]
    assert all((touched[index] > 0) == (index in (0, right)) for index in range(4))


def test_masks_of_absent_objects_are_not_compared_but_their_presence_is() -> None:
    empty = torch.zeros_like(_truth())
    _, seen = compute_loss([_attempt(right=1, score=3.0)], _batch(empty), LossWeights())
    _, absent = compute_loss([_attempt(right=1, score=-3.0)], _batch(empty), LossWeights())
    assert seen["bce"] == seen["dice"] == seen["iou"] == 0
    assert seen["presence"] == pytest.approx(np.log1p(np.exp(3.0)), rel=1e-4) and absent[
        "presence"
    ] == pytest.approx(np.log1p(np.exp(-3.0)), rel=1e-4)


def test_an_empty_mask_has_the_same_loss_for_small_and_large_objects() -> None:
    costs = []
    for side in (12, 24):
        masks = torch.zeros_like(_truth())
        masks[0, 0, 2 : 2 + side, 2 : 2 + side] = True
        costs.append(
            compute_loss([_attempt(right=None)], _batch(masks), LossWeights(positive=1.0))[1]
        )
    assert costs[0]["bce"] == pytest.approx(costs[1]["bce"], rel=0.15) and costs[0][
        "dice"
    ] == pytest.approx(costs[1]["dice"], abs=0.05)


def test_outlines_are_background_inside_and_border() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.int32)
    labels[0, 4:12, 4:12] = 1
    labels[0, 4:12, 12:16] = 2
    labels[0, 6, 5] = 0
    np.testing.assert_array_equal(
        make_outline_targets(labels, 4)[0], [[0, 0, 0, 0], [0, 2, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    )
