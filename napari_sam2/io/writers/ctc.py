"""Results as the Cell Tracking Challenge has them: ``mask000.tif`` … and ``res_track.txt``; read again, and ground truth too.

The format: https://celltrackingchallenge.net, "Naming and file content conventions". A track there
has no gaps, and ends before its daughters begin; where ours does not, it is cut, and the next piece
names the one before as its parent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Stack
from napari_sam2.core.track import Branch
from napari_sam2.io.atomic import write_atomically
from napari_sam2.io.open import open_labels
from napari_sam2.io.tables import write_text

TRACK_FILES = ("res_track.txt", "man_track.txt")
_MAX_LABEL = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True, eq=False)
class LabelsWithParents:
    """Labels over time, (frames, H, W), and the parent of each track that has one."""

    labels: Stack
    parents: Mapping[int, int]


def write_ctc(
    folder: Path,
    get_plane: Callable[[int], np.ndarray],
    n_frames: int,
    parents: Mapping[int, int] | None = None,
) -> list[Branch]:
    """Write label planes and their lineage into a folder that is there; the branches as they are written.

    Planes are read twice, one at a time. Ids stay as they are where they fit into 16 bit, else they
    are numbered anew.
    """
    seen: dict[int, list[int]] = defaultdict(list)
    for frame in range(n_frames):
        for track in np.unique(get_plane(frame)).tolist():
            if track:
                seen[track].append(frame)
    pieces = _split_into_ctc_tracks(seen, dict(parents or {}))
    digits = max(3, len(str(n_frames - 1)))
    for frame in range(n_frames):
        here = {piece.track: piece.label for piece in pieces if piece.first <= frame <= piece.last}
        with write_atomically(folder / f"mask{frame:0{digits}d}.tif") as part:
            tifffile.imwrite(part, _relabel_plane(get_plane(frame), here), compression="zlib")
    rows = [
        Branch(piece.label, piece.first, piece.last, piece.parent)
        for piece in sorted(pieces, key=lambda each: each.label)
    ]
    write_text(
        "".join(f"{row.track} {row.first} {row.last} {row.parent}\n" for row in rows),
        folder / TRACK_FILES[0],
    )
    return rows


def read_ctc(folder: Path) -> LabelsWithParents:
    """Labels and parents of a folder of masks with its ``res_track.txt`` or ``man_track.txt`` (``01_RES``, ``01_GT/TRA``).

    Raises FileError where there are no masks or no track file, or a line of it is no four whole
    numbers.
    """
    file = next((folder / name for name in TRACK_FILES if (folder / name).is_file()), None)
    if file is None:
        raise FileError(f"{folder}: expected {' or '.join(TRACK_FILES)} beside the masks")
    parents = {row.track: row.parent for row in _read_branches(file) if row.parent}
    planes = sorted([*folder.glob("mask*.tif"), *folder.glob("man_track*.tif")])
    if not planes:
        raise FileError(
            f"{folder}: holds no masks: expected mask000.tif or man_track000.tif and so on"
        )
    pattern = folder / ("mask*.tif" if planes[0].name.startswith("mask") else "man_track*.tif")
    return LabelsWithParents(
        open_labels(str(pattern), axes="TYX" if len(planes) > 1 else "YX"), parents
    )


def is_ctc_folder(path: Path) -> bool:
    """Whether this is a folder that `read_ctc` reads."""
    return path.is_dir() and any((path / name).is_file() for name in TRACK_FILES)


@dataclass
class _CtcTrack:
    """A part of a track without gaps: `label` is what it is called in the files."""

    track: int
    first: int
    last: int
    label: int = 0
    parent: int = 0


def _split_into_ctc_tracks(
    frames_by_track: Mapping[int, Sequence[int]], parents: Mapping[int, int]
) -> list[_CtcTrack]:
    births: dict[int, set[int]] = defaultdict(set)
    for child, parent in parents.items():
        if child in frames_by_track and parent in frames_by_track:
            births[parent].add(frames_by_track[child][0])
    by_track = {
        track: _split_at_gaps(track, frames, births[track])
        for track, frames in frames_by_track.items()
    }
    later = max(frames_by_track, default=0)
    renumber = later + sum(len(pieces) - 1 for pieces in by_track.values()) > _MAX_LABEL
    label = 0 if renumber else later
    for track, pieces in sorted(by_track.items()):
        for number, piece in enumerate(pieces):
            if number == 0 and not renumber:
                piece.label = track
            else:
                label += 1
                piece.label = label
            piece.parent = pieces[number - 1].label if number else 0
    for child, parent in parents.items():
        if child in frames_by_track and parent in frames_by_track:
            before = [piece for piece in by_track[parent] if piece.last < frames_by_track[child][0]]
            by_track[child][0].parent = before[-1].label if before else 0
    return [piece for pieces in by_track.values() for piece in pieces]


def _split_at_gaps(
    track: int, frames: Sequence[int], division_frames: Iterable[int]
) -> list[_CtcTrack]:
    pieces = [_CtcTrack(track, frames[0], frames[0])]
    for frame in frames[1:]:
        if frame == pieces[-1].last + 1 and frame not in set(division_frames):
            pieces[-1].last = frame
        else:
            pieces.append(_CtcTrack(track, frame, frame))
    return pieces


def _relabel_plane(plane: np.ndarray, new_labels: Mapping[int, int]) -> np.ndarray:
    ids = np.array([0, *sorted(new_labels)], dtype=np.int64)
    values = np.array([new_labels.get(int(each), 0) for each in ids], dtype=np.uint16)
    return np.asarray(values[np.searchsorted(ids, plane)])


def _read_branches(file: Path) -> list[Branch]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            track, first, last, parent = (int(part) for part in line.split())
        except ValueError as error:
            raise FileError(
                f"{file}: line {number} is {line!r}: expected four whole numbers, L B E P"
            ) from error
        rows.append(Branch(track, first, last, parent))
    return rows
