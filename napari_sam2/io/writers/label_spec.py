"""The layout of a label stack that is to be written, and checks against it."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.stack import Spacing, Video


@dataclass(frozen=True)
class LabelSpec:
    """The layout of a label stack.

    Parameters
    ----------
    axes
        "zyx" or "tyx".
    shape
        (frames, H, W).
    dtype
        An unsigned integer type.
    spacing
        µm and s.
    """

    axes: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    spacing: Spacing = field(default_factory=Spacing)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.axes not in ("zyx", "tyx") or min(self.shape) < 1:
            raise LabelsError(
                f"labels of axes {self.axes!r} and shape {self.shape!r}: expected zyx or tyx, "
                "and (frames, height, width)"
            )
        if self.dtype.kind != "u":
            raise LabelsError(
                f"labels of type {self.dtype}: expected unsigned whole numbers, uint16 or uint32"
            )

    @classmethod
    def of(cls, video: Video, max_track: int) -> LabelSpec:
        """The layout for all frames of `video`; uint16 if `max_track` fits, else uint32."""
        dtype = np.uint16 if max_track <= np.iinfo(np.uint16).max else np.uint32
        return cls(video.axes, video.shape, np.dtype(dtype), video.spacing)

    def convert_plane(self, frame: int, plane: np.ndarray, written_frames: Set[int]) -> np.ndarray:
        """The plane in the type of the labels.

        Raises LabelsError if its shape or values do not fit, or its frame was written before.
        """
        if not 0 <= frame < self.shape[0] or frame in written_frames:
            raise LabelsError(
                f"expected each of the frames 0 to {self.shape[0] - 1} once", frame=frame
            )
        if plane.shape != self.shape[1:] or plane.dtype.kind not in "bui":
            raise LabelsError(
                f"got {plane.dtype} {plane.shape!r}: expected whole numbers {self.shape[1:]!r}",
                frame=frame,
            )
        low, high = int(plane.min()), int(plane.max())
        if low < 0 or high > np.iinfo(self.dtype).max:
            raise LabelsError(
                f"contains labels from {low} to {high}: expected 0 to {np.iinfo(self.dtype).max}, "
                f"the range of {self.dtype}",
                frame=frame,
            )
        return plane.astype(self.dtype, copy=False)

    def check_complete(self, written_frames: Set[int]) -> None:
        """Raise LabelsError unless all frames were written."""
        missing = sorted(set(range(self.shape[0])) - set(written_frames))
        if missing:
            raise LabelsError(
                f"{len(missing)} of {self.shape[0]} frames were not written, {missing[0]} the "
                "first: put every frame once"
            )


def check_label_shape(labels: np.ndarray, expected: tuple[int, ...], image: Path) -> None:
    """Raise LabelsError unless labels have the shape of the image they belong to."""
    if labels.shape != expected:
        raise LabelsError(
            f"labels of shape {labels.shape!r}: expected {expected!r}, the shape of {image}; give "
            "the image that the labels were made on"
        )
