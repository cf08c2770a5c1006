"""Content: what a file holds before anyone has said what its dimensions are, and the Stack it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

from napari_sam2.core.errors import AxesError, SpacingError
from napari_sam2.core.stack import AXES, Spacing, Stack

UNKNOWN_AXIS = "?"
"""Stands in `OpenedImage.axes` for a dimension nobody named."""

SAMPLES_AXIS = "s"
"""Stands in `OpenedImage.axes` for the samples of one pixel: the red, green and blue of a colour image."""

_MAX_CHANNELS = 5  # a longer unnamed dimension is not offered as channels
_RGB_NAMES = ("red", "green", "blue")


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """Pixels as they lie in a file, and what the file says of them.

    `axes` has a letter of ``tczyx``, `SAMPLES_AXIS` or `UNKNOWN_AXIS` for each dimension of `data`, in the
    file's own order. `rgb`: whether the samples are red, green and blue (and perhaps alpha).
    """

    data: Any
    axes: str
    spacing: Spacing = field(default_factory=Spacing)
    channels: tuple[str, ...] = ()
    rgb: bool = False
    name: str = "array"
    source: str = ""

    def __post_init__(self) -> None:
        named = "".join(
            axis if axis in AXES + SAMPLES_AXIS else UNKNOWN_AXIS for axis in self.axes.lower()
        )
        object.__setattr__(self, "axes", named)

    @property
    def shape(self) -> tuple[int, ...]:
        """As in the file."""
        return tuple(int(length) for length in self.data.shape)

    def with_axes(self, axes: str) -> OpenedImage:
        """The same, its dimensions named by a person; raises AxesError where that cannot be."""
        given = axes.lower()
        wrong = sorted(
            {axis for axis in given if axis not in AXES + SAMPLES_AXIS or given.count(axis) > 1}
        )
        if wrong or not {"y", "x"} <= set(given):
            raise AxesError(
                f"axes {axes!r}: expected y, x and any of t, c, z (s for the samples of a colour "
                "image), each once"
            )
        here = self
        if len(given) < len(here.shape):
            single = [number for number, length in enumerate(here.shape) if length == 1]
            single.sort(key=lambda number: here.axes[number] in given)
            here = here._drop_axes(single[: len(here.shape) - len(given)])
        if (
            SAMPLES_AXIS in here.axes
            and len(given) == len(here.shape) - 1
            and not {"c", SAMPLES_AXIS} & set(given)
        ):
            place = here.axes.index(
                SAMPLES_AXIS
            )  # nobody need name the colours of a file that says it has them
            return replace(here, axes=given[:place] + SAMPLES_AXIS + given[place:])
        if len(given) != len(here.shape):
            raise AxesError(
                f"axes {axes!r} name {len(axes)} dimensions, {self._description} has "
                f"{len(self.shape)}: {self.shape!r}"
            )
        return replace(here, axes=given, rgb=self.rgb or SAMPLES_AXIS not in self.axes)

    def with_checked_axes(self) -> OpenedImage:
        """The same without dimensions of length 1 that say nothing; raises AxesError where one is left without a name."""
        single = [
            n
            for n, (axis, length) in enumerate(zip(self.axes, self.shape, strict=True))
            if length == 1 and axis not in "yx"
        ]
        here = self._drop_axes(single)
        if UNKNOWN_AXIS in here.axes:
            raise AxesError(
                f"{self._description} of shape {self.shape!r} does not say what its dimensions are: "
                f"{here._format_axes_suggestions()}"
            )
        repeated = {axis for axis in here.axes if here.axes.count(axis) > 1}
        if repeated or not {"y", "x"} <= set(here.axes):
            raise AxesError(
                f"{self._description} of shape {self.shape!r} has the axes {here.axes.upper()!r}: "
                "expected each of TCZYX at most once"
            )
        return here

    def to_stack(self, channel_names: Sequence[str] | None = None) -> Stack:
        """A Stack in the order of ``tczyx``, transposed lazily; every axis must have a name."""
        here = self._convert_samples_to_channels()
        order = [here.axes.index(axis) for axis in AXES if axis in here.axes]
        axes = "".join(here.axes[number] for number in order)
        data = here.data if order == sorted(order) else here.data.transpose(order)
        count = data.shape[axes.index("c")] if "c" in axes else 1
        names = tuple(channel_names) if channel_names is not None else here.channels
        if channel_names is None and len(names) != count:
            names = ()
        spacing = Spacing(
            **{key: value for key, value in vars(here.spacing).items() if key[0] in axes}
        )
        return Stack(data, axes, spacing, names, rgb=here.rgb, name=here.name, source=here.source)

    @property
    def _description(self) -> str:
        return self.source or "the array"

    def _drop_axes(self, dropped_axes: list[int]) -> OpenedImage:
        if not dropped_axes:
            return self
        data = self.data[
            tuple(0 if number in dropped_axes else slice(None) for number in range(len(self.axes)))
        ]
        return replace(
            self,
            data=data,
            axes="".join(
                axis for number, axis in enumerate(self.axes) if number not in dropped_axes
            ),
        )

    def _convert_samples_to_channels(self) -> OpenedImage:
        """Samples as channels: red, green and blue without alpha where they are colours, else one channel each."""
        if SAMPLES_AXIS not in self.axes:
            return replace(self, rgb=False)
        if "c" in self.axes:
            raise AxesError(
                f"{self._description} has channels and colours at once ({self.axes.upper()!r}): save "
                "its channels as grey images"
            )
        place = self.axes.index(SAMPLES_AXIS)
        axes = self.axes.replace(SAMPLES_AXIS, "c")
        count = self.shape[place]
        if not self.rgb or count not in (3, 4):
            return replace(self, axes=axes, rgb=False)
        data = self.data[
            (slice(None),) * place + (slice(0, 3),)
        ]  # the fourth says how opaque a pixel is
        return replace(self, data=data, axes=axes, channels=_RGB_NAMES, rgb=True)

    def _format_axes_suggestions(self) -> str:
        readings = list(self._list_possible_axes())
        if not readings:
            return f"it has more dimensions than {AXES.upper()} names"
        choices = (
            ", ".join(readings[:-1]) + f" or {readings[-1]}" if len(readings) > 1 else readings[0]
        )
        return f'give --axes {choices} (in Python axes="{readings[0]}")'

    def _list_possible_axes(self) -> list[str]:
        free = [
            axis for axis in ("zt" if SAMPLES_AXIS in self.axes else "ztc") if axis not in self.axes
        ]
        gaps = [number for number, axis in enumerate(self.axes) if axis == UNKNOWN_AXIS]
        found = []
        for letters in permutations(free, len(gaps)):
            names = dict(zip(gaps, letters, strict=True))
            if not any(
                axis == "c" and self.shape[gap] > _MAX_CHANNELS for gap, axis in names.items()
            ):
                reading = "".join(names.get(number, axis) for number, axis in enumerate(self.axes))
                found.append(reading.replace(SAMPLES_AXIS, "").upper())
        found.sort(
            key=lambda reading: (
                list(reading.lower()) != [axis for axis in AXES if axis in reading.lower()]
            )
        )  # the usual order first
        if self.axes == "?yx" and self.shape[2] in (3, 4) and not self.source:
            found.insert(0, "YXS")
        return found


def open_array(data: Any, name: str = "array", source: str = "") -> OpenedImage:
    """An array in memory (numpy, dask, anything like them): a plane is y, x; what comes before is unknown."""
    axes = UNKNOWN_AXIS * (len(data.shape) - 2) + "yx"
    if len(data.shape) < 2:
        raise AxesError(
            f"{source or 'the array'} of shape {tuple(data.shape)!r} is no image: expected at "
            "least two dimensions"
        )
    return OpenedImage(data, axes, name=name, source=source)


def override_spacing(
    spacing_of_file: Spacing,
    spacing: Spacing | Sequence[float | None] | None,
    interval_s: float | None,
) -> Spacing:
    """What a person said of the spacing, and what was found where they said nothing.

    `spacing` is (z, y, x) or (y, x) in µm, None in it where not known better; `interval_s` is in
    seconds.
    """
    if isinstance(spacing, Spacing):
        said: dict[str, float | None] = dict(vars(spacing))
    else:
        given = () if spacing is None else tuple(spacing)
        if len(given) not in (0, 2, 3):
            raise SpacingError(f"spacing {given!r}: expected Z,Y,X or Y,X in µm")
        said = dict(
            zip(("z_um", "y_um", "x_um")[-len(given) :] if given else (), given, strict=True)
        )
    if interval_s is not None:
        said["t_s"] = interval_s
    return replace(
        spacing_of_file, **{key: float(value) for key, value in said.items() if value is not None}
    )
