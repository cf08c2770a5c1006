"""Layers: what a napari image layer is as a Stack, and where a position of the mouse lies in it.

No windows here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import dask.array as da
import numpy as np

from napari_sam2.core.errors import AxesError, Sam2Error
from napari_sam2.core.stack import AXES, Spacing, Stack
from napari_sam2.gui.app.view import ImageSelection
from napari_sam2.io.open import open_stack
from napari_sam2.io.units import convert_to_seconds, convert_to_um

_AXIS_NAMES = {
    "t": ("t", "time", "frame", "frames"),
    "z": ("z", "depth", "slice", "slices", "plane"),
    "c": ("c", "ch", "channel", "channels"),
}
_GUESSED_ORDERS = (
    "",
    "z",
    "tz",
    "tcz",
)  # for so many axes that nothing is said about: the order OME keeps them in


@dataclass(frozen=True)
class LayerAxes:
    """What the dimensions of an image layer are.

    `letters` has one for each dimension (without the samples of a colour image). `guessed_axes` are
    those that nobody named: a person may know better. `spacing` is in µm and seconds, None where
    nobody said.
    """

    letters: str
    guessed_axes: str
    spacing: Spacing
    shape: tuple[int, ...]
    rgb: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        """Length by letter."""
        return dict(zip(self.letters, self.shape, strict=True))

    @property
    def propagation_axes(self) -> tuple[str, ...]:
        """The axes one can walk along; both for a single one that nobody named."""
        found = tuple(axis for axis in "tz" if axis in self.letters)
        single = len(found) == 1 and found[0] in self.guessed_axes
        return ("z", "t") if single else found or ("t",)

    @property
    def default_axis(self) -> str:
        """The axis to begin with: the longest one."""
        return max(self.propagation_axes, key=lambda axis: (self.sizes.get(axis, 0), axis == "z"))

    @property
    def channel_count(self) -> int:
        """How many there are to choose from; 1 for a colour image."""
        return 1 if self.rgb else self.sizes.get("c", 1)

    def with_axis(self, along: str) -> LayerAxes:
        """This reading, where a single axis that nobody named is the one that is walked."""
        guessed = [axis for axis in "tz" if axis in self.guessed_axes]
        if along in self.letters or along not in self.propagation_axes or len(guessed) != 1:
            return self
        (old,) = guessed
        spacing = replace(self.spacing, z_um=None, t_s=None)
        return replace(
            self,
            letters=self.letters.replace(old, along),
            guessed_axes=self.guessed_axes.replace(old, along),
            spacing=spacing,
        )


def read_layer_axes(layer: Any) -> LayerAxes:
    """How an image layer is read: by its axis labels, else its units, else the file it came from, else by the usual order.

    Raises AxesError for more axes than t, c, z, y and x.
    """
    rgb = bool(getattr(layer, "rgb", False))
    shape = tuple(int(n) for n in (layer.data[0] if layer.multiscale else layer.data).shape)
    shape = shape[:-1] if rgb else shape
    said = [
        _match_axis_name(label) or _guess_axis_from_unit(unit)
        for label, unit in zip(layer.axis_labels, layer.units, strict=True)
    ][:-2]
    of_file = (
        _open_source_file(layer, shape, rgb)
        if "" in said or not _has_known_spacing(layer)
        else None
    )
    if "" in said and of_file is not None:
        said = [axis for axis in of_file.axes[:-2] if not (rgb and axis == "c")]
    guessed = _guess_axes(said, rgb)
    letters = "".join(axis or guess for axis, guess in zip(said, guessed, strict=True)) + "yx"
    if len(set(letters)) != len(letters):
        raise AxesError(
            f"two axes of {layer.name!r} are called alike ({letters}): name them t, c, z, y, x "
            "in the layer's axis labels"
        )
    spacing = _read_spacing(layer, letters)
    if spacing == Spacing() and of_file is not None:
        spacing = of_file.spacing
    return LayerAxes(
        letters,
        "".join(g for axis, g in zip(said, guessed, strict=True) if not axis),
        spacing,
        shape,
        rgb,
    )


def make_stack(layer: Any, axes: LayerAxes) -> Stack:
    """The pixels of an image layer as a Stack, nothing copied: the finest level of a pyramid, the colours of an RGB image as channels."""
    data = layer.data[0] if layer.multiscale else layer.data
    letters = axes.letters
    if axes.rgb:
        data, letters = data[..., :3], letters + "c"
    order = [letters.index(axis) for axis in AXES if axis in letters]
    path = getattr(layer.source, "path", None)
    return Stack(
        _transpose(data, order),
        "".join(letters[n] for n in order),
        axes.spacing,
        rgb=axes.rgb,
        name=layer.name,
        source=str(path) if path else "",
    )


def make_image_selection(
    layer: Any, *, along: str | None = None, channel: int = 0
) -> ImageSelection:
    """What is worked on when a person chooses this layer. Raises AxesError where it cannot be."""
    reading = read_layer_axes(layer)
    along = along or reading.default_axis
    reading = reading.with_axis(along)
    stack = make_stack(layer, reading)
    return ImageSelection(
        get_layer_key(layer), stack, along, None if reading.rgb else channel, layer.name
    )


def get_layer_key(layer: Any) -> str:
    """Names a layer for as long as it lives, whatever it is called."""
    return str(layer.unique_id)


def get_layer_geometry(layer: Any) -> dict[str, Any]:
    """How a layer lies in the world, as keywords for another layer that is to lie in the same place."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}


