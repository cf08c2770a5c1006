"""Overlaps: the logits of all tracks on a frame become one label plane, per pixel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from napari_sam2.core.result import Segment
from napari_sam2.core.sam2_constants import MASK_PROMPT_LOGIT


def choose_label_dtype(max_track: int) -> np.dtype[np.unsignedinteger]:
    """uint16 if all track ids fit, else uint32."""
    return np.dtype(np.uint16 if max_track <= np.iinfo(np.uint16).max else np.uint32)


def compose_label_plane(
    segments: Iterable[Segment],
    shape: tuple[int, int],
    *,
    drawn_masks: Mapping[int, np.ndarray] | None = None,
    dtype: np.dtype[np.unsignedinteger] | None = None,
) -> np.ndarray:
    """(H, W) labels: each pixel gets the present track with the highest logit above 0, else 0.

    A tie goes to the lower id, so that the order of `segments` does not matter.

    Parameters
    ----------
    drawn_masks
        (H, W) bool by track: masks that a person drew, which replace the resampled segment and
        have the logit that SAM 2 gives to mask prompts.
    dtype
        See `choose_label_dtype`, the default.
    """
    ordered = sorted(
        (segment for segment in segments if segment.present), key=lambda segment: segment.track
    )
    dtype = dtype or choose_label_dtype(max((segment.track for segment in ordered), default=0))
    labels = np.zeros(shape, dtype=dtype)
    strongest = np.zeros(shape, dtype=np.float32)
    for segment in ordered:
        rows, columns, logits = (
            _crop_drawn_mask(drawn_masks[segment.track])
            if drawn_masks and segment.track in drawn_masks
            else _paste_segment(segment, shape)
        )
        wins = logits > strongest[rows, columns]
        labels[rows, columns][wins] = segment.track
        strongest[rows, columns][wins] = logits[wins]
    return labels


def _paste_segment(segment: Segment, shape: tuple[int, int]) -> tuple[slice, slice, np.ndarray]:
    rows, columns = segment.window.find_positive_region(segment.logits, shape)
    return rows, columns, segment.window.paste(segment.logits, rows, columns)


def _crop_drawn_mask(mask: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    rows, columns = (
        slice(cells[0], cells[-1] + 1)
        for cells in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    )
    return rows, columns, np.where(mask[rows, columns], MASK_PROMPT_LOGIT, -MASK_PROMPT_LOGIT)


def compute_mask(segment: Segment, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of one track, ignoring overlaps."""
    return compose_label_plane([segment], shape) > 0
