"""Results in the format of the Cell Tracking Challenge: ``mask000.tif`` … and ``res_track.txt``.

The format: https://celltrackingchallenge.net, "Naming and file content conventions". A track of
this format has no gaps, and ends before its daughters begin. A track of ours that breaks these
rules is split into segments; each segment has the one before as its parent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile

from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.track import Branch
from napari_sam2.io.readers.ctc import RESULT_TRACK_FILE
from napari_sam2.io.tables import write_text

_MAX_LABEL = int(np.iinfo(np.uint16).max)


def write_ctc(
    folder: Path,
    get_plane: Callable[[int], np.ndarray],
    n_frames: int,
    parents: Mapping[int, int] | None = None,
) -> list[Branch]:
    """Write label planes and their lineage into an existing folder, and return its branches.

    Each plane is read twice, one at a time. Tracks keep their ids if all fit into 16 bits;
    otherwise they are renumbered.

    Parameters
    ----------
    get_plane
        Returns the (H, W) labels of a frame.
    parents
        The parent of each track that has one.
    """
    segments = _split_into_segments(_collect_frames(get_plane, n_frames), dict(parents or {}))
    n_digits = max(3, len(str(n_frames - 1)))
    for frame in range(n_frames):
        labels = {each.track: each.label for each in segments if each.first <= frame <= each.last}
        with write_atomically(folder / f"mask{frame:0{n_digits}d}.tif") as part:
            tifffile.imwrite(part, _relabel_plane(get_plane(frame), labels), compression="zlib")
    segments.sort(key=lambda segment: segment.label)
    branches = [Branch(each.label, each.first, each.last, each.parent) for each in segments]
    lines = [f"{each.track} {each.first} {each.last} {each.parent}\n" for each in branches]
    write_text("".join(lines), folder / RESULT_TRACK_FILE)
    return branches


@dataclass
class _TrackSegment:
    """A part of a track without gaps; `label` and `parent` are its numbers in the files."""

    track: int
    first: int
    last: int
    label: int = 0
    parent: int = 0


def _collect_frames(get_plane: Callable[[int], np.ndarray], n_frames: int) -> dict[int, list[int]]:
    """The frames of each track, ascending."""
    frames: dict[int, list[int]] = defaultdict(list)
    for frame in range(n_frames):
        for track in np.unique(get_plane(frame)).tolist():
            if track:
                frames[track].append(frame)
    return frames


def _split_into_segments(
    frames_by_track: Mapping[int, Sequence[int]], parents: Mapping[int, int]
) -> list[_TrackSegment]:
    """The segments of all tracks, numbered, with their parents."""
    parents = {
        child: parent
        for child, parent in parents.items()
        if child in frames_by_track and parent in frames_by_track
    }
    division_frames: dict[int, set[int]] = defaultdict(set)
    for child, parent in parents.items():
        division_frames[parent].add(frames_by_track[child][0])
    by_track = {
        track: _split_track(track, frames_by_track[track], division_frames[track])
        for track in sorted(frames_by_track)
    }
    _number_segments(by_track)
    for segments in by_track.values():
        for before, segment in pairwise(segments):
            segment.parent = before.label
    for child, parent in parents.items():
        birth = frames_by_track[child][0]
        earlier = [segment for segment in by_track[parent] if segment.last < birth]
        by_track[child][0].parent = earlier[-1].label if earlier else 0
    return [segment for segments in by_track.values() for segment in segments]


def _split_track(
    track: int, frames: Sequence[int], division_frames: Collection[int]
) -> list[_TrackSegment]:
    """Split a track at its gaps, and where its daughters begin."""
    segments = [_TrackSegment(track, frames[0], frames[0])]
    for frame in frames[1:]:
        if frame == segments[-1].last + 1 and frame not in division_frames:
            segments[-1].last = frame
        else:
            segments.append(_TrackSegment(track, frame, frame))
    return segments


def _number_segments(by_track: Mapping[int, list[_TrackSegment]]) -> None:
    """Give first segments the id of their track and later ones new labels.

    If that needs more than 16 bits, all segments are numbered from 1.
    """
    max_track = max(by_track, default=0)
    n_later = sum(len(segments) - 1 for segments in by_track.values())
    keep_ids = max_track + n_later <= _MAX_LABEL
    next_label = max_track + 1 if keep_ids else 1
    for track, segments in by_track.items():
        for segment in segments:
            if keep_ids and segment is segments[0]:
                segment.label = track
            else:
                segment.label = next_label
                next_label += 1


def _relabel_plane(plane: np.ndarray, new_labels: Mapping[int, int]) -> np.ndarray:
    ids = np.array([0, *sorted(new_labels)], dtype=np.int64)
    labels = np.array([0, *(new_labels[int(each)] for each in ids[1:])], dtype=np.uint16)
    return np.asarray(labels[np.searchsorted(ids, plane)])
