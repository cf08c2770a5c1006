"""Tracks that follow the same object twice, or are too short."""

from __future__ import annotations

from collections import Counter

import numpy as np

from napari_sam2.propagation.session import Session

_DUPLICATE_IOU = 0.5  # two masks with this IoU are of one object


def filter_tracks(session: Session, min_frames: int) -> list[int]:
    """Tracks on at least `min_frames` frames that duplicate no earlier track.

    A track is a duplicate if it has the same mask as another one on most frames of the shorter one.
    """
    shared: Counter[tuple[int, int]] = Counter()
    present: Counter[int] = Counter()
    for frame in range(len(session.video)):
        duplicates, tracks = _compare_masks(session, frame)
        shared.update(duplicates)
        present.update(tracks)
    duplicate_tracks = {
        track
        for (track, other), count in shared.items()
        if 2 * count > min(present[track], present[other])
    }
    return [
        track
        for track in session.log.track_ids
        if track not in duplicate_tracks and present[track] >= min_frames
    ]


def _compare_masks(session: Session, frame: int) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs of tracks with the same mask on a frame, and the tracks with a mask."""
    shape = session.video.shape[1:]
    plane = np.zeros(shape, dtype=np.int32)
    areas: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for segment in session.get_segments(frame):
        if not segment.present:
            continue
        rows, columns = segment.window.find_positive_region(segment.logits, shape)
        mask = segment.window.paste(segment.logits, rows, columns) > 0
        areas[segment.track] = int(np.count_nonzero(mask))
        under, counts = np.unique(plane[rows, columns][mask], return_counts=True)
        for other, count in zip(under.tolist(), counts.tolist(), strict=True):
            union = areas.get(other, 0) + areas[segment.track] - count
            if other and count >= _DUPLICATE_IOU * union:
                pairs.append((segment.track, other))
        free = mask & (plane[rows, columns] == 0)
        plane[rows, columns][free] = segment.track
    return pairs, [track for track, area in areas.items() if area > 0]
