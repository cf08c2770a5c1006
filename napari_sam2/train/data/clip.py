"""Clips: short pieces of videos with their truth, and the protocol of their sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from napari_sam2.core.errors import LabelsError


@dataclass(frozen=True, eq=False)
class Clip:
    """A short piece of a video with its truth.

    Parameters
    ----------
    frames
        (T, H, W) float32 in 0..1.
    labels
        (T, H, W) int32, 0 is background. A label is the same object on all frames, and may be
        absent from some.
    name
        Origin, for messages.
    group
        An image, a movie or a patient: clips of a group must not be split between training and
        validation.

    Raises
    ------
    LabelsError
        Frames and labels of different shapes, or not of three dimensions.
    """

    frames: np.ndarray
    labels: np.ndarray
    name: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if self.frames.shape != self.labels.shape or self.frames.ndim != 3:
            raise LabelsError(
                f"{self.name}: the frames are {self.frames.shape!r}, the labels "
                f"{self.labels.shape!r}: expected the same (T, H, W)"
            )

    def __len__(self) -> int:
        return len(self.frames)


@runtime_checkable
class ClipSource(Protocol):
    """Draws clips of annotated images or stacks, its items."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def groups(self) -> Sequence[str]:
        """Return the group of each item."""
        ...

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        """Draw a random clip of `length` frames of `size` × `size` pixels, without augmentation."""
        ...


@runtime_checkable
class WeightedSource(ClipSource, Protocol):
    """A source whose items are drawn with different probabilities."""

    def probabilities(self) -> np.ndarray:
        """Return (items,) the probability of each item."""
        ...
