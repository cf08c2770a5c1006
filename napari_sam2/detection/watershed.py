"""Segmentation of bright objects in a plane or volume, by a watershed of local maxima.

The steps: local background, Laplacian of Gaussian, watershed, merging, half maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.morphology import convex_hull_image
from skimage.segmentation import watershed

from napari_sam2.detection.object_scale import DIAMETER_PER_SIGMA

# lengths are relative to the diameter of an object

_SMOOTHING = 1 / 14  # less than the narrowest gap between neighbours
# scales of the Laplacian, relative to the one that fits the diameter: touching objects stay two
_SEED_SCALES = (0.6, 0.85)
_MIN_SEED_DISTANCE = 0.35
# brightness relative to the brightest nearby: above it, the texture of an object makes no seeds
_SATURATION = 0.8
_BACKGROUND_SMOOTHING = 1 / 8  # before the darkest pixel nearby is taken as background
# how far the darkest of a few dozen pixels lies below the mean, in standard deviations of the noise
_MINIMUM_BIAS = 2.0
_MIN_SNR = 5.0  # above the background: no object is dimmer
_OTSU_FRACTION = 0.5  # of Otsu's threshold: keeps dim objects beside bright ones
_EDGE_FRACTION = 0.45  # of an object's own brightness: where its edge is
# of the area of a disc or the volume of a ball of this diameter, by number of axes
_MIN_SIZE = {2: 0.15, 3: 0.3}
# brightness of a seam relative to its sides, by number of axes: brighter seams separate nothing
_MIN_MERGE_RATIO = {2: 0.9, 3: 1.0}
_SIDE_OFFSET = 0.25  # from a seam to both sides, where its brightness is compared in a volume
# area relative to the convex hull: basins that are this convex together are one object
_MIN_SOLIDITY = 0.96
_SIGMA_PER_MAD = 1.4826
_MIN_RESPONSE = 1e-5  # smaller responses are rounding errors


@dataclass(frozen=True, eq=False)
class Foreground:
    """A smoothed image above its local background; objects are above `threshold`."""

    above_background: np.ndarray
    threshold: float

    @classmethod
    def of(cls, image: np.ndarray, diameter: Sequence[float]) -> Foreground:
        """Of a plane or volume of bright objects; `diameter` in pixels along each axis."""
        smooth_px = [max(0.7, _SMOOTHING * each) for each in diameter]
        smooth = ndimage.gaussian_filter(image, smooth_px)
        above = smooth - _estimate_background(image, diameter)
        noise = _estimate_noise(image)
        calmed = (
            _MINIMUM_BIAS
            * noise
            * _compute_noise_gain([max(1.0, _BACKGROUND_SMOOTHING * each) for each in diameter])
        )
        least = _MIN_SNR * noise * _compute_noise_gain(smooth_px) + calmed + 1e-4
        return cls(
            above,
            max(least, _OTSU_FRACTION * float(threshold_otsu(above)))
            if np.ptp(above) > 0
            else np.inf,
        )


def segment_objects(image: np.ndarray, diameter: Sequence[float]) -> np.ndarray:
    """Segment the bright objects of a plane or volume.

    Parameters
    ----------
    image
        (H, W) or (D, H, W) intensities in 0..1.
    diameter
        Diameter of a typical object in pixels, along each axis.

    Returns
    -------
    numpy.ndarray
        int32 labels of the same shape, from 1; all 0 if nothing stands out of the noise.
    """
    image = np.asarray(image, dtype=np.float32)
    light = Foreground.of(image, diameter)
    if not np.isfinite(light.threshold):
        return np.zeros(image.shape, dtype=np.int32)
    response = compute_response(flatten_brightness(light, diameter), diameter)
    places = find_seeds(light, response, diameter)
    if not len(places):
        return np.zeros(image.shape, dtype=np.int32)
    marks = np.zeros(image.shape, dtype=np.int32)
    marks[tuple(places.T)] = np.arange(1, len(places) + 1)
    basins = watershed(-response, marks, mask=light.above_background > light.threshold)
    return _trim_objects(_merge_basins(basins, light, diameter), light, diameter)


def find_seeds(
    foreground: Foreground, response: np.ndarray, diameter: Sequence[float]
) -> np.ndarray:
    """(n, d) positions of objects: maxima of the response on bright pixels."""
    bright = foreground.above_background > foreground.threshold
    footprint = make_ball([_MIN_SEED_DISTANCE * each for each in diameter])
    found = peak_local_max(
        np.where(bright, response, 0.0),
        footprint=footprint,
        threshold_abs=_MIN_RESPONSE,
        exclude_border=False,
    )
    return np.asarray(found)


def flatten_brightness(foreground: Foreground, diameter: Sequence[float]) -> np.ndarray:
    """Brightness in 0..1 relative to the brightest nearby.

    Dim objects count like bright ones, and gaps stay dark.
    """
    brightest = ndimage.maximum_filter(
        foreground.above_background, size=[2 * int(each / 2) + 1 for each in diameter]
    )
    nearby = ndimage.gaussian_filter(brightest, [0.3 * each for each in diameter])
    return np.asarray(
        np.minimum(
            1.0,
            np.maximum(0.0, foreground.above_background)
            / (_SATURATION * np.maximum(nearby, foreground.threshold)),
        ),
        dtype=np.float32,
    )


def compute_response(image: np.ndarray, diameter: Sequence[float]) -> np.ndarray:
    """The larger of two Laplacians of Gaussian, for bright objects of this diameter."""
    scales = [np.array(diameter) / DIAMETER_PER_SIGMA * part for part in _SEED_SCALES]
    return np.asarray(np.max([_compute_laplacian(image, sigma) for sigma in scales], axis=0))


def _compute_laplacian(image: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Minus the Laplacian of Gaussian, each axis in units of its own spread."""
    total = np.zeros_like(image)
    for axis, spread in enumerate(sigma):
        order = [0] * image.ndim
        order[axis] = 2
        total -= float(spread) ** 2 * ndimage.gaussian_filter(image, sigma, order=order)
    return total


