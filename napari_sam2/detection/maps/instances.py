"""Instances of a detector's maps, and how sure each of them is."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label
from skimage.morphology import h_maxima
from skimage.segmentation import relabel_sequential, watershed

from napari_sam2.core.protocols import SIZE_OCTAVES, WORKING_DIAMETER, ObjectMapModel
from napari_sam2.core.result import FrameDetections
from napari_sam2.detection.maps.blocks import BlockLabels, Labels, divide_into_blocks
from napari_sam2.detection.maps.intensities import PreparedPlane
from napari_sam2.detection.maps.planes import Maps, Steps, count_tiles, predict_plane, resample
from napari_sam2.detection.maps.sizes import measure_sizes

_T = TypeVar("_T", bound=np.generic)

_BLOCK = 2048  # pixels: a larger plane is segmented in blocks
_MARGIN = 192  # pixels around a block, so that its objects are seen whole
_MIN_DIAMETER = 12.0  # pixels to which objects of a large plane may be reduced
_ENLARGED_SIDE = 1600  # pixels: a smaller plane may be enlarged to this
_SIZE_TOLERANCE = 0.7  # octaves between the size map and the size of an object
_MIN_PIXELS = 60  # of the 450 of a typical object
_MOST_ENLARGED = 4.0  # objects under 6 px show no more if they are enlarged further
_RING = 3  # pixels around an object that it is compared with
_NOISE_SMOOTHING = 2.0  # pixels, before the structure inside an object is measured
_MIN_SIGNIFICANCE = 7.0  # of the step between an object and its ring, in standard errors
_MIN_STRUCTURE = 2.0  # times what noise alone leaves after smoothing


def segment_maps(
    maps: Maps,
    *,
    contrast: float = 0.12,
    depth: float = 0.55,
    least: int = _MIN_PIXELS,
    smoothing: float = 1.0,
) -> Labels:
    """Labels of the (4, …) maps of a plane or a volume.

    Seeds are the peaks of how deep inside an object a pixel lies: the geometric mean of its
    distance to the boundary and of its nearness to the centre, both 0..1.

    Parameters
    ----------
    contrast
        A peak rises so much above the pass to a higher one, else both are one object.
    depth
        Seeds are at least so deep.
    least
        Objects of fewer pixels are dropped.
    smoothing
        Deviation of the Gaussian in pixels that both distances are smoothed with.
    """
    inside = ndi.gaussian_filter(maps[0], 1.0) > 0.5
    if not inside.any():
        return np.zeros(inside.shape, np.int32)
    boundary, centre = (ndi.gaussian_filter(each, smoothing) for each in maps[1:3])
    depths = np.where(inside, np.sqrt(np.clip(boundary * (1 - centre), 0, 1)), 0)
    seeds = label(h_maxima(depths, contrast) & (depths > depth))
    labels = np.asarray(watershed(-depths, seeds, mask=inside), np.int32)
    too_small = np.flatnonzero(np.bincount(labels.ravel()) < least)
    labels[np.isin(labels, too_small)] = 0
    return np.asarray(relabel_sequential(labels)[0], np.int32)


def resize_labels(labels: NDArray[_T], shape: tuple[int, ...]) -> NDArray[_T]:
    """Labels at another size, by the nearest pixel."""
    if labels.shape == shape:
        return labels
    grids = [
        np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int)
        for n, m in zip(shape, labels.shape, strict=True)
    ]
    return labels[np.ix_(*grids)]


def segment_plane(
    model: ObjectMapModel, plane: PreparedPlane, diameter: float
) -> Generator[tuple[int, int], None, FrameDetections]:
    """Objects of a plane that are about `diameter` px wide; it yields tiles done, and all.

    Objects are looked at `WORKING_DIAMETER` px wide, on large planes less, so that the time stays
    that of the pixels. A large plane is segmented in blocks: the memory is bounded.
    """
    shape = plane.pixels.shape
    zoom = _choose_zoom(shape, diameter)
    size = tuple(max(1, round(zoom * length)) for length in shape)
    blocks = divide_into_blocks(size, _BLOCK, _MARGIN)
    whole, sureness = BlockLabels(size), [np.zeros(0, np.float32)]
    foreground = np.zeros(size, np.uint8)
    shapes = [tuple(part.stop - part.start for part in block.outer) for block in blocks]
    done, total = 0, sum(count_tiles(each) for each in shapes)
    for block in blocks:
        pixels = resample(plane.pixels, size, block.outer)
        steps = Steps(predict_plane(model, pixels))
        for _ in steps:
            done += 1
            yield done, total
        maps = steps.result
        if plane.field is not None:
            maps[0] *= resample(plane.field, size, block.outer) > 0.5
        labels = segment_maps(maps)
        noise = find_noise(labels, pixels, plane.noise, zoom**-2)
        labels = remove_objects(labels, noise)
        taken = whole.add(labels, block)
        sureness.append(measure_sureness(maps, labels)[taken - 1])
        foreground[block.core] = (255 * maps[0][block.core_in_outer]).astype(np.uint8)
    return FrameDetections(
        resize_labels(whole.labels, shape),
        resize_labels(foreground, shape),
        np.concatenate(sureness).astype(np.float32),
    )


def find_noise(
    labels: Labels, pixels: NDArray[np.floating], noise: float, share: float
) -> NDArray[np.bool_]:
    """(n,) which of the objects 1..n of a plane or a volume are nothing but noise.

    Such an object is no brighter or darker than what is around it, and no more structured inside,
    than the noise of as many pixels allows.

    Parameters
    ----------
    pixels
        Intensities, of the shape of the labels.
    noise
        Standard deviation of the noise of a recorded pixel.
    share
        Recorded pixels per pixel of the labels.
    """
    count = int(labels.max(initial=0))
    if not count or noise <= 0:
        return np.zeros(count, bool)
    ring = ndi.maximum_filter(labels, 2 * _RING + 1)
    ring[labels > 0] = 0
    inner, outer = (
        np.maximum(1.0, share * np.bincount(each.ravel(), minlength=count + 1)[1:])
        for each in (labels, ring)
    )
    smooth = ndi.gaussian_filter(pixels, _NOISE_SMOOTHING)
    mean = _mean_or_zero(smooth, labels, count)
    step = np.abs(mean - _mean_or_zero(smooth, ring, count))
    significance = step / (noise * np.sqrt(1 / inner + 1 / outer))
    pixels_averaged = max(1.0, share * (2 * np.sqrt(np.pi) * _NOISE_SMOOTHING) ** labels.ndim)
    spread = np.sqrt(np.maximum(0, _mean_or_zero(smooth**2, labels, count) - mean**2))
    structure = spread * np.sqrt(pixels_averaged) / noise
    return np.asarray((significance < _MIN_SIGNIFICANCE) & (structure < _MIN_STRUCTURE))


def remove_objects(labels: Labels, removed: NDArray[np.bool_]) -> Labels:
    """Labels without some of the objects 1..n, the others numbered anew."""
    if not removed.any():
        return labels
    numbers = np.concatenate([[0], np.where(removed, 0, np.cumsum(~removed))])
    return np.asarray(numbers[labels], np.int32)


def _mean_or_zero(pixels: NDArray[np.floating], labels: Labels, count: int) -> NDArray[np.floating]:
    """Mean of each label 1..n; 0 for those that are nowhere."""
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    sums = np.bincount(labels.ravel(), pixels.ravel(), minlength=count + 1)[1:]
    return np.asarray(sums / np.maximum(areas, 1))


def measure_sureness(maps: Maps, labels: Labels) -> NDArray[np.float32]:
    """(n,) sureness in 0..1 of the objects 1..n of a plane or a volume.

    The geometric mean of three: how far the foreground is from a toss-up, how deep the object is,
    and how well its size is the one that its own pixels say. An object at the border may go on
    beyond it: its size says nothing.
    """
    count = int(labels.max(initial=0))
    if not count:
        return np.zeros(0, np.float32)
    certain = np.clip(2 * _mean_or_zero(maps[0], labels, count) - 1, 0, 1)
    depth = np.clip(ndi.maximum(maps[1], labels, np.arange(1, count + 1)), 0, 1)
    size = measure_diameters(labels) if labels.ndim == 3 else measure_sizes(labels)
    expected = SIZE_OCTAVES * _mean_or_zero(maps[3], labels, count)
    octaves = (np.log2(np.maximum(size, 1)) - expected) / _SIZE_TOLERANCE
    agreement = np.where(_find_cut(labels), 1.0, np.exp(-0.5 * octaves**2))
    sureness = np.cbrt(certain * depth * agreement)
    return np.asarray(sureness, np.float32)


def measure_diameters(labels: Labels) -> NDArray[np.float64]:
    """(n,) diameters in pixels of discs (balls) of the same area (volume) as the objects 1..n."""
    pixels = np.bincount(labels.ravel())[1:]
    if labels.ndim == 2:
        return np.asarray(2 * np.sqrt(pixels / np.pi))
    return np.asarray(2 * np.cbrt(3 * pixels / (4 * np.pi)))


def _find_cut(labels: Labels) -> NDArray[np.bool_]:
    """(n,) whether an object reaches the border."""
    cut = np.zeros(int(labels.max()) + 1, bool)
    for axis in range(labels.ndim):
        for side in (0, -1):
            cut[np.unique(labels.take(side, axis))] = True
    return cut[1:]


def _choose_zoom(shape: tuple[int, ...], diameter: float) -> float:
    zoom = WORKING_DIAMETER / diameter
    most = max(1.0, _ENLARGED_SIDE / max(shape), _MIN_DIAMETER / diameter)
    return min(zoom, most, _MOST_ENLARGED)
