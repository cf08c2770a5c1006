"""Maps of a plane in overlapping tiles, and planes at other sizes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam2.core.protocols import ObjectMapModel
from napari_sam2.detection.maps.blocks import divide_into_blocks

Plane = NDArray[np.float32]
Maps = NDArray[np.float32]  # (4, …) as in `ObjectMapModel`, each in 0..1

_Y = TypeVar("_Y")
_R = TypeVar("_R")

_TILE, _OVERLAP = 896, 64  # pixels: the core of a tile, and what it shares with each neighbour


class Steps(Generic[_Y, _R]):
    """A generator that can be iterated, and whose `result` is there at the end."""

    def __init__(self, steps: Generator[_Y, None, _R]) -> None:
        self._steps = steps
        self.result: _R

    def __iter__(self) -> Iterator[_Y]:
        self.result = yield from self._steps

    def finish(self) -> _R:
        """Take all steps; return the result."""
        for _ in self:
            pass
        return self.result


def predict_plane(model: ObjectMapModel, plane: Plane) -> Generator[None, None, Maps]:
    """(4, H, W) maps of a (H, W) plane in 0..1; it yields after each tile.

    A plane larger than a tile is read in overlapping tiles, whose maps fade into each other.
    """
    tiles = divide_into_blocks(plane.shape, _TILE, _OVERLAP)
    if len(tiles) == 1:
        maps = model.predict(plane[None])[0]
        yield
        return np.asarray(maps)
    total = np.zeros((4, *plane.shape), np.float32)
    weight = np.zeros(plane.shape, np.float32)
    for tile in tiles:
        found = model.predict(plane[tile.outer][None])[0]
        ramps = [
            _make_ramp(outer, length) for outer, length in zip(tile.outer, plane.shape, strict=True)
        ]
        fading = ramps[0][:, None] * ramps[1]
        total[:, *tile.outer] += found * fading
        weight[tile.outer] += fading
        yield
    total /= weight
    return total


def count_tiles(shape: Sequence[int]) -> int:
    """How often `predict_plane` yields."""
    return len(divide_into_blocks(shape, _TILE, _OVERLAP))


def resample(
    image: NDArray[Any], shape: Sequence[int], region: tuple[slice, ...] | None = None
) -> Plane:
    """A plane or a volume resampled to another shape, or a region of that.

    `region` is counted in pixels of the new shape; only the pixels that it needs are read.
    """
    region = region or tuple(slice(0, length) for length in shape)
    parts, offsets, steps = [], [], []
    for length, new_length, part in zip(image.shape, shape, region, strict=True):
        step = length / new_length  # pixels per new one
        margin = int(np.ceil(4 * step)) + 2
        first = max(0, int(part.start * step) - margin)
        parts.append(slice(first, min(length, int(np.ceil(part.stop * step)) + margin)))
        offsets.append((part.start + 0.5) * step - 0.5 - first)
        steps.append(step)
    source = np.asarray(image[tuple(parts)], np.float32)
    if max(steps) > 1 / 0.7:
        source = ndi.gaussian_filter(source, [0.4 * step if step > 1 else 0 for step in steps])
    size = tuple(part.stop - part.start for part in region)
    if steps == [1.0] * len(steps):
        cut = tuple(
            slice(round(offset), round(offset) + length)
            for offset, length in zip(offsets, size, strict=True)
        )
        return np.ascontiguousarray(source[cut])
    return np.asarray(
        ndi.affine_transform(
            source, steps, offsets, output_shape=size, order=1, mode="nearest", prefilter=False
        ),
        np.float32,
    )


def _make_ramp(part: slice, length: int) -> Plane:
    """Weights along one side of a tile: they rise and fall over what it shares with others."""
    ramp = np.ones(part.stop - part.start, np.float32)
    rise = (np.arange(2 * _OVERLAP, dtype=np.float32) + 0.5) / (2 * _OVERLAP)
    width = min(len(ramp), 2 * _OVERLAP)
    if part.start > 0:
        ramp[:width] *= rise[:width]
    if part.stop < length:
        ramp[-width:] *= rise[:width][::-1]
    return ramp
