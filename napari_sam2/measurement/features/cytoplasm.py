"""Cytoplasm around nuclei: a ring around each object, or cells from a second label plane."""

from __future__ import annotations

import numpy as np

from napari_sam2.measurement.features.background import compute_background
from napari_sam2.measurement.features.regions import LabelRegions, find_ring_pixels

CYTOPLASM_COLUMNS = ("cytoplasm_mean", "nucleus_cytoplasm")


def find_cytoplasm_pixels(
    regions: LabelRegions, *, reach_px: int, cells: np.ndarray | None = None
) -> list[np.ndarray]:
    """The flat indices of the cytoplasm of each object; no pixel of an object belongs to it.

    Parameters
    ----------
    reach_px
        Without `cells`: the cytoplasm is within this distance of the object, except the adjacent
        pixels, because they contain its blurred edge.
    cells
        (H, W) label plane of whole cells: the cytoplasm is in the cell that contains most of the
        object.
    """
    if cells is None:
        return [
            find_ring_pixels(regions.codes, code, box, min_distance_px=1, max_distance_px=reach_px)
            for code, box in enumerate(regions.boxes, start=1)
        ]
    owners = [_find_owner(regions.get_values(index, cells)) for index in range(len(regions))]
    return _find_cell_pixels(regions, cells, owners)


def _find_cell_pixels(
    regions: LabelRegions, cells: np.ndarray, owners: list[int]
) -> list[np.ndarray]:
    """For each of `owners`, the flat indices of the pixels of this cell and of no object."""
    candidates = np.flatnonzero((cells.ravel() > 0) & (regions.codes.ravel() == 0))
    labels = cells.ravel()[candidates]
    order = np.argsort(labels, kind="stable")
    unique = sorted(set(owners) - {0})
    starts, ends = (np.searchsorted(labels[order], unique, side=side) for side in ("left", "right"))
    pixels = {
        cell: candidates[order[start:end]]
        for cell, start, end in zip(unique, starts, ends, strict=True)
    }
    return [pixels.get(owner, candidates[:0]) for owner in owners]


def measure_cytoplasm(
    regions: LabelRegions,
    pixels: np.ndarray,
    cytoplasm_pixels: list[np.ndarray],
    object_means: np.ndarray,
) -> dict[str, np.ndarray]:
    """`CYTOPLASM_COLUMNS` of each object, (n,) float64 each.

    `nucleus_cytoplasm` is the ratio of the means of object and cytoplasm, both minus the median of
    all pixels of no object; NaN if there is no cytoplasm, or its mean is not above that median.

    Parameters
    ----------
    pixels
        The raw (H, W) plane of a channel.
    cytoplasm_pixels
        As `find_cytoplasm_pixels` returns them.
    object_means
        (n,) mean intensity of each object.
    """
    image = pixels.astype(np.float64)
    flat = image.ravel()
    means = np.array(
        [flat[indices].mean() if indices.size else np.nan for indices in cytoplasm_pixels],
        dtype=np.float64,
    )
    background = compute_background(regions, image)
    signal = means - background
    ratio = np.divide(
        object_means - background, signal, out=np.full(len(regions), np.nan), where=signal > 0
    )
    return {"cytoplasm_mean": means, "nucleus_cytoplasm": ratio}


def _find_owner(values: np.ndarray) -> int:
    """The most frequent label, 0 for the background."""
    labels, counts = np.unique(values, return_counts=True)
    return int(labels[counts.argmax()])
