"""Annotated stacks: an image or a stack with its labels, read plane by plane."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from napari_sam2.core.errors import LabelsError

AnnotatedPlane = tuple[np.ndarray, np.ndarray]
"""(H, W) float in 0..1, and (H, W) labels."""


@dataclass(frozen=True, eq=False)
class AnnotatedStack:
    """An image or a stack with its labels.

    Parameters
    ----------
    name
        Name for messages.
    group
        An image, a movie or a patient, which must not be split between training and validation.
    shape
        (T, H, W); T is 1 for a single image.
    annotated
        Frames whose labels are complete, ascending. Others are not used.
    read
        Reads the pixels and labels of a frame.
    linked
        Whether a label is the same object on all frames. If not, frames are used as still images.
    left_out
        Labels that `read` leaves out because they are one pixel.
    """

    name: str
    group: str
    shape: tuple[int, int, int]
    annotated: tuple[int, ...]
    read: Callable[[int], AnnotatedPlane]
    linked: bool = True
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.annotated:
            raise LabelsError(
                f"{self.name}: no frame has an object: expected labels with at least one; 0 is "
                "the background"
            )

    def cut_into_pieces(self, count: int) -> tuple[AnnotatedStack, ...]:
        """Cut into `count` runs of frames, each a group of its own.

        There are fewer runs if there are fewer annotated frames.
        """
        parts = [part for part in np.array_split(np.array(self.annotated), count) if part.size]
        return tuple(
            replace(
                self,
                name=f"{self.name}[{part[0]}:{part[-1] + 1}]",
                group=f"{self.group}[{part[0]}:{part[-1] + 1}]",
                annotated=tuple(map(int, part)),
            )
            for part in parts
        )

    def drop_adjacent_frames(self, frames: Collection[int]) -> AnnotatedStack:
        """Drop annotated frames next to any of `frames`, unless none would be left."""
        kept = tuple(frame for frame in self.annotated if not {frame - 1, frame + 1} & set(frames))
        return replace(self, annotated=kept) if kept else self
