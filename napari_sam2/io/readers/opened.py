"""Opened images: the pixels and metadata of a file, before every dimension has a name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import AxesError, FileError, SpacingError
from napari_sam2.core.stack import AXES, ImageGeometry, Spacing, Stack
from napari_sam2.io.readers.files import convert_read_errors

UNKNOWN_AXIS = "?"
"""Letter in `OpenedImage.axes` for a dimension that the metadata do not name."""

SAMPLES_AXIS = "s"
"""Letter in `OpenedImage.axes` for the samples of a pixel, such as red, green and blue."""

_MAX_CHANNELS = 5  # a longer unnamed dimension is not suggested as channels
_MAX_LISTED = 4  # images of a file that are listed in an error text
_MAX_DRIFT = 0.1  # of the time of a frame from that of the interval, relative to the interval
_MAX_UNEVENNESS = 0.01  # of the time of a frame, relative to the interval
_RGB_NAMES = ("red", "green", "blue")


@dataclass(frozen=True)
class ReadRequest:
    """The part of a file to read, and what its pixels mean.

    Parameters
    ----------
    level
        Level of a pyramid; 0 is the full resolution.
    series
        Number of the image in a file of several, from 0; None if the file has only one.
    labels
        Whether the pixels are labels: a palette image is then read as its indices, not as colours.
    """

    level: int = 0
    series: int | None = None
    labels: bool = False


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """The pixels of a file in the file's own layout, and its metadata.

    Parameters
    ----------
    data
        A lazy array.
    axes
        One letter for each dimension of `data`, in the order of the file: a letter of ``tczyx``,
        `SAMPLES_AXIS` or `UNKNOWN_AXIS`. Any other letter becomes `UNKNOWN_AXIS`.
    spacing, channels
        Spacing and channel names of the metadata.
    rgb
        Whether the samples are red, green, blue and perhaps alpha.
    name, source
        A short name, and the path ("" for arrays).
    times_s
        Time of each frame in s, if the frames do not come evenly.
    notes
        What the reader decided or doubts, one sentence each.
    max_value
        The largest value that the detector can record, see `Stack`.
    geometry
        Where the pixels lie in space, with a step for each dimension of `data`.
    lossy
        Name of the compression, if it does not keep pixels exactly.
    """

    data: Any
    axes: str
    spacing: Spacing = field(default_factory=Spacing)
    channels: tuple[str, ...] = ()
    rgb: bool = False
    name: str = "array"
    source: str = ""
    times_s: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    lossy: str = ""
    max_value: float | None = None
    geometry: ImageGeometry | None = None

    def __post_init__(self) -> None:
        named = "".join(
            axis if axis in AXES + SAMPLES_AXIS else UNKNOWN_AXIS for axis in self.axes.lower()
        )
        object.__setattr__(self, "axes", named)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`, in the order of the file."""
        return tuple(int(length) for length in self.data.shape)

    def with_axes(self, axes: str) -> OpenedImage:
        """The image with its dimensions named by the user.

        Parameters
        ----------
        axes
            One letter for each dimension, upper or lower case. Dimensions of length 1 may be left
            out, and so may the samples if the file declares them.

        Raises
        ------
        AxesError
            If a letter is unknown or repeated, y or x is missing, or the number of letters differs
            from the number of dimensions.
        """
        letters = _parse_axes(axes)
        image = self._drop_single_axes(letters)
        if image._has_unnamed_samples(letters):
            position = image.axes.index(SAMPLES_AXIS)
            return replace(image, axes=letters[:position] + SAMPLES_AXIS + letters[position:])
        if len(letters) != len(image.shape):
            raise AxesError(
                f"axes {axes!r} name {len(axes)} dimensions, {self._description} has "
                f"{len(self.shape)}: {self.shape!r}, read as {self.axes.upper()}; give one letter "
                "for each"
            )
        return replace(image, axes=letters, rgb=self.rgb or SAMPLES_AXIS not in self.axes)

    def with_checked_axes(self) -> OpenedImage:
        """The image without its dimensions of length 1 other than y and x.

        Raises AxesError if a remaining dimension has no name, or two have the same.
        """
        image = self._drop_axes(
            [
                number
                for number, (axis, length) in enumerate(zip(self.axes, self.shape, strict=True))
                if length == 1 and axis not in "yx"
            ]
        )
        if UNKNOWN_AXIS in image.axes:
            raise AxesError(
                f"{self._description} of shape {self.shape!r} does not name its dimensions: "
                f"{image._format_axes_suggestions()}"
            )
        repeated = {axis for axis in image.axes if image.axes.count(axis) > 1}
        if repeated or not {"y", "x"} <= set(image.axes):
            raise AxesError(
                f"{self._description} of shape {self.shape!r} has the axes {image.axes.upper()!r}: "
                "expected each of TCZYX at most once; give the axes"
            )
        return image

    def to_stack(self, channel_names: Sequence[str] | None = None) -> Stack:
        """A Stack with its axes in the order of ``tczyx``, transposed lazily.

        Every axis must have a name. `channel_names` replace the names of the metadata.
        """
        image = self._convert_samples_to_channels()
        order = [image.axes.index(axis) for axis in AXES if axis in image.axes]
        axes = "".join(image.axes[number] for number in order)
        data = image.data if order == sorted(order) else image.data.transpose(order)
        n_channels = data.shape[axes.index("c")] if "c" in axes else 1
        if channel_names is not None:
            names = tuple(channel_names)
        else:
            names = image.channels if len(image.channels) == n_channels else ()
        spacing = Spacing(
            **{name: value for name, value in vars(image.spacing).items() if name[0] in axes}
        )
        n_frames = data.shape[axes.index("t")] if "t" in axes else 0
        return Stack(
            data,
            axes,
            spacing,
            names,
            rgb=image.rgb,
            name=image.name,
            source=self.source,
            times_s=image.times_s if len(image.times_s) == n_frames else (),
            notes=image.notes,
            max_value=image.max_value,
            geometry=_pick_steps(image.geometry, order),
        )

    @property
    def _description(self) -> str:
        return self.source or "the array"

    def _has_unnamed_samples(self, letters: str) -> bool:
        """Whether `letters` name all dimensions except the samples that the file declares."""
        return (
            SAMPLES_AXIS in self.axes
            and len(letters) == len(self.shape) - 1
            and not {"c", SAMPLES_AXIS} & set(letters)
        )

    def _drop_single_axes(self, letters: str) -> OpenedImage:
        """Drop as many dimensions of length 1 as `letters` leave out, first those not in it."""
        n_surplus = max(0, len(self.shape) - len(letters))
        single = [number for number, length in enumerate(self.shape) if length == 1]
        single.sort(key=lambda number: self.axes[number] in letters)
        return self._drop_axes(single[:n_surplus])

    def _drop_axes(self, dropped: Sequence[int]) -> OpenedImage:
        if not dropped:
            return self
        numbers = range(len(self.axes))
        data = self.data[tuple(0 if number in dropped else slice(None) for number in numbers)]
        axes = "".join(self.axes[number] for number in numbers if number not in dropped)
        kept = [number for number in numbers if number not in dropped]
        return replace(self, data=data, axes=axes, geometry=_pick_steps(self.geometry, kept))

    def _convert_samples_to_channels(self) -> OpenedImage:
        """The samples as channels: red, green and blue without alpha, or one channel a sample."""
        if SAMPLES_AXIS not in self.axes:
            return replace(self, rgb=False)
        if "c" in self.axes:
            raise AxesError(
                f"{self._description} has channels and colour samples ({self.axes.upper()!r}): "
                "save its channels as grey images"
            )
        position = self.axes.index(SAMPLES_AXIS)
        axes = self.axes.replace(SAMPLES_AXIS, "c")
        if not self.rgb or self.shape[position] not in (3, 4):
            return replace(self, axes=axes, rgb=False)
        data = self.data[(slice(None),) * position + (slice(0, 3),)]  # the fourth is alpha
        return replace(self, data=data, axes=axes, channels=_RGB_NAMES, rgb=True)

    def _format_axes_suggestions(self) -> str:
        suggestions = self._suggest_axes()
        if not suggestions:
            return f"it has more dimensions than {AXES.upper()} names"
        *others, last = suggestions
        choices = f"{', '.join(others)} or {last}" if others else last
        return f'give --axes {choices} (in Python axes="{suggestions[0]}")'

    def _suggest_axes(self) -> list[str]:
        """The axes that the shape allows, in upper case, those in the order of TCZYX first."""
        suggestions = [
            axes.replace(SAMPLES_AXIS, "").upper() for axes in self._iterate_possible_axes()
        ]
        suggestions.sort(
            key=lambda axes: list(axes.lower()) != [a for a in AXES if a in axes.lower()]
        )
        if self.axes == "?yx" and self.shape[2] in (3, 4) and not self.source:
            suggestions.insert(0, "YXS")
        return suggestions

    def _iterate_possible_axes(self) -> Iterator[str]:
        """All ways to fill the unknown axes with unused letters."""
        letters = "zt" if SAMPLES_AXIS in self.axes else "ztc"
        unused = [axis for axis in letters if axis not in self.axes]
        unknown = [number for number, axis in enumerate(self.axes) if axis == UNKNOWN_AXIS]
        for chosen in permutations(unused, len(unknown)):
            names = dict(zip(unknown, chosen, strict=True))
            if all(axis != "c" or self.shape[n] <= _MAX_CHANNELS for n, axis in names.items()):
                yield "".join(names.get(number, axis) for number, axis in enumerate(self.axes))


