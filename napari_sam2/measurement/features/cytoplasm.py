"""Cytoplasm: what surrounds an object that is a nucleus, by a ring or by a second label plane."""

from __future__ import annotations

import numpy as np

from napari_sam2.measurement.features.intensity import compute_global_background
from napari_sam2.measurement.features.regions import LabelRegions, find_ring_pixels

CYTOPLASM_COLUMNS = ("cytoplasm_mean", "nucleus_cytoplasm")


def find_cytoplasm_pixels(
    regions: LabelRegions, *, reach_px: int, cells: np.ndarray | None = None
) -> list[np.ndarray]:
    """Per object the flat indices of its cytoplasm: pixels of no object.

    Those within `reach_px` pixels of the object, the very next to it left out (its own blurred
    edge); or, where the (H, W) label plane `cells` is given, those of the cell that holds most of
    the object.
    """
    if cells is None:
        return [
            find_ring_pixels(regions.codes, code, box, min_distance_px=1, max_distance_px=reach_px)
            for code, box in enumerate(regions.boxes, start=1)
        ]
    owners = [_find_owner(regions.get_values(index, cells)) for index in range(len(regions))]
    wanted = sorted(set(owners) - {0})
    free = np.flatnonzero((cells.ravel() > 0) & (regions.codes.ravel() == 0))
    of = cells.ravel()[free]
    order = np.argsort(of, kind="stable")
    starts, ends = (np.searchsorted(of[order], wanted, side=side) for side in ("left", "right"))
    pixels = {
        cell: free[order[start:end]] for cell, start, end in zip(wanted, starts, ends, strict=True)
    }
    return [pixels.get(owner, free[:0]) for owner in owners]


def measure_cytoplasm(
    regions: LabelRegions,
    pixels: np.ndarray,
    cytoplasm_pixels: list[np.ndarray],
    object_means: np.ndarray,
) -> dict[str, np.ndarray]:
    """`CYTOPLASM_COLUMNS` of each region, (n,) float64 each; `object_means` is that of each object.

    `nucleus_cytoplasm` is the ratio of the means of object and cytoplasm, the median outside all
    objects taken off both; NaN where there is no cytoplasm, or nothing in it above that.
    """
    flat = pixels.ravel().astype(np.float64)
    cytoplasm = np.array(
        [flat[each].mean() if each.size else np.nan for each in cytoplasm_pixels], dtype=np.float64
    )
    base = compute_global_background(regions, pixels.astype(np.float64))
    above = cytoplasm - base
    ratio = np.divide(
        object_means - base, above, out=np.full(len(regions), np.nan), where=above > 0
    )
    return {"cytoplasm_mean": cytoplasm, "nucleus_cytoplasm": ratio}


def _find_owner(values: np.ndarray) -> int:
    """The cell that holds most of these pixels, 0 for none."""
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])
