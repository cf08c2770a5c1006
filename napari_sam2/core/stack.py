"""Stack: pixels with named axes and units. Video: a stack read frame by frame along one axis."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import AxesError, IntensityError, SpacingError
from napari_sam2.core.html import render_summary, subsample_plane

AXES = "tczyx"
"""The axes a stack may have, in the order they are kept in (OME's TCZYX)."""

_FINGERPRINT_PIXELS = 4096  # enough to distinguish stacks, few enough to read from a slow disk
_CONTRAST_FRAMES = 16  # frames that the contrast of a whole video is estimated from
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601: the luminance of a colour image


@dataclass(frozen=True)
class Spacing:
    """Distance between neighbouring samples: µm for z, y, x; seconds for t. None if not known.

    Raises
    ------
    SpacingError
        A value that is not a finite number above 0.
    """

    z_um: float | None = None
    y_um: float | None = None
    x_um: float | None = None
    t_s: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SpacingError(
                    f"{each.name} is {value!r}: expected a number above 0, or None if it is not "
                    "known"
                )

    @property
    def pixel_um2(self) -> float | None:
        """Area of one pixel in µm²; None if the spacing is not known."""
        return None if self.y_um is None or self.x_um is None else self.y_um * self.x_um

    @property
    def voxel_um3(self) -> float | None:
        """Volume of one voxel in µm³; None if the spacing is not known."""
        return None if self.pixel_um2 is None or self.z_um is None else self.pixel_um2 * self.z_um


@dataclass(frozen=True)
class ImageGeometry:
    """Where the pixels of an image lie in space, by its file.

    Parameters
    ----------
    space
        Name of the coordinate system. Images of one system can be compared; in "patient", x points
        to the right, y to the front and z to the head (RAS).
    origin_um
        (x, y, z) of the centre of the first pixel.
    steps_um
        For each dimension of the image, (x, y, z) from one index to the next; None for dimensions
        that are not space.
    """

    space: str
    origin_um: tuple[float, float, float]
    steps_um: tuple[tuple[float, float, float] | None, ...]


@dataclass(frozen=True, eq=False)
class Stack:
    """Pixels with named axes and spacing.

    Parameters
    ----------
    data
        Anything with ``shape``, ``dtype`` and NumPy indexing (numpy, dask, zarr). It is never
        written to and never read whole.
    axes
        One letter per dimension, a subset of ``tczyx`` in that order, ending in ``yx``.
    spacing
        µm and seconds, see `Spacing`.
    channels
        Channel names, one per index of the c axis; "c0", "c1", … if not given.
    rgb
        True if the three channels are the red, green and blue of one colour image.
    name, source
        A name for people, and the file or folder it was read from ("" for arrays).
    times_s
        Time of each frame along t in s, if the frames do not come evenly; else empty.
    notes
        What the reader decided or doubts, one sentence each.
    max_value
        The largest value that the detector can record, such as 4095 of 12 bits; NaN if it differs
        between planes. None if the file states none: the largest of the type.
    geometry
        Where the pixels lie in space; None if the file does not state it.

    Raises
    ------
    AxesError
        Axes that do not fit `data`, or pixels that are not numbers.
    SpacingError
        Times that do not increase, or not one for each frame.

    Examples
    --------
    >>> stack = Stack(np.zeros((5, 64, 64)), "zyx", Spacing(2.0, 0.5, 0.5))
    >>> stack.sizes
    {'z': 5, 'y': 64, 'x': 64}
    """

    data: Any
    axes: str
    spacing: Spacing = field(default_factory=Spacing)
    channels: tuple[str, ...] = ()
    rgb: bool = False
    name: str = "stack"
    source: str = ""
    times_s: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    max_value: float | None = None
    geometry: ImageGeometry | None = None

    def __post_init__(self) -> None:
        check_axes(self.axes, self.data.shape)
        if self.times_s:
            _check_times(self.times_s, self.sizes.get("t", 0))
        if np.dtype(self.data.dtype).kind not in "buif":
            raise AxesError(
                f"pixels of type {self.data.dtype} cannot be segmented: expected integers or floats"
            )
        count = self.sizes.get("c", 1)
        names = self.channels or tuple(f"c{number}" for number in range(count))
        if len(names) != count:
            raise AxesError(
                f"{len(names)} channel names {names!r} for {count} channels: give one for each"
            )
        object.__setattr__(self, "channels", names)

    @property
    def sizes(self) -> dict[str, int]:
        """Length by axis, in order."""
        return dict(zip(self.axes, (int(n) for n in self.data.shape), strict=True))

    @property
    def identity(self) -> str:
        """A hash of shape, type and some thousand pixels on a grid, and of the source."""
        step = tuple(
            max(1, n // 8) if axis not in "yx" else max(1, n // 32)
            for axis, n in self.sizes.items()
        )
        sample = np.asarray(self.data[tuple(slice(None, None, s) for s in step)])
        sample = sample.ravel()[:: max(1, sample.size // _FINGERPRINT_PIXELS)]
        native = sample.dtype.newbyteorder("=")  # the byte order of a file does not change pixels
        head = f"{self.source}|{self.axes}|{self.data.shape}|{native}".encode()
        return hashlib.sha256(head + sample.astype(native).tobytes()).hexdigest()

    def read_plane(self, at: Mapping[str, int]) -> np.ndarray:
        """The raw (H, W) plane at an index of every axis but y and x: ``{"t": 3, "c": 0}``."""
        if set(at) != set(self.axes[:-2]):
            raise AxesError(
                f"a plane of axes {self.axes!r} needs an index for each of {self.axes[:-2]!r}, "
                f"got {dict(at)!r}"
            )
        return np.asarray(self.data[tuple(at[axis] for axis in self.axes[:-2])])

    def as_video(
        self,
        along: str | None = None,
        *,
        channel: int | None = None,
        contrast: tuple[float, float] | None = None,
        **at: int,
    ) -> Video:
        """This stack as a `Video` along z or t.

        Parameters
        ----------
        along
            "z" or "t"; may be left out if the stack has only one of them.
        channel
            Index of the channel; channel 0, or the luminance of a colour image, if not given.
        contrast
            The intensities shown as 0 and 1; estimated by `Contrast.of` if not given.
        at
            Indices of the other axes, 0 if not given.

        Raises
        ------
        AxesError
            An axis or an index that does not exist.
        IntensityError
            NaN pixels, or an image that is the same everywhere.

        Examples
        --------
        >>> ramp = np.arange(5 * 32 * 32).reshape(5, 32, 32)
        >>> Stack(ramp, "tyx").as_video("t").shape
        (5, 32, 32)
        """
        return Video.of(
            self,
            along=along,
            channel=channel,
            contrast=None if contrast is None else Contrast(*contrast),
            at=at,
        )

    def _repr_html_(self) -> str:
        """The middle plane of the first channel, shape, type and spacing, for a notebook."""
        shape = " × ".join(f"{axis} {length}" for axis, length in self.sizes.items())
        facts = {
            "shape": f"{shape}, {self.data.dtype}",
            "channels": ", ".join(self.channels),
            "spacing": self.describe_spacing(),
        }
        if self.source:
            facts["from"] = self.source
        if self.notes:
            facts["notes"] = "; ".join(self.notes)
        return render_summary(self.name, self._make_thumbnail(), facts)

    def _make_thumbnail(self) -> np.ndarray | None:
        """(H, W) uint8 of the middle plane; None if it is constant or not finite."""
        plane = subsample_plane(
            self.read_plane(
                {
                    axis: 0 if axis == "c" else length // 2
                    for axis, length in list(self.sizes.items())[:-2]
                }
            )
        )
        low, high = np.percentile(plane, [0.1, 99.9]) if np.isfinite(plane).all() else (0.0, 0.0)
        return (
            np.round(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8)
            if low < high
            else None
        )

    def describe_spacing(self) -> str:
        """The known spacings, for people."""
        known = [
            (axis, getattr(self.spacing, f"{axis}_{'s' if axis == 't' else 'um'}"))
            for axis in self.axes
            if axis != "c"
        ]
        return (
            ", ".join(
                f"{axis} {value:g} {'s' if axis == 't' else 'µm'}" for axis, value in known if value
            )
            or "not known"
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One plane of a video: (H, W) float32 in 0..1, and its index."""

    index: int
    pixels: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, eq=False)
class Video:
    """A stack read frame by frame along one axis, with one contrast for all frames.

    Build one with `Stack.as_video`.

    Parameters
    ----------
    along
        The axis of the frames, "z" or "t".
    channel
        None for the luminance of a colour image.
    at
        The indices of the other axes.
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
        """The video of a stack; see `Stack.as_video` for the parameters and the errors."""
        along = _resolve_axis(stack, along)
        channel = _resolve_channel(stack, channel)
        chosen = dict(at or {})
        fixed = {axis: chosen.pop(axis, 0) for axis in stack.axes[:-2] if axis not in ("c", along)}
        if chosen:
            raise AxesError(
                f"index for {sorted(chosen)!r}: a video along {along!r} of this stack needs "
                f"indices for {sorted(fixed)!r} only"
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
    def times_s(self) -> tuple[float, ...]:
        """Time of each frame in s, if the frames do not come evenly; else empty."""
        return self.stack.times_s if self.along == "t" else ()

    @property
    def identity(self) -> str:
        """Identifies the pixels of `read_frame`: stack, axis, channel, position and contrast."""
        low, high = self.contrast.low, self.contrast.high
        return f"{self.stack.identity}|{self.along}|{self.channel}|{self.at}|{low}|{high}"

    @property
    def description(self) -> str:
        """One line for people: frames, shape, axis and channel."""
        channel = (
            "luminance"
            if self.channel is None
            else f"channel {self.channel} ({self.stack.channels[self.channel]})"
        )
        frames, height, width = self.shape
        fixed = "".join(f", {axis}={index}" for axis, index in self.at)
        return f"{frames} frames of {height} × {width} along {self.along}, {channel}{fixed}"

    def get_axis_indices(self, frame: int) -> dict[str, int]:
        """Index by axis (all but c, y, x) of a frame, e.g. ``{"t": 0, "z": 7}``."""
        where = {**dict(self.at), self.along: frame}
        return {axis: where[axis] for axis in self.stack.axes[:-2] if axis != "c"}

    def read_raw_plane(self, frame: int, channel: int | None = None) -> np.ndarray:
        """The (H, W) pixels as they are in the file.

        Parameters
        ----------
        channel
            The channel of the video if not given.

        Raises
        ------
        IndexError
            A frame outside the video.
        IntensityError
            Pixels that are NaN or infinite.
        """
        if not 0 <= frame < len(self):
            raise IndexError(f"frame {frame!r}: the video has frames 0 to {len(self) - 1}")
        channel = self.channel if channel is None else channel
        where = self.get_axis_indices(frame)
        if channel is None:
            return np.asarray(
                np.tensordot(
                    _LUMA, np.stack([self._read_plane(where, c, frame) for c in range(3)]), axes=1
                )
            )
        return self._read_plane(where, channel, frame)

    def read_frame(self, index: int) -> Frame:
        """The frame as a model gets it: (H, W) float32 in 0..1."""
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


def _check_times(times_s: tuple[float, ...], n_frames: int) -> None:
    """Raise SpacingError unless the times increase and there is one for each frame."""
    if len(times_s) != n_frames:
        raise SpacingError(f"{len(times_s)} times for {n_frames} frames: expected one for each")
    if not all(math.isfinite(time) for time in times_s) or (np.diff(times_s) <= 0).any():
        raise SpacingError(f"times {times_s!r}: expected numbers that increase from frame to frame")


def check_axes(axes: str, shape: tuple[int, ...]) -> None:
    """Raise `AxesError` unless `axes` can name the dimensions of `shape`."""
    if len(axes) != len(shape):
        raise AxesError(
            f"axes {axes!r} name {len(axes)} dimensions, the image has {len(shape)}: "
            f"{tuple(shape)!r}"
        )
    in_order = [axis for axis in AXES if axis in axes]
    if list(axes) != in_order or not axes.endswith("yx"):
        raise AxesError(
            f"axes {axes!r}: expected a subset of {AXES!r} in this order, ending in 'yx'"
        )
    if 0 in shape:
        raise AxesError(f"shape {tuple(shape)!r} with axes {axes!r} holds no pixels")


def _resolve_axis(stack: Stack, along: str | None) -> str:
    choices = [axis for axis in "zt" if axis in stack.axes]
    if not choices and along in (None, "t"):
        return "t"  # a single image is a video of one frame
    if not choices:
        raise AxesError(
            f"no frames along {along!r}: the image is a single plane, with axes {stack.axes!r} "
            f"{stack.data.shape!r}; leave out along (--along)"
        )
    if along is None:
        long = [axis for axis in choices if stack.sizes[axis] > 1] or choices
        if len(long) != 1:
            raise AxesError(
                f"axes {stack.axes!r} {stack.data.shape!r}: choose the axis of the frames, one "
                f"of {choices!r}"
            )
        return long[0]
    if along not in choices:
        raise AxesError(
            f"no frames along {along!r}: the image has axes {stack.axes!r} "
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
