"""Video: a Stack walked along one axis, frame by frame, with one contrast for all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.errors import AxesError, IntensityError
from napari_sam2.core.sparse import widen_contrast_range
from napari_sam2.core.stack import Spacing, Stack

_CONTRAST_FRAMES = 16  # frames looked at for the contrast of a whole video
_CONTRAST_PIXELS = 65_536  # pixels looked at in each of them
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, what "grey" means for a colour image


@dataclass(frozen=True)
class Contrast:
    """The intensities shown as 0 and 1: one pair for a whole video, so that a dim frame stays dim."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise IntensityError(
                f"contrast from {self.low!r} to {self.high!r}: expected two different numbers, "
                "the lower first; "
                "an image that is the same everywhere shows no objects"
            )

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """(H, W) intensities to float32 in 0..1, clipped; nothing passes through 8 bit."""
        scaled = (plane.astype(np.float32) - np.float32(self.low)) / np.float32(
            self.high - self.low
        )
        return np.asarray(np.clip(scaled, 0.0, 1.0))

    @classmethod
    def of(cls, planes: list[np.ndarray]) -> Contrast:
        """From the 0.1 to the 99.9 percentile, and beyond to objects that are too sparse for that; see `sparse.reaching`."""
        pixels = np.concatenate([_subsample_pixels(plane) for plane in planes]).astype(np.float64)
        low, high = np.percentile(pixels, [0.1, 99.9])
        if low == high:
            low, high = min(p.min() for p in planes), max(p.max() for p in planes)
            return cls(float(low), float(high))
        return cls(*widen_contrast_range(planes, float(low), float(high)))


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane of a Video: (H, W) float32 in 0..1, and its index."""

    index: int
    pixels: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, eq=False)
class Video:
    """A Stack walked along `along` ("z" or "t"), the other axes fixed at `at`.

    `channel` is None for the luminance of a colour image. Build one with `Stack.as_video`.
    """

    stack: Stack
    along: str
    channel: int | None
    at: tuple[tuple[str, int], ...]
    contrast: Contrast

    @classmethod
    def of(
        cls,
        stack: Stack,
        *,
        along: str | None = None,
        channel: int | None = None,
        contrast: Contrast | None = None,
        at: Mapping[str, int] | None = None,
    ) -> Video:
        """A Video of `stack`; channel 0 (the luminance of a colour image) and index 0 of other axes where not given.

        `at` fixes the other axes, e.g. ``{"t": 3}``.

        Raises AxesError for an axis or index that is not there, IntensityError for NaN or constant
        images.
        """
        along = _resolve_axis(stack, along)
        channel = _resolve_channel(stack, channel)
        chosen = dict(at or {})
        fixed = {axis: chosen.pop(axis, 0) for axis in stack.axes[:-2] if axis not in ("c", along)}
        if chosen:
            raise AxesError(
                f"index for {sorted(chosen)!r}: the stack walked along {along!r} has "
                f"{sorted(fixed)!r} left to choose"
            )
        for axis, index in fixed.items():
            if not 0 <= index < stack.sizes[axis]:
                raise AxesError(f"{axis}={index!r}: expected 0 to {stack.sizes[axis] - 1}")
        given = contrast or Contrast(0.0, 1.0)
        video = cls(stack, along, channel, tuple(fixed.items()), given)
        return (
            video
            if contrast
            else cls(stack, along, channel, video.at, Contrast.of(video._sample_planes()))
        )

    def __len__(self) -> int:
        return self.stack.sizes.get(self.along, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, height, width)."""
        return len(self), self.stack.sizes["y"], self.stack.sizes["x"]

    @property
    def axes(self) -> str:
        """Axes of a label stack of this video: "zyx" or "tyx"."""
        return self.along + "yx"

    @property
    def spacing(self) -> Spacing:
        """µm and seconds of the stack."""
        return self.stack.spacing

    @property
    def identity(self) -> str:
        """Names the pixels that `read_frame` gives: stack, axis, channel, position and contrast."""
        return f"{self.stack.identity}|{self.along}|{self.channel}|{self.at}|{self.contrast.low}|{self.contrast.high}"

    @property
    def description(self) -> str:
        """One line for people: what is walked, and which channel."""
        channel = (
            "luminance"
            if self.channel is None
            else f"channel {self.channel} ({self.stack.channels[self.channel]})"
        )
        frames, height, width = self.shape
        fixed = "".join(f", {axis}={index}" for axis, index in self.at)
        return f"{frames} frames of {height} × {width} along {self.along}, {channel}{fixed}"

    def axis_indices(self, frame: int) -> dict[str, int]:
        """Index by axis (all but c, y, x) of a frame, e.g. ``{"t": 0, "z": 7}``."""
        where = {**dict(self.at), self.along: frame}
        return {axis: where[axis] for axis in self.stack.axes[:-2] if axis != "c"}

    def read_raw_plane(self, frame: int, channel: int | None = None) -> np.ndarray:
        """The (H, W) pixels as they are in the file; `channel` defaults to the one walked.

        Raises IndexError for a frame outside the video, IntensityError for pixels that are not
        numbers.
        """
        if not 0 <= frame < len(self):
            raise IndexError(f"frame {frame!r}: the video has frames 0 to {len(self) - 1}")
        channel = self.channel if channel is None else channel
        where = self.axis_indices(frame)
        if channel is None:
            return np.asarray(
                np.tensordot(
                    _LUMA, np.stack([self._read_plane(where, c, frame) for c in range(3)]), axes=1
                )
            )
        return self._read_plane(where, channel, frame)

    def read_frame(self, index: int) -> Frame:
        """The frame a model sees: (H, W) float32 in 0..1."""
        return Frame(index, self.contrast.apply(self.read_raw_plane(index)))

    def _read_plane(self, indices: dict[str, int], channel: int, frame: int) -> np.ndarray:
        plane = self.stack.read_plane(
            {**indices, "c": channel} if "c" in self.stack.axes else indices
        )
        if plane.dtype.kind == "f" and not np.isfinite(plane).all():
            count = int((~np.isfinite(plane)).sum())
            raise IntensityError(
                f"{count} pixels are NaN or infinite: replace them by numbers first", frame=frame
            )
        return plane

    def _sample_planes(self) -> list[np.ndarray]:
        chosen = np.unique(
            np.linspace(0, len(self) - 1, min(len(self), _CONTRAST_FRAMES)).round().astype(int)
        )
        return [self.read_raw_plane(int(index)) for index in chosen]