def _estimate_background(image: np.ndarray, diameter: Sequence[float]) -> np.ndarray:
    """The local background: the darkest pixels within about a diameter, smoothed."""
    calm = ndimage.gaussian_filter(
        image, [max(1.0, _BACKGROUND_SMOOTHING * each) for each in diameter]
    )
    lowest = ndimage.minimum_filter(calm, size=[2 * int(1.25 * each) + 1 for each in diameter])
    return np.asarray(
        ndimage.gaussian_filter(lowest, [1.2 * each for each in diameter], truncate=2.0)
    )


def _compute_noise_gain(sigma: Sequence[float]) -> float:
    """Standard deviation of white noise of 1 after a Gaussian filter."""
    return float(np.prod([1 / np.sqrt(2 * np.sqrt(np.pi) * each) for each in sigma]))


def _estimate_noise(image: np.ndarray) -> float:
    """Standard deviation of a pixel's noise, from second differences (Immerkaer 1996)."""
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]], dtype=np.float32)
    rough = ndimage.convolve(
        image, kernel.reshape((1,) * (image.ndim - 2) + (3, 3)), mode="nearest"
    )
    return float(_SIGMA_PER_MAD * np.median(np.abs(rough)) / 6.0)


def _merge_basins(
    basins: np.ndarray, foreground: Foreground, diameter: Sequence[float]
) -> np.ndarray:
    """Merge basins whose seam is as bright as its sides, if they are convex together."""
    boxes = ndimage.find_objects(basins)
    edges = np.maximum(
        foreground.threshold,
        _EDGE_FRACTION * _measure_brightness(basins, foreground.above_background),
    )
    members = np.where(
        foreground.above_background > edges[basins], basins, 0
    )  # a blurred margin is no part of the shape
    found = sorted(_measure_seams(basins, foreground.above_background, diameter), reverse=True)
    seams = [
        (first, second) for ratio, first, second in found if ratio >= _MIN_MERGE_RATIO[basins.ndim]
    ]
    owner = _group_by_seams(seams, len(boxes))
    # first try all basins that are connected: the quarters of a disc are not convex in pairs
    for group in np.unique(owner):
        together = np.flatnonzero(owner == group)
        if len(together) > 1 and _compute_solidity(members, boxes, together) < _MIN_SOLIDITY:
            owner[together] = together
    for first, second in seams:
        a, b = _find_root(owner, first), _find_root(owner, second)
        together = np.array(
            [number for number in range(len(owner)) if _find_root(owner, number) in (a, b)]
        )
        if a != b and _compute_solidity(members, boxes, together) >= _MIN_SOLIDITY:
            owner[b] = a
    return np.asarray(
        np.array([_find_root(owner, number) for number in range(len(owner))], dtype=np.int32)[
            basins
        ]
    )


