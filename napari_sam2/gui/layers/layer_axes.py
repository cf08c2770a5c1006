"""LayerAxes: the axes of a napari image layer, the layer as a Stack, and positions in it."""

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
_GUESSED_ORDERS = ("", "z", "tz", "tcz")  # by number of unnamed axes: OME's order


@dataclass(frozen=True)
class LayerAxes:
    """The axes of an image layer.

    Parameters
    ----------
    letters
        One letter for each dimension, without the samples of a colour image.
    guessed_axes
        Those of the letters that are guesses, because the layer does not name the axis.
    spacing
        In µm and seconds; None for axes without a known unit.
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
        """The axes that one can propagate along; both for a single axis without a name."""
        found = tuple(axis for axis in "tz" if axis in self.letters)
        single = len(found) == 1 and found[0] in self.guessed_axes
        return ("z", "t") if single else found or ("t",)

    @property
    def default_axis(self) -> str:
        """The axis to start with: the longest one."""
        return max(self.propagation_axes, key=lambda axis: (self.sizes.get(axis, 0), axis == "z"))

    @property
    def channel_count(self) -> int:
        """The number of channels; 1 for a colour image."""
        return 1 if self.rgb else self.sizes.get("c", 1)

    def with_axis(self, along: str) -> LayerAxes:
        """These axes, with the name `along` for a single axis without a name."""
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
    """Read the axes from the axis labels, else the units, else the file, else the usual order.

    Raises AxesError for more axes than t, c, z, y and x.
    """
    rgb = bool(getattr(layer, "rgb", False))
    shape = tuple(int(n) for n in (layer.data[0] if layer.multiscale else layer.data).shape)
    shape = shape[:-1] if rgb else shape
    named = [
        _match_axis_name(label) or _guess_axis_from_unit(unit)
        for label, unit in zip(layer.axis_labels, layer.units, strict=True)
    ][:-2]
    file_stack = (
        _open_source_file(layer, shape, rgb)
        if "" in named or not _has_known_spacing(layer)
        else None
    )
    if "" in named and file_stack is not None:
        named = [axis for axis in file_stack.axes[:-2] if not (rgb and axis == "c")]
    guessed = _guess_axes(named, rgb)
    letters = "".join(axis or guess for axis, guess in zip(named, guessed, strict=True)) + "yx"
    if len(set(letters)) != len(letters):
        raise AxesError(
            f"two axes of {layer.name!r} have the same name ({letters}): name them t, c, z, y, x "
            "in the layer's axis labels"
        )
    spacing = _read_spacing(layer, letters)
    if spacing == Spacing() and file_stack is not None:
        spacing = file_stack.spacing
    return LayerAxes(
        letters,
        "".join(g for axis, g in zip(named, guessed, strict=True) if not axis),
        spacing,
        shape,
        rgb,
    )


def make_stack(layer: Any, axes: LayerAxes) -> Stack:
    """Make a Stack of an image layer without a copy: of a pyramid the finest level."""
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
    """Make the selection of an image layer. Raises AxesError if its axes are not supported."""
    axes = read_layer_axes(layer)
    along = along or axes.default_axis
    axes = axes.with_axis(along)
    stack = make_stack(layer, axes)
    return ImageSelection(
        get_layer_key(layer), stack, along, None if axes.rgb else channel, layer.name
    )


def get_layer_key(layer: Any) -> str:
    """The key of a layer, which a new name does not change."""
    return str(layer.unique_id)


def get_layer_geometry(layer: Any) -> dict[str, Any]:
    """The geometry of a layer, as keywords for another layer in the same place."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}


def make_blank_labels(axes: LayerAxes) -> np.ndarray:
    """Make uint16 zeros in the shape of an image layer. All channels share one plane."""
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
    """The index of a plane in a layer's data; channel 0 by default, because all share labels."""
    return tuple(position.get(axis, 0) for axis in axes.letters[:-2])


def locate(
    layer: Any, axes: LayerAxes, position: Sequence[float]
) -> tuple[dict[str, int], tuple[float, float]]:
    """Convert a world position to an index by axis, and (y, x) in data pixels."""
    inside = [float(value) for value in layer.world_to_data(position)]
    index = {axis: round(value) for axis, value in zip(axes.letters[:-2], inside[:-2], strict=True)}
    index = {axis: min(max(place, 0), axes.sizes[axis] - 1) for axis, place in index.items()}
    return index, (inside[-2], inside[-1])


def _match_axis_name(label: str) -> str:
    name = str(label).strip().lower()
    return next((axis for axis, names in _AXIS_NAMES.items() if name in names), "")


def _guess_axis_from_unit(unit: Any) -> str:
    if convert_to_seconds(1.0, str(unit)) is not None:
        return "t"
    return "z" if convert_to_um(1.0, str(unit)) is not None else ""


def _guess_axes(named_axes: Sequence[str], rgb: bool) -> list[str]:
    """Guess the letters of axes without a name."""
    free = sum(1 for axis in named_axes if not axis)
    if free >= len(_GUESSED_ORDERS):
        raise AxesError(
            f"{free} axes without a name, besides y and x: expected at most 3 (t, c, z); name "
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
    """The file of a layer, if it can be opened and has the same shape."""
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
    """Open a file; cached because it is needed each time a layer is added or renamed."""
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