def make_vector(values: Any) -> tuple[float, float, float]:
    """Three numbers as a vector of a `ImageGeometry`."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def _pick_steps(geometry: ImageGeometry | None, dimensions: Sequence[int]) -> ImageGeometry | None:
    """The geometry of the chosen dimensions, in their order."""
    if geometry is None:
        return None
    return replace(geometry, steps_um=tuple(geometry.steps_um[number] for number in dimensions))


def open_array(data: Any, name: str = "array", source: str = "") -> OpenedImage:
    """An array (NumPy, dask or similar) of (…, y, x); the dimensions before y are unknown."""
    axes = name_plane_axes(tuple(int(length) for length in data.shape), source)
    return OpenedImage(data, axes, name=name, source=source)


def open_npy(path: Path) -> OpenedImage:
    """Open a .npy file of (…, y, x), memory-mapped; the dimensions before y are unknown."""
    with convert_read_errors(f"{path}: cannot be read as NumPy's .npy", "an array of numbers"):
        return open_array(np.load(path, mmap_mode="r", allow_pickle=False), path.stem, str(path))


def choose_series(series: int | None, names: Sequence[str], source: str) -> int:
    """The number of the image to read in a file of several.

    Parameters
    ----------
    series
        The number that was requested; None is the only one.
    names
        A name or shape of each image, for the error text.

    Raises
    ------
    FileError
        If the file contains no image, or several and none was requested.
    AxesError
        If there is no such image.
    """
    if series is None and len(names) == 1:
        return 0
    listed = ", ".join(f"{number}: {name}" for number, name in enumerate(names[:_MAX_LISTED]))
    listed += ", …" if len(names) > _MAX_LISTED else ""
    if series is None or not names:
        raise FileError(
            f"{source}: contains {len(names)} images ({listed}): expected one; choose with "
            "--series N (in Python series=N)"
        )
    if not 0 <= series < len(names):
        raise AxesError(f"series {series!r}: {source} contains {len(names)} images ({listed})")
    return series


def name_plane_axes(shape: tuple[int, ...], source: str = "") -> str:
    """Axes of an array without metadata: y and x last, all others unknown.

    Raises AxesError if there are fewer than two dimensions.
    """
    if len(shape) < 2:
        raise AxesError(
            f"{source or 'the array'} of shape {shape!r} is not an image: expected at least two "
            "dimensions"
        )
    return UNKNOWN_AXIS * (len(shape) - 2) + "yx"


def separate_times(
    times_s: Sequence[float], tolerance_s: float = 0.0
) -> tuple[float | None, tuple[float, ...]]:
    """The interval of frames that come evenly, or else the time of each, from 0.

    Parameters
    ----------
    times_s
        Times of the frames, ascending.
    tolerance_s
        Times may deviate by this much from an even grid, because files round them.

    Examples
    --------
    >>> separate_times([2.0, 2.5, 3.0])
    (0.5, ())
    >>> separate_times([2.0, 2.5, 4.0])
    (None, (0.0, 0.5, 2.0))
    """
    times = np.asarray(times_s, dtype=np.float64)
    if len(times) < 2 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        return None, ()
    interval_s = float(times[-1] - times[0]) / (len(times) - 1)
    even = times[0] + interval_s * np.arange(len(times))
    if np.abs(times - even).max() <= max(tolerance_s, _MAX_UNEVENNESS * interval_s):
        return interval_s, ()
    return None, tuple(float(time) for time in times - times[0])


def check_interval(
    spacing: Spacing, times_s: Sequence[float], source: str
) -> tuple[Spacing, tuple[float, ...], tuple[str, ...]]:
    """The spacing, the times of frames if they come unevenly, and notes about it.

    The interval is dropped if the times deviate from it by more than a tenth of it.
    """
    _, uneven_s = separate_times(times_s)
    if not uneven_s or spacing.t_s is None:
        return spacing, uneven_s, ()
    drift = np.asarray(uneven_s) - spacing.t_s * np.arange(len(uneven_s))
    if np.abs(drift).max() <= _MAX_DRIFT * spacing.t_s:
        return spacing, uneven_s, ()
    steps = np.diff(uneven_s)
    note = (
        f"{source}: its frames come unevenly, {steps.min():g} to {steps.max():g} s apart, not "
        f"every {spacing.t_s:g} s; the time of each frame is in the tables"
    )
    return replace(spacing, t_s=None), uneven_s, (note,)


def override_spacing(
    spacing_of_file: Spacing,
    spacing: Spacing | Sequence[float | None] | None,
    interval_s: float | None,
) -> Spacing:
    """The spacing of the file, overridden by the values that the user gave.

    Parameters
    ----------
    spacing_of_file
        From the metadata.
    spacing
        (z, y, x) or (y, x) in µm; None in place of a number keeps that of the file.
    interval_s
        Seconds between frames.

    Raises
    ------
    SpacingError
        If `spacing` has another length, or a value is not above 0.
    """
    if isinstance(spacing, Spacing):
        given: dict[str, float | None] = dict(vars(spacing))
    else:
        given = _name_spacing(() if spacing is None else tuple(spacing))
    if interval_s is not None:
        given["t_s"] = interval_s
    return replace(
        spacing_of_file, **{key: float(value) for key, value in given.items() if value is not None}
    )


def _name_spacing(values: tuple[float | None, ...]) -> dict[str, float | None]:
    if len(values) not in (0, 2, 3):
        raise SpacingError(f"spacing {values!r}: expected Z,Y,X or Y,X in µm")
    names = ("z_um", "y_um", "x_um")
    return dict(zip(names[len(names) - len(values) :], values, strict=True))


def _parse_axes(axes: str) -> str:
    """The letters in lower case; raises AxesError if they cannot name the axes of an image."""
    letters = axes.lower()
    wrong = [axis for axis in letters if axis not in AXES + SAMPLES_AXIS or letters.count(axis) > 1]
    if wrong or not {"y", "x"} <= set(letters):
        raise AxesError(
            f"axes {axes!r}: expected y, x and any of t, c, z (s for the samples of a colour "
            "image), each once"
        )
    return letters
