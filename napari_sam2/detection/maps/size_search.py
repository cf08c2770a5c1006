"""The size of the objects of a stack that nobody has measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam2.core.protocols import SIZE_OCTAVES, WORKING_DIAMETER, ObjectMapModel
from napari_sam2.detection.maps.blocks import divide_into_blocks
from napari_sam2.detection.maps.instances import segment_maps
from napari_sam2.detection.maps.planes import Maps, Plane, resample
from napari_sam2.detection.maps.sizes import measure_sizes

_ZOOMS = (0.25, 0.5, 1.0, 2.0)  # in which a plane is searched for the size of objects
_VOTE_DIAMETER = 26.0  # the size the votes are trusted most at
_SEARCH_SIDE = 640  # pixels: of a larger plane a part is searched
_MIN_SEARCH_SIDE = 64
_MIN_VOTES = 0.02  # of what an image full of objects gives: below it there is nothing to measure
_MIN_PEAK = 0.3  # of the highest: a lower peak of the votes is no answer
_MAX_REFINEMENTS = 3
_SAME_SIZE = 0.12  # octaves: nearer than that, a size is found
_PLANES_REFINED = 3  # that the answers are compared on
_SIZE_TOLERANCE, _WORKING_TOLERANCE = 0.5, 0.7  # octaves
# An answer that explains the image so well beside the best is as good: then the finer one is
# taken, because a heap of objects passes for an object more often than a part of one.
_MIN_QUALITY = 0.65


@dataclass(frozen=True)
class _SizeAnswer:
    """A diameter in pixels, and how well (0..1) the objects found with it are what they seem."""

    diameter: float
    quality: float


def estimate_diameter(model: ObjectMapModel, planes: Sequence[Plane]) -> float | None:
    """Diameter in pixels of typical objects of the (H, W) planes of a stack; None if there is none.

    Each plane, in 0..1, is looked at in four zooms; every pixel deep inside an object votes for
    its size, all planes together. The peaks of the votes are answers; each is tried, and the size
    of what is found with it is the next answer, until both agree. `measure_sizes` says what a size
    is.
    """
    peaks = _collect_votes(model, planes)
    some = planes[:: max(1, -(-len(planes) // _PLANES_REFINED))]
    answers = [_refine_size(model, some, diameter) for diameter in peaks]
    best = max((answer.quality for answer in answers), default=0.0)
    good = [a.diameter for a in answers if a.quality >= _MIN_QUALITY * best]
    return min(good, default=None)


def _collect_votes(model: ObjectMapModel, planes: Sequence[Plane]) -> list[float]:
    """Diameters in pixels that many pixels vote for."""
    votes, weights, strength = [], [], 0.0
    for plane in planes:
        for zoom, maps in _search_zooms(model, plane):
            size = SIZE_OCTAVES * maps[3]
            weight = np.clip(2 * maps[0] - 1, 0, 1) * maps[1]
            weight = weight * np.exp(-((size - np.log2(_VOTE_DIAMETER)) ** 2))
            share = min(1.0, float(weight.mean()) / 0.002)
            strength = max(strength, share)
            votes.append((size - np.log2(zoom)).ravel())
            weights.append((weight / (weight.sum() + 1e-9) * share).ravel())
    if strength < _MIN_VOTES:
        return []
    bins = np.arange(0.5, 11.6, 0.1)
    heights = np.histogram(np.concatenate(votes), bins, weights=np.concatenate(weights))[0]
    heights = ndi.gaussian_filter1d(heights, 3)
    is_peak = (heights >= np.roll(heights, 1)) & (heights > np.roll(heights, -1))
    peaks = np.flatnonzero(is_peak & (heights > _MIN_PEAK * heights.max()))
    return [float(2 ** (bins[peak] + 0.05)) for peak in peaks]


def _search_zooms(model: ObjectMapModel, plane: Plane) -> Iterator[tuple[float, Maps]]:
    for zoom in _ZOOMS:
        if zoom == 1 or zoom * max(plane.shape) >= _MIN_SEARCH_SIDE:
            yield zoom, _predict_part(model, plane, zoom)


def _refine_size(model: ObjectMapModel, planes: Sequence[Plane], diameter: float) -> _SizeAnswer:
    """The size near a first answer that the objects found with it have themselves."""
    answer = _SizeAnswer(diameter, 0.0)
    for _ in range(_MAX_REFINEMENTS):
        found = [_measure_answer(model, plane, diameter) for plane in planes]
        sizes, areas, qualities = (np.concatenate(each) for each in zip(*found, strict=True))
        if not len(sizes):
            break
        answer = _SizeAnswer(diameter, float((areas * qualities).sum() / areas.sum()))
        measured = diameter * float(np.median(sizes)) / WORKING_DIAMETER
        if abs(np.log2(measured / diameter)) < _SAME_SIZE:
            break
        diameter = measured
    return answer


def _measure_answer(
    model: ObjectMapModel, plane: Plane, diameter: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sizes in zoomed pixels, areas and qualities of the objects found at a diameter.

    The quality of an object is its depth, less if its own pixels say another size, or if it is
    not of the size that the plane was zoomed for.
    """
    maps = _predict_part(model, plane, WORKING_DIAMETER / diameter)
    labels = segment_maps(maps)
    numbers = np.arange(1, int(labels.max(initial=0)) + 1)
    sizes = measure_sizes(labels)
    logs = np.log2(np.maximum(sizes, 1))
    expected = SIZE_OCTAVES * np.asarray(ndi.median(maps[3], labels, numbers))
    agreement = np.exp(-((logs - expected) ** 2) / _SIZE_TOLERANCE)
    off_size = (logs - np.log2(WORKING_DIAMETER)) / _WORKING_TOLERANCE
    deepest = np.asarray(ndi.maximum(maps[1], labels, numbers))
    areas = np.bincount(labels.ravel(), minlength=len(numbers) + 1)[1:]
    return sizes, areas.astype(float), deepest * agreement * np.exp(-(off_size**2) / 2)


def _predict_part(model: ObjectMapModel, plane: Plane, zoom: float) -> Maps:
    part = _choose_part(plane, int(_SEARCH_SIDE / zoom))
    shape = [max(1, round(zoom * length)) for length in part.shape]
    return np.asarray(model.predict(resample(part, shape)[None])[0])


def _choose_part(plane: Plane, side: int) -> Plane:
    """The part of a plane, at most `side` pixels long, that shows most."""
    blocks = divide_into_blocks(plane.shape, side, 0)
    if len(blocks) == 1:
        return plane
    step = max(1, side // 64)
    spread = [float(plane[block.core][::step, ::step].std()) for block in blocks]
    return plane[blocks[int(np.argmax(spread))].core]
