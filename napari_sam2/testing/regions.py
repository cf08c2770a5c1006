"""Regions of a small picture, which are the toy model's features.

Pictures and masks are (h, w), cells are (y, x).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from skimage.measure import label

GridCell = tuple[int, int]


def find_part_at(mask: np.ndarray, cell: GridCell) -> np.ndarray:
    """Find the connected part of `mask` that contains `cell`; empty if the mask does not."""
    if not _has_cell(mask, cell):
        return np.zeros_like(mask, dtype=bool)
    numbered = _label_parts(mask)
    return np.asarray(numbered == numbered[cell])


def find_overlapping_parts(mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Find all connected parts of `mask` that share a cell with `other`."""
    numbered = _label_parts(mask)
    return np.asarray(np.isin(numbered, np.unique(numbered[mask & other])) & mask)


def make_box_mask(shape: tuple[int, int], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Make a mask of the cells whose centres lie in the box from `low` to `high`, both (y, x)."""
    rows, columns = np.indices(shape)
    return np.asarray(
        (rows >= low[0]) & (rows <= high[0]) & (columns >= low[1]) & (columns <= high[1])
    )


def remove_negative_clicks(
    mask: np.ndarray, cells: Sequence[GridCell], positive: Sequence[bool]
) -> np.ndarray:
    """Remove the cells of `mask` that negative clicks take.

    In a connected part with a negative click, each cell belongs to its nearest click.
    """
    remaining = mask.copy()
    for cell, is_positive in zip(cells, positive, strict=True):
        if is_positive or not _has_cell(remaining, cell):
            continue
        part = find_part_at(remaining, cell)
        clicks = [
            (each, sign)
            for each, sign in zip(cells, positive, strict=True)
            if _has_cell(part, each)
        ]
        part_cells = np.argwhere(part)
        click_cells = np.array([each for each, _ in clicks])
        distance = ((part_cells[:, None, :] - click_cells[None, :, :]) ** 2).sum(axis=-1)
        nearest_is_positive = np.array([sign for _, sign in clicks])[distance.argmin(axis=1)]
        lost = part_cells[~nearest_is_positive]
        remaining[lost[:, 0], lost[:, 1]] = False
    return remaining


def compute_centre(mask: np.ndarray) -> np.ndarray:
    """Compute the mean (y, x) of the cells of a mask that is not empty."""
    return np.asarray(np.argwhere(mask).mean(axis=0))


def _label_parts(mask: np.ndarray) -> np.ndarray:
    return np.asarray(label(mask))


def _has_cell(mask: np.ndarray, cell: GridCell) -> bool:
    inside = all(0 <= index < length for index, length in zip(cell, mask.shape, strict=True))
    return inside and bool(mask[cell])
