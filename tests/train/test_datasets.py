"""Datasets: what is trained on, held out, left out and rehearsed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.annotated import ReadOptions, open_pairs
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.datasets import build_dataset
from napari_sam2.train.data.pairs import AnnotatedStack
from napari_sam2.train.recipe import Recipe

_ZYX = ReadOptions(axes="zyx", along="z")


def _labels(frames: int) -> np.ndarray:
    labels = np.zeros((frames, 64, 64), dtype=np.uint16)
    labels[:, 20:40, 20:40] = 3
    return labels


def _stack(frames: int, name: str = "stack") -> list[AnnotatedStack]:
    labels = _labels(frames)
    return open_pairs(
        labels * np.linspace(1, 2, frames)[:, None, None], labels, name=name, options=_ZYX
    )


def _frames(made: Dataset, items: Sequence[int]) -> list[int]:
    return sorted(frame for item in items for frame in made.source.pairs[item].annotated)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("frames", "apart"),
    [(40, True), (5, False)],
    ids=["a long stack has a gap", "a stack of five frames has none to spare"],
)
def test_a_single_stack_is_not_trained_on_next_to_held_out_frames(frames: int, apart: bool) -> None:
    made = build_dataset(_stack(frames), Recipe(rehearsal=0))
    train, held_out = _frames(made, made.train), _frames(made, made.held_out)
    assert train and held_out and not set(train) & set(held_out)
    assert (min(abs(one - other) for one in train for other in held_out) > 1) == apart


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_share_of_clips_is_rehearsed_and_none_is_held_out(share: float) -> None:
    made = build_dataset(
        [*_stack(4, "one"), *_stack(4, "two"), *_stack(4, "three")], Recipe(rehearsal=share)
    )
    own = [item for item in made.train if item < 3]
    others = [item for item in made.train if item >= 3]
    assert len(own) == 2 and set(made.held_out) < {0, 1, 2}
    drawn = dict(zip(made.train, made.probabilities, strict=True))
    assert sum(drawn[item] for item in others) == pytest.approx(share)
    clip = made.source.draw(others[0], np.random.default_rng(0), length=2, size=64)
    assert clip.labels.any() and clip.frames.std() > 0


def test_rehearsal_can_be_switched_off() -> None:
    made = build_dataset([*_stack(4, "one"), *_stack(4, "two")], Recipe(rehearsal=0))
    assert sorted([*made.train, *made.held_out]) == [0, 1]


def test_left_out_objects_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    labels = _labels(4)
    labels[1, 50, 50], labels[2, 10, 10] = 7, 9
    labels[:, 2:12, 40:60] = 4
    with caplog.at_level(logging.WARNING):
        build_dataset(
            open_pairs(labels * 1.0, labels, name="stack", options=_ZYX), Recipe(rehearsal=0)
        )
    assert "stack: leaves out 2 objects of one pixel (labels 7, 9)" in caplog.text


@pytest.mark.parametrize("name", ["empty", "one frame"])
def test_data_that_cannot_be_split_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="expected at least one|at least two groups are needed"):
        build_dataset(
            _stack(1)
            if name == "one frame"
            else open_pairs(np.ones((4, 8, 8)), np.zeros((4, 8, 8), dtype=int), options=_ZYX),
            Recipe(),
        )