def make_blank_labels(axes: LayerAxes) -> np.ndarray:
    """uint16 zeros of the shape of an image layer, which take no memory before they are written.

    All channels share one.
    """
    own = tuple(
        1 if axis == "c" else size for axis, size in zip(axes.letters, axes.shape, strict=True)
    )
    labels = np.zeros(own, dtype=np.uint16)
    strides = tuple(
        0 if axis == "c" else stride
        for axis, stride in zip(axes.letters, labels.strides, strict=True)
    )
    return np.lib.stride_tricks.as_strided(labels, axes.shape, strides)


def compute_plane_index(axes: LayerAxes, position: Mapping[str, int]) -> tuple[int, ...]:
    """The index of a plane in a layer's data; channel 0 where none is given, since all share their labels."""
    return tuple(position.get(axis, 0) for axis in axes.letters[:-2])


def locate(
    layer: Any, axes: LayerAxes, position: Sequence[float]
) -> tuple[dict[str, int], tuple[float, float]]:
    """Index by axis, and (y, x), in data pixels, of a position in the world."""
    inside = [float(value) for value in layer.world_to_data(position)]
    where = {axis: round(value) for axis, value in zip(axes.letters[:-2], inside[:-2], strict=True)}
    where = {axis: min(max(place, 0), axes.sizes[axis] - 1) for axis, place in where.items()}
    return where, (inside[-2], inside[-1])


def _match_axis_name(label: str) -> str:
    name = str(label).strip().lower()
    return next((axis for axis, names in _AXIS_NAMES.items() if name in names), "")


def _guess_axis_from_unit(unit: Any) -> str:
    if convert_to_seconds(1.0, str(unit)) is not None:
        return "t"
    return "z" if convert_to_um(1.0, str(unit)) is not None else ""


def _guess_axes(named_axes: Sequence[str], rgb: bool) -> list[str]:
    """A letter for each dimension, looked at where nothing was said about it."""
    free = sum(1 for axis in named_axes if not axis)
    if free >= len(_GUESSED_ORDERS):
        raise AxesError(
            f"{free} axes that nobody named, beside y and x: expected t, c and z at most; name "
            "them in the layer's axis labels"
        )
    taken = [*named_axes, "c"] if rgb else list(named_axes)
    left = iter(
        [axis for axis in _GUESSED_ORDERS[free] if axis not in taken]
        + [axis for axis in "ztc" if axis not in [*taken, *_GUESSED_ORDERS[free]]]
    )
    return [axis or next(left, "") for axis in named_axes]


def _has_known_spacing(layer: Any) -> bool:
    return convert_to_um(1.0, str(layer.units[-1])) is not None


def _read_spacing(layer: Any, letters: str) -> Spacing:
    found = {}
    for axis, scale, unit in zip(letters, layer.scale, layer.units, strict=True):
        if axis in "zyx":
            found[f"{axis}_um"] = convert_to_um(float(scale), str(unit))
        elif axis == "t":
            found["t_s"] = convert_to_seconds(float(scale), str(unit))
    return Spacing(**found)


def _open_source_file(layer: Any, shape: tuple[int, ...], rgb: bool) -> Stack | None:
    """The file a layer came from, where it can be opened and has the same shape."""
    path = getattr(layer.source, "path", None)
    if not path:
        return None
    stack = _open_stack_cached(str(path))
    if stack is None:
        return None
    sizes = tuple(size for axis, size in stack.sizes.items() if not (rgb and axis == "c"))
    return stack if sizes == shape else None


@lru_cache(maxsize=16)
def _open_stack_cached(path: str) -> Stack | None:
    """What a file is; asked again each time that a layer is renamed or added, so kept."""
    try:
        return open_stack(path)
    except (Sam2Error, OSError, ValueError):
        return None


def _transpose(data: Any, order: list[int]) -> Any:
    if order == sorted(order):
        return data
    return (
        np.transpose(data, order)
        if isinstance(data, np.ndarray)
        else da.asarray(data).transpose(order)
    )
