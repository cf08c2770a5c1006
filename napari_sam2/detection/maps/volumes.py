"""Objects of a volume: the maps of its xy, xz and yz planes, averaged, and a 3D watershed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam2.core.protocols import WORKING_DIAMETER, ObjectMapModel
from napari_sam2.core.result import FrameDetections
from napari_sam2.detection.maps.blocks import BlockLabels, Labels, divide_into_blocks
from napari_sam2.detection.maps.instances import (
    find_noise,
    measure_sureness,
    remove_objects,
    resize_labels,
    segment_maps,
)
from napari_sam2.detection.maps.intensities import PreparedPlane
from napari_sam2.detection.maps.planes import Maps, Steps, resample

_BLOCK_VOXELS = 12_000_000  # a larger volume is segmented in blocks: 0.2 GB of maps each
_BLOCK, _MARGIN = 192, 32
_PLANES_PER_STEP = 32
_MIN_VOXELS = 60
_CONTRAST, _DEPTH = 0.06, 0.5  # of seeds: the mean of three orientations is smoother than a plane
_MOST_VOXELS = 200_000_000  # of the resampled volume: beyond it, objects are looked at smaller


@dataclass(frozen=True, eq=False)
class VolumeObjects:
    """Labels of a volume at the size they were found at.

    Parameters
    ----------
    labels
        (Z, Y, X) of cubes.
    shape
        (frames, H, W) of the volume.
    sureness
        (n,) of the objects 1..n.
    foreground
        (Z, Y, X) uint8 of cubes, 0..255.
    """

    labels: Labels
    shape: tuple[int, int, int]
    sureness: NDArray[np.float32]
    foreground: NDArray[np.uint8]

    def draw_plane(self, frame: int) -> Labels:
        """(H, W) labels of a frame."""
        return resize_labels(self.labels[self._find_place(frame)], self.shape[1:])

    def draw_detections(self, frame: int) -> FrameDetections:
        """The objects of a frame, numbered anew, with their numbers in the volume as `ids`."""
        plane = self.draw_plane(frame)
        ids = np.unique(plane[plane > 0])
        return FrameDetections(
            np.asarray(np.searchsorted(ids, plane) + (plane > 0), np.int32),
            resize_labels(self.foreground[self._find_place(frame)], self.shape[1:]),
            self.sureness[ids - 1],
            ids,
        )

    def _find_place(self, frame: int) -> int:
        depth = len(self.labels)
        return min(int((frame + 0.5) * depth / self.shape[0]), depth - 1)


def segment_volume(
    model: ObjectMapModel,
    read_plane: Callable[[int], PreparedPlane | None],
    shape: tuple[int, int, int],
    *,
    depth_ratio: float,
    diameter: float,
) -> Generator[tuple[int, int], None, VolumeObjects]:
    """Objects of a volume; it yields steps done, and all.

    Parameters
    ----------
    read_plane
        A plane by its index; None: it is empty.
    shape
        (frames, H, W).
    depth_ratio
        The spacing in z in pixels of y and x.
    diameter
        Width of the objects in pixels of y and x.
    """
    size = _choose_size(shape, depth_ratio, diameter)
    flat = np.zeros((shape[0], *size[1:]), np.float16)
    noises = []
    for frame in range(shape[0]):
        plane = read_plane(frame)
        if plane is not None:
            flat[frame] = resample(plane.pixels, size[1:])
            noises.append(plane.noise)
    noise = float(np.median(noises)) if noises else 0.0
    share = float(np.prod(shape) / np.prod(size))
    whole = int(np.prod(size)) <= _BLOCK_VOXELS
    blocks = divide_into_blocks(size, max(size) if whole else _BLOCK, _MARGIN)
    found, sureness = BlockLabels(size), [np.zeros(0, np.float32)]
    shapes = [tuple(part.stop - part.start for part in block.outer) for block in blocks]
    foreground = np.zeros(size, np.uint8)
    done, total = 0, sum(_count_steps(each) for each in shapes)
    for block in blocks:
        cubes = resample(flat, size, block.outer)
        steps = Steps(predict_cubes(model, cubes))
        for _ in steps:
            done += 1
            yield done, total
        labels = segment_maps(steps.result, contrast=_CONTRAST, depth=_DEPTH, least=_MIN_VOXELS)
        labels = remove_objects(labels, find_noise(labels, cubes, noise, share))
        taken = found.add(labels, block)
        sureness.append(measure_sureness(steps.result, labels)[taken - 1])
        foreground[block.core] = 255 * steps.result[0][block.core_in_outer]
    return VolumeObjects(found.labels, shape, np.concatenate(sureness), foreground)


def predict_cubes(model: ObjectMapModel, cubes: NDArray[np.float32]) -> Generator[None, None, Maps]:
    """(4, Z, Y, X) maps of a volume of cubes: the mean over its xy, xz and yz planes.

    It yields after every few planes.
    """
    total = np.zeros((4, *cubes.shape), np.float32)
    for axis in range(3):
        planes, sums = np.moveaxis(cubes, axis, 0), np.moveaxis(total, axis + 1, 0)
        for start in range(0, len(planes), _PLANES_PER_STEP):
            part = slice(start, start + _PLANES_PER_STEP)
            sums[part] += model.predict(np.ascontiguousarray(planes[part]))
            yield
    total /= 3
    return total


def _count_steps(shape: tuple[int, ...]) -> int:
    return sum(-(-length // _PLANES_PER_STEP) for length in shape)


def _choose_size(
    shape: tuple[int, int, int], depth_ratio: float, diameter: float
) -> tuple[int, int, int]:
    """(Z, Y, X) of the volume in cubes that show objects `WORKING_DIAMETER` wide."""
    zoom = WORKING_DIAMETER / diameter
    voxels = np.prod(np.array(shape, float)) * depth_ratio * zoom**3
    zoom *= min(1.0, float(np.cbrt(_MOST_VOXELS / voxels)))
    depth, height, width = shape
    return (
        max(1, round(depth * depth_ratio * zoom)),
        max(1, round(height * zoom)),
        max(1, round(width * zoom)),
    )
