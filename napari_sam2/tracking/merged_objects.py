"""Merged objects: several tracks in one detection, as when cells touch; and splitting it again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence

import numpy as np
from scipy import ndimage

from napari_sam2.measurement.label_overlap import LabelOverlap

# share of a track's pixels that must lie in a detection for the track to be part of it
_MIN_CONTAINED_FRACTION = 0.6
# area of a detection relative to all tracks in it: a smaller one is one of them, the others left
_MIN_AREA_FRACTION = 0.6


def find_merged_objects(
    previous: np.ndarray,
    current: np.ndarray,
    links: Mapping[int, int],
    confirmed_tracks: Container[int],
) -> dict[int, list[int]]:
    """Find detections that hold several tracks.

    Parameters
    ----------
    previous, current
        (H, W) label planes: tracks where they were last seen, and detections of the frame.
    links
        Detections by the track they are, from `link_frames`.
    confirmed_tracks
        Tracks that were seen apart for long enough; only these can be merged.

    Returns
    -------
    dict
        Tracks by detection: the one it is linked to first, then those that would be lost.
    """
    overlap = LabelOverlap.of(previous, current)
    areas = dict(zip(overlap.first.tolist(), overlap.first_px.tolist(), strict=True))
    sizes = dict(zip(overlap.second.tolist(), overlap.second_px.tolist(), strict=True))
    owners = {detection: track for track, detection in links.items()}
    contained: dict[int, list[int]] = defaultdict(list)
    pairs = zip(overlap.first_index, overlap.second_index, overlap.shared_px, strict=True)
    for first, second, shared_px in pairs:
        track, detection = int(overlap.first[first]), int(overlap.second[second])
        owner = owners.get(detection)
        if (
            owner in areas  # else nobody knows where the owner was
            and owner in confirmed_tracks
            and track not in links
            and track in confirmed_tracks
            and shared_px >= _MIN_CONTAINED_FRACTION * areas[track]
        ):
            contained[detection].append(track)
    merged = {
        detection: _select_tracks(owners[detection], others, areas, sizes[detection])
        for detection, others in contained.items()
    }
    return {detection: tracks for detection, tracks in merged.items() if len(tracks) > 1}


def _select_tracks(
    owner: int, others: Sequence[int], areas: Mapping[int, int], size: int
) -> list[int]:
    """The owner and the largest other tracks that there is room for."""
    tracks = [owner]
    for track in sorted(others, key=lambda each: -areas[each]):
        together = sum(areas[each] for each in (*tracks, track))
        if size >= _MIN_AREA_FRACTION * together:
            tracks.append(track)
    return tracks


def split_merged_object(mask: np.ndarray, previous: np.ndarray, tracks: list[int]) -> np.ndarray:
    """Split a detection between tracks: each pixel goes to the nearest one.

    Parameters
    ----------
    mask
        (H, W) bool: the detection.
    previous
        (H, W) labels of tracks where they were last seen.
    tracks
        Tracks in the detection.

    Returns
    -------
    numpy.ndarray
        (H, W) labels of the tracks.
    """
    rows, columns = np.nonzero(mask | np.isin(previous, tracks))
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    away = np.stack([ndimage.distance_transform_edt(previous[box] != track) for track in tracks])
    # inside several masks, a pixel goes to the one in which it lies deeper
    away -= np.stack([ndimage.distance_transform_edt(previous[box] == track) for track in tracks])
    pieces = np.zeros(mask.shape, dtype=previous.dtype)
    pieces[box] = np.where(mask[box], np.asarray(tracks)[away.argmin(axis=0)], 0)
    return pieces
