"""Pair: an image or a stack and its labels, read plane by plane."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

from napari_sam2.core.errors import LabelsError

AnnotatedPlane = tuple[np.ndarray, np.ndarray]
"""(H, W) float in 0..1, and (H, W) labels."""


@dataclass(frozen=True, eq=False)
class AnnotatedStack:
    """An image or a stack and its labels.

    Parameters
    ----------
    name, group
        For people; what must not be split between training and validation.
    shape
        (T, H, W), T being 1 for a single image.
    annotated
        Frames whose labels are complete, ascending. Others are neither shown nor asked about.
    read
        The Plane of a frame.
    linked
        Whether a label is the same object on all frames; where not, each frame is used as a still
        image.
    left_out
        Labels that `read` does not show because they are one pixel: to be told to whoever made
        them.
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
                f"{self.name}: no frame has an object: expected labels with at least one, 0 "
                "being the background"
            )

    def cut_into_pieces(self, count: int) -> tuple[AnnotatedStack, ...]:
        """This pair cut along its frames into `count` runs, each a group of its own; fewer where it has fewer annotated frames."""
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
        """This pair without its annotated frames next to any of these; as it is where none would be left."""
        kept = tuple(frame for frame in self.annotated if not {frame - 1, frame + 1} & set(frames))
        return replace(self, annotated=kept) if kept else self
