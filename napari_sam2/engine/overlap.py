"""Overlap: many tracks' logits on one frame become one plane of labels, the strongest logit winning each pixel."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from napari_sam2.core.result import Segment


def label_type(max_track: int) -> np.dtype[np.unsignedinteger]:
    """uint16 where all track ids fit, else uint32."""
    return np.dtype(np.uint16 if max_track <= np.iinfo(np.uint16).max else np.uint32)


def label_plane(segments: Iterable[Segment], shape: tuple[int, int], *, dtype: np.dtype[np.unsignedinteger] | None = None) -> np.ndarray:
    """(H, W) labels: each pixel belongs to the present track with the highest logit above 0, else to 0.

    Logits are brought to the frame's pixels bilinearly, and only where a track has any. A tie goes to the lower id,
    so that the order of `segments` does not matter.
    """
    ordered = sorted((segment for segment in segments if segment.present), key=lambda segment: segment.track)
    dtype = dtype or label_type(max((segment.track for segment in ordered), default=0))
    labels = np.zeros(shape, dtype=dtype)
    strongest = np.zeros(shape, dtype=np.float32)
    for segment in ordered:
        rows, columns = segment.window.region(segment.logits, shape)
        logits = segment.window.paste(segment.logits, rows, columns)
        wins = logits > strongest[rows, columns]
        labels[rows, columns][wins] = segment.track
        strongest[rows, columns][wins] = logits[wins]
    return labels


def mask(segment: Segment, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: this track alone, whatever overlaps it."""
    return label_plane([segment], shape) > 0
