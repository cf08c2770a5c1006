"""LabelSpec: what a label stack on disk is going to be, and which of its planes have come."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.stack import Spacing, Video


@dataclass(frozen=True)
class LabelSpec:
    """Axes ("zyx" or "tyx"), shape (frames, H, W), type and spacing of a label stack."""

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
        """Labels of all frames of `video`, of the smaller of uint16 and uint32 that holds `max_track`."""
        dtype = np.uint16 if max_track <= np.iinfo(np.uint16).max else np.uint32
        return cls(video.axes, video.shape, np.dtype(dtype), video.spacing)

    def convert_plane(self, frame: int, plane: np.ndarray, written_frames: Set[int]) -> np.ndarray:
        """`plane` in the type of the labels; raises LabelsError where it does not fit, or its frame came before."""
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
                f"holds labels from {low} to {high}: {self.dtype} goes from 0 to "
                f"{np.iinfo(self.dtype).max}",
                frame=frame,
            )
        return plane.astype(self.dtype, copy=False)

    def check_complete(self, written_frames: Set[int]) -> None:
        """Raise LabelsError unless all frames have come."""
        missing = sorted(set(range(self.shape[0])) - set(written_frames))
        if missing:
            raise LabelsError(
                f"{len(missing)} of {self.shape[0]} frames were not written, {missing[0]} the "
                "first: put every frame once"
            )
