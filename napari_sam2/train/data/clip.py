"""Clip: a short piece of a video with the truth, and where clips come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from napari_sam2.core.errors import LabelsError


@dataclass(frozen=True, eq=False)
class Clip:
    """A short piece of a video with the truth.

    Parameters
    ----------
    frames
        (T, H, W) float32 in 0..1.
    labels
        (T, H, W) int32, 0 is background; a label is the same object on all frames, and may be
        missing on some.
    name
        Where it comes from, for people.
    group
        What must not be split between training and validation: an image, a movie, a patient.

    Raises
    ------
    LabelsError
        Frames and labels of different shape, or not of three dimensions.
    """

    frames: np.ndarray
    labels: np.ndarray
    name: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if self.frames.shape != self.labels.shape or self.frames.ndim != 3:
            raise LabelsError(
                f"{self.name}: frames {self.frames.shape!r}, labels {self.labels.shape!r}: "
                "expected the same (T, H, W)"
            )

    def __len__(self) -> int:
        return len(self.frames)


@runtime_checkable
class ClipSource(Protocol):
    """Images or stacks with labels, of which clips are drawn."""

    def __len__(self) -> int:
        """Images or stacks: what `draw` counts from 0."""
        ...

    def groups(self) -> Sequence[str]:
        """The group of each item."""
        ...

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        """A random clip of `length` frames of `size` × `size` pixels from that item, nothing augmented."""
        ...