def _measure_brightness(basins: np.ndarray, above_background: np.ndarray) -> np.ndarray:
    """(count + 1,) 90th percentile of each basin; 0 for the background."""
    boxes = enumerate(ndimage.find_objects(basins), 1)
    return np.array(
        [
            0.0,
            *(
                float(np.percentile(above_background[box][basins[box] == number], 90))
                for number, box in boxes
            ),
        ]
    )


def _group_by_seams(seams: Sequence[tuple[int, int]], count: int) -> np.ndarray:
    """(count + 1,) the first basin of the group that each is connected to by seams."""
    owner = np.arange(count + 1)
    for first, second in seams:
        a, b = sorted((_find_root(owner, first), _find_root(owner, second)))
        owner[b] = a
    return np.array([_find_root(owner, number) for number in range(count + 1)])


def _find_root(owner: np.ndarray, number: int) -> int:
    while owner[number] != number:
        number = int(owner[number])
    return number


def _measure_seams(
    basins: np.ndarray, above_background: np.ndarray, diameter: Sequence[float]
) -> list[tuple[float, int, int]]:
    """(seam brightness relative to the dimmer side, first, second) of all neighbours.

    In a volume, each voxel of a seam is compared with those beside it: objects fade towards their
    ends in z, and their seams fade with them, but only a gap is darker than both of its sides.
    """
    pairs, places, values = _find_touching_pixels(basins, above_background)
    edges, which = np.unique(pairs, axis=0, return_inverse=True)
    if not len(edges):
        return []
    which = which.ravel()
    if basins.ndim == 3:
        compared = _sample_dimmer_side(
            places, _compute_side_offsets(basins, edges, diameter)[which], above_background
        )
    else:
        compared = _measure_brightness(basins, above_background)[edges].min(axis=1)[which]
    order = np.argsort(which, kind="stable")
    parts = np.split(
        (values / np.maximum(1e-9, compared))[order], np.flatnonzero(np.diff(which[order])) + 1
    )
    return [
        (float(np.median(part)), int(a), int(b)) for part, (a, b) in zip(parts, edges, strict=True)
    ]  # the median ignores where the seam meets the edge


def _compute_side_offsets(
    basins: np.ndarray, pairs: np.ndarray, diameter: Sequence[float]
) -> np.ndarray:
    """(n, d) offsets from a seam into the second of each (n, 2) pair, towards its middle."""
    middles = np.array(ndimage.center_of_mass(basins > 0, basins, np.arange(1, basins.max() + 1)))
    ways = (middles[pairs[:, 1] - 1] - middles[pairs[:, 0] - 1]) / np.asarray(diameter)
    return np.asarray(
        _SIDE_OFFSET
        * np.asarray(diameter)
        * ways
        / np.maximum(1e-9, np.linalg.norm(ways, axis=1, keepdims=True))
    )


