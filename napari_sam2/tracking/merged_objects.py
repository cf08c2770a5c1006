"""Sharing: several tracks in one body, as where cells touch so that nothing is seen between them; and the body parted again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping

import numpy as np
from scipy import ndimage

from napari_sam2.measurement.evaluation.matching import LabelOverlap

_MIN_CONTAINED_PART = (
    0.6  # of a track's pixels: as many must lie in a body for the track to be in it
)
# of the areas of all that are said to be in a body: a smaller one is one of them, the others are
# gone
_MIN_AREA_PART = 0.6


def find_merged_objects(
    previous: np.ndarray,
    current: np.ndarray,
    links: Mapping[int, int],
    confirmed_tracks: Container[int],
) -> dict[int, list[int]]:
    """Tracks by the body of `current` that holds several of them: the one it was linked to first, then those that would be lost.

    Parameters
    ----------
    previous, current
        (H, W) label planes: tracks where they were last seen, bodies of the frame.
    links
        The body by the track it is, as `linking.link` says.
    confirmed_tracks
        Tracks that were seen apart for long enough to be believed; no other is looked for in a
        body.
    """
    overlap = LabelOverlap.of(previous, current)
    area = dict(zip(overlap.truth.tolist(), overlap.truth_px.tolist(), strict=True))
    room = dict(zip(overlap.predicted.tolist(), overlap.predicted_px.tolist(), strict=True))
    owner = {body: track for track, body in links.items()}
    held: dict[int, list[int]] = defaultdict(list)
    for first, second, n in zip(
        overlap.truth_index, overlap.predicted_index, overlap.shared_px, strict=True
    ):
        track, body = int(overlap.truth[first]), int(overlap.predicted[second])
        seen = owner.get(body) in area  # where its owner lies is known only then
        if (
            seen
            and track not in links
            and track in confirmed_tracks
            and owner[body] in confirmed_tracks
            and n >= _MIN_CONTAINED_PART * area[track]
        ):
            held[body].append(track)
    found_in: dict[int, list[int]] = {}
    for body, others in held.items():
        inside = [owner[body]]
        for track in sorted(others, key=lambda each: -area[each]):
            if room[body] >= _MIN_AREA_PART * sum(area[each] for each in (*inside, track)):
                inside.append(track)
        if len(inside) > 1:
            found_in[body] = inside
    return found_in


def split_merged_object(mask: np.ndarray, previous: np.ndarray, tracks: list[int]) -> np.ndarray:
    """(H, W) label plane of a body's pixels, each the one of `tracks` that was nearest to it in the plane `previous`."""
    rows, columns = np.nonzero(mask | np.isin(previous, tracks))
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    away = np.stack([ndimage.distance_transform_edt(previous[box] != track) for track in tracks])
    # Inside an outline depth counts, so that what both held goes to the one it lies deeper in.
    away -= np.stack([ndimage.distance_transform_edt(previous[box] == track) for track in tracks])
    pieces = np.zeros(mask.shape, dtype=previous.dtype)
    pieces[box] = np.where(mask[box], np.asarray(tracks)[away.argmin(axis=0)], 0)
    return pieces