def _subsample_pixels(plane: np.ndarray) -> np.ndarray:
    step = max(1, math.isqrt(max(1, plane.size // _CONTRAST_PIXELS)))
    return plane[::step, ::step].ravel()


def _resolve_axis(stack: Stack, along: str | None) -> str:
    choices = [axis for axis in "zt" if axis in stack.axes]
    if not choices and along in (None, "t"):
        return "t"  # a single image is a video of one frame
    if along is None:
        long = [axis for axis in choices if stack.sizes[axis] > 1] or choices
        if len(long) != 1:
            raise AxesError(
                f"axes {stack.axes!r} {stack.data.shape!r}: choose the axis to walk along, one "
                f"of {choices!r}"
            )
        return long[0]
    if along not in choices:
        raise AxesError(
            f"cannot walk along {along!r}: the image has axes {stack.axes!r} "
            f"{stack.data.shape!r}, choose one of {choices!r}"
        )
    return along


def _resolve_channel(stack: Stack, channel: int | None) -> int | None:
    if channel is None:
        return None if stack.rgb else 0
    count = stack.sizes.get("c", 1)
    if not 0 <= channel < count:
        raise AxesError(
            f"channel {channel!r}: the image has {count} ({', '.join(stack.channels)}), counted "
            "from 0"
        )
    return channel