def _sample_dimmer_side(
    positions: np.ndarray, offsets: np.ndarray, above_background: np.ndarray
) -> np.ndarray:
    """(n,) brightness on the dimmer side of each position."""
    sides = [
        ndimage.map_coordinates(above_background, (positions + way).T, order=1, mode="nearest")
        for way in (-offsets, offsets)
    ]
    return np.asarray(np.minimum(*sides))


def _find_touching_pixels(
    basins: np.ndarray, above_background: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbouring pixels of two basins.

    Returns (n, 2) basins, the lower number first; (n, d) where they meet; (n,) the dimmer pixel.
    """
    pairs, places, values = [], [], []
    for axis in range(basins.ndim):
        here = tuple(
            slice(None, -1) if each == axis else slice(None) for each in range(basins.ndim)
        )
        there = tuple(
            slice(1, None) if each == axis else slice(None) for each in range(basins.ndim)
        )
        touching = (basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0)
        pairs.append(
            np.sort(np.stack([basins[here][touching], basins[there][touching]], axis=1), axis=1)
        )
        places.append(np.argwhere(touching) + 0.5 * (np.arange(basins.ndim) == axis))
        values.append(
            np.minimum(above_background[here][touching], above_background[there][touching])
        )
    return np.concatenate(pairs), np.concatenate(places), np.concatenate(values)


def _compute_solidity(
    basins: np.ndarray, boxes: Sequence[tuple[slice, ...]], members: np.ndarray
) -> float:
    """Pixels of these basins relative to those of their convex hull; 1 if they are convex."""
    mine = [boxes[number - 1] for number in members]
    around = tuple(
        slice(min(b[axis].start for b in mine), max(b[axis].stop for b in mine))
        for axis in range(basins.ndim)
    )
    # a rough hull is enough to tell one object from two, and costs little
    step = max(1, max(each.stop - each.start for each in around) // 24)
    mask = np.isin(basins[around][(slice(None, None, step),) * basins.ndim], members)
    places = np.argwhere(mask)
    if len(places) <= mask.ndim or np.linalg.matrix_rank(places - places[0]) < mask.ndim:
        return 1.0
    return float(len(places) / np.count_nonzero(convex_hull_image(mask, offset_coordinates=False)))


def _trim_objects(
    basins: np.ndarray, foreground: Foreground, diameter: Sequence[float]
) -> np.ndarray:
    """Trim each basin to its half maximum: largest piece, holes filled, small ones dropped.

    The labels are numbered from 1.
    """
    ball = np.pi / 4 if basins.ndim == 2 else np.pi / 6
    least = _MIN_SIZE[basins.ndim] * ball * float(np.prod(diameter))
    labels, count, boxes = np.zeros(basins.shape, dtype=np.int32), 0, ndimage.find_objects(basins)
    for number in np.unique(basins[basins > 0]).tolist():
        box = boxes[number - 1]
        mask, above = basins[box] == number, foreground.above_background[box]
        mask &= above > max(
            foreground.threshold, _EDGE_FRACTION * float(np.percentile(above[mask], 90))
        )
        pieces, n = ndimage.label(mask)
        if n > 1:
            mask = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
        if np.count_nonzero(mask) < least:
            continue
        count += 1
        mask = ndimage.binary_fill_holes(mask)
        labels[box][mask & (labels[box] == 0)] = count
    return labels


def make_ball(radii: Sequence[float]) -> np.ndarray:
    """An ellipsoid footprint of these half axes in pixels, at least one pixel each."""
    reach = [max(1, int(each)) for each in radii]
    places = np.indices([2 * each + 1 for each in reach]) - np.array(reach).reshape(
        -1, *(1,) * len(reach)
    )
    within = sum(
        (place / max(1.0, radius)) ** 2 for place, radius in zip(places, radii, strict=True)
    )
    return np.asarray(within <= 1.0)
