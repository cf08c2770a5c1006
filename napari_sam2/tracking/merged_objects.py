"""Sharing: several tracks in one body, as where cells touch so that nothing is seen between them; and the body parted again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping

import numpy as np
from scipy import ndimage

from napari_sam2.measurement.evaluation.matching import Overlap

_HELD = 0.6  # of a track's pixels: as many must lie in a body for the track to be in it
# of the areas of all that are said to be in a body: a smaller one is one of them, the others are
# gone
_FULL = 0.6


def shared(
    before: np.ndarray, found: np.ndarray, linked: Mapping[int, int], lasting: Container[int]
) -> dict[int, list[int]]:
    """Tracks by the body of `found` that holds several of them: the one it was linked to first, then those that would be lost.

    Parameters
    ----------
    before, found
        (H, W) label planes: tracks where they were last seen, bodies of the frame.
    linked
        The body by the track it is, as `linking.link` says.
    lasting
        Tracks that were seen apart for long enough to be believed; no other is looked for in a
        body.
    """
    overlap = Overlap.of(before, found)
    area = dict(zip(overlap.truth.tolist(), overlap.truth_px.tolist(), strict=True))
    room = dict(zip(overlap.predicted.tolist(), overlap.predicted_px.tolist(), strict=True))
    owner = {body: track for track, body in linked.items()}
    held: dict[int, list[int]] = defaultdict(list)
    for first, second, n in zip(overlap.first, overlap.second, overlap.shared_px, strict=True):
        track, body = int(overlap.truth[first]), int(overlap.predicted[second])
        seen = owner.get(body) in area  # where its owner lies is known only then
        if (
            seen
            and track not in linked
            and track in lasting
            and owner[body] in lasting
            and n >= _HELD * area[track]
        ):
            held[body].append(track)
    found_in: dict[int, list[int]] = {}
    for body, others in held.items():
        inside = [owner[body]]
        for track in sorted(others, key=lambda each: -area[each]):
            if room[body] >= _FULL * sum(area[each] for each in (*inside, track)):
                inside.append(track)
        if len(inside) > 1:
            found_in[body] = inside
    return found_in


def parted(body: np.ndarray, before: np.ndarray, tracks: list[int]) -> np.ndarray:
    """(H, W) label plane of a body's pixels, each the one of `tracks` that was nearest to it in the plane `before`."""
    rows, columns = np.nonzero(body | np.isin(before, tracks))
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    away = np.stack([ndimage.distance_transform_edt(before[box] != track) for track in tracks])
    # Inside an outline depth counts, so that what both held goes to the one it lies deeper in.
    away -= np.stack([ndimage.distance_transform_edt(before[box] == track) for track in tracks])
    pieces = np.zeros(body.shape, dtype=before.dtype)
    pieces[box] = np.where(body[box], np.asarray(tracks)[away.argmin(axis=0)], 0)
    return pieces
