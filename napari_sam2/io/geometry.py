"""Match labels to their image in space, not only in shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.stack import ImageGeometry, Stack

_MAX_SHIFT_PX = 0.1  # of any corner, by which two files may round differently
_MAX_SIZE_DEVIATION = 0.01  # of the distance of pixels, relative
_SPACE_AXES = "zyx"


def align_labels(labels: Stack, image: Stack) -> Stack:
    """The labels in the orientation of their image.

    Files of one coordinate system are compared by their places in space: labels whose axes run the
    other way, or in another order, are reoriented, because that is exact. Files of different
    systems, or without one, are compared by the size of their pixels.

    Raises
    ------
    LabelsError
        If the labels lie elsewhere, or have pixels of another size; the text gives both geometries.
    """
    ours, theirs = _Grid.of(labels), _Grid.of(image)
    if ours is None or theirs is None or ours.space != theirs.space:
        _check_sizes(labels, image)
        return labels
    if not set(ours.axes) <= set(theirs.axes):
        return labels
    mapping = ours.map_to(theirs)
    if mapping is None:
        raise _make_error(labels, image)
    if mapping.is_identity:
        return _check_offset(labels, image, mapping, theirs)
    return _check_offset(_reorient(labels, mapping), image, mapping, theirs)


@dataclass(frozen=True, eq=False)
class _Mapping:
    """How the axes of labels run along those of their image.

    Parameters
    ----------
    sources
        For each axis of the labels' space, in order, the axis of the labels that runs along it.
    reversed_axes
        The axes of the image along which the labels run the other way.
    offset
        Index of the image, by axis, at the first pixel of the labels.
    """

    sources: dict[str, str]
    reversed_axes: str
    offset: dict[str, float]

    @property
    def is_identity(self) -> bool:
        return not self.reversed_axes and all(
            axis == source for axis, source in self.sources.items()
        )


@dataclass(frozen=True, eq=False)
class _Grid:
    """The geometry of the space axes of a Stack: `steps` is (3, axes), `sizes` their lengths."""

    space: str
    origin: np.ndarray
    steps: np.ndarray
    axes: str
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, stack: Stack) -> _Grid | None:
        geometry = stack.geometry
        if geometry is None:
            return None
        by_axis = {
            axis: step
            for axis, step in zip(stack.axes, geometry.steps_um, strict=True)
            if step is not None and axis in _SPACE_AXES
        }
        if not {"y", "x"} <= set(by_axis):
            return None
        steps = np.array(list(by_axis.values())).T
        if np.linalg.matrix_rank(steps) < len(by_axis):
            return None
        axes = "".join(by_axis)
        sizes = tuple(stack.sizes[axis] for axis in axes)
        return cls(geometry.space, np.array(geometry.origin_um), steps, axes, sizes)

    def map_to(self, other: _Grid) -> _Mapping | None:
        """How this grid runs along another; None unless a reorientation makes it the same."""
        to_index = np.linalg.pinv(other.steps)
        rows = [other.axes.index(axis) for axis in self.axes]
        matrix = to_index @ self.steps
        turned = np.round(matrix[rows])
        expected = np.zeros_like(matrix)
        expected[rows] = turned
        one_each = (np.abs(turned).sum(axis=0) == 1).all() and (
            np.abs(turned).sum(axis=1) == 1
        ).all()
        # at the corner that is farthest from the first pixel
        error = np.abs(matrix - expected) @ (np.array(self.sizes) - 1)
        outside = np.linalg.norm(other.steps @ matrix - self.steps, axis=0)
        tilted = outside * (np.array(self.sizes) - 1) > _MAX_SHIFT_PX * np.linalg.norm(
            self.steps, axis=0
        )
        if not one_each or error.max() > _MAX_SHIFT_PX or tilted.any():
            return None
        offset = to_index @ (self.origin - other.origin)
        sources = {
            axis: self.axes[int(np.argmax(np.abs(row)))]
            for axis, row in zip(self.axes, turned, strict=True)
        }
        backward = "".join(
            axis for axis, row in zip(self.axes, turned, strict=True) if row.sum() < 0
        )
        by_axis = {axis: float(offset[row]) for axis, row in zip(self.axes, rows, strict=True)}
        return _Mapping(sources, backward, by_axis)


def _reorient(labels: Stack, mapping: _Mapping) -> Stack:
    """The labels with their axes in the order and the direction of the image's."""
    order = [labels.axes.index(mapping.sources.get(axis, axis)) for axis in labels.axes]
    data = labels.data.transpose(order)
    data = data[
        tuple(
            slice(None, None, -1 if axis in mapping.reversed_axes else None) for axis in labels.axes
        )
    ]
    note = f"{labels.source or 'the labels'}: reoriented to the axes of the image, which is exact"
    return replace(labels, data=data, notes=(*labels.notes, note))


def _check_offset(labels: Stack, image: Stack, mapping: _Mapping, grid: _Grid) -> Stack:
    """The labels in the image's geometry; raises LabelsError if they begin elsewhere.

    Labels of another shape are returned as they are: whoever uses them says so.
    """
    sizes = dict(zip(grid.axes, grid.sizes, strict=True))
    if any(labels.sizes[axis] != sizes[axis] for axis in mapping.offset):
        return labels
    for axis, offset in mapping.offset.items():
        expected = sizes[axis] - 1 if axis in mapping.reversed_axes else 0
        if abs(offset - expected) > _MAX_SHIFT_PX:
            raise _make_error(labels, image)
    return replace(labels, spacing=image.spacing, geometry=None)


def _check_sizes(labels: Stack, image: Stack) -> None:
    """Raise LabelsError if the pixels of the labels have another size than those of the image."""
    for axis in _SPACE_AXES:
        name = f"{axis}_um"
        ours = getattr(labels.spacing, name)
        # a size that the user gave may differ from that of the file
        theirs = [getattr(image.spacing, name), _get_step_size(image, axis)]
        known = [size for size in theirs if size is not None]
        if ours is None or not known:
            continue
        if all(abs(ours / size - 1) > _MAX_SIZE_DEVIATION for size in known):
            raise _make_error(labels, image)


def _get_step_size(stack: Stack, axis: str) -> float | None:
    if stack.geometry is None or axis not in stack.axes:
        return None
    step = stack.geometry.steps_um[stack.axes.index(axis)]
    return None if step is None else float(np.linalg.norm(step))


def _make_error(labels: Stack, image: Stack) -> LabelsError:
    return LabelsError(
        f"{labels.source or 'the labels'}: {_describe(labels)}, do not lie over "
        f"{image.source or 'the image'}: {_describe(image)}; resample the labels to the image, or "
        "correct the metadata of one of them"
    )


def _describe(stack: Stack) -> str:
    shape = f"{stack.axes.upper()} {' × '.join(map(str, stack.sizes.values()))}"
    if stack.geometry is None:
        return f"{shape}, {stack.describe_spacing()}"
    return f"{shape}, {_describe_geometry(stack.geometry, stack.axes)}"


def _describe_geometry(geometry: ImageGeometry, axes: str) -> str:
    steps = ", ".join(
        f"{axis} {_format(step)}"
        for axis, step in zip(axes, geometry.steps_um, strict=True)
        if step is not None
    )
    return f"origin {_format(geometry.origin_um)} and steps {steps} µm"


def _format(vector: tuple[float, float, float]) -> str:
    return f"({', '.join(f'{value:.5g}' for value in vector)})"
