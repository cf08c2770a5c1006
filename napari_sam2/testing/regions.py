"""Regions of a small picture: what the toy model sees in place of features.

Pictures and masks are (h, w), places (y, x) cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.measure import label

GridCell = tuple[int, int]


def find_part_at(mask: np.ndarray, cell: GridCell) -> np.ndarray:
    """The connected part of `mask` that holds `cell`; empty where the mask does not hold it."""
    if not _has_cell(mask, cell):
        return np.zeros_like(mask, dtype=bool)
    numbered = _label_parts(mask)
    return np.asarray(numbered == numbered[cell])


def find_overlapping_parts(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """All connected parts of `mask` that share a cell with `other`."""
    numbered = _label_parts(mask)
    return np.asarray(np.isin(numbered, np.unique(numbered[mask & other])) & mask)


def make_box_mask(shape: tuple[int, int], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Cells whose centres lie in the box from `low` to `high`, both (y, x)."""
    rows, columns = np.indices(shape)
    return np.asarray(
        (rows >= low[0]) & (rows <= high[0]) & (columns >= low[1]) & (columns <= high[1])
    )


def remove_negative_clicks(
    mask: np.ndarray, cells: Sequence[GridCell], positive: Sequence[bool]
) -> np.ndarray:
    """`mask` without what its negative clicks take: in a part that holds one, each cell goes with its nearest click."""
    kept = mask.copy()
    for cell, wanted in zip(cells, positive, strict=True):
        if wanted or not _has_cell(kept, cell):
            continue
        part = find_part_at(kept, cell)
        clicks = [
            (each, flag)
            for each, flag in zip(cells, positive, strict=True)
            if _has_cell(part, each)
        ]
        places = np.argwhere(part)
        distance = (
            (places[:, None, :] - np.array([each for each, _ in clicks])[None, :, :]) ** 2
        ).sum(axis=-1)
        lost = places[~np.array([flag for _, flag in clicks])[distance.argmin(axis=1)]]
        kept[lost[:, 0], lost[:, 1]] = False
    return kept


def compute_centre(mask: np.ndarray) -> np.ndarray:
    """(y, x) mean of the cells of a mask that is not empty."""
    return np.asarray(np.argwhere(mask).mean(axis=0))


def _label_parts(mask: np.ndarray) -> np.ndarray:
    return np.asarray(label(mask))


def _has_cell(mask: np.ndarray, cell: GridCell) -> bool:
    return all(
        0 <= place < length for place, length in zip(cell, mask.shape, strict=True)
    ) and bool(mask[cell])
