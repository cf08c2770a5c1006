"""Labels and parents in the format of the Cell Tracking Challenge.

The format: https://celltrackingchallenge.net, "Naming and file content conventions".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Stack
from napari_sam2.core.track import Branch
from napari_sam2.io.open import open_labels
from napari_sam2.io.readers.files import read_utf8_text

RESULT_TRACK_FILE = "res_track.txt"
"""The file of branches in a folder of results."""

_TRACK_FILES = (RESULT_TRACK_FILE, "man_track.txt")
_MASK_PATTERNS = ("mask*.tif", "man_track*.tif")


@dataclass(frozen=True, eq=False)
class LabelsWithParents:
    """Labels over time, (frames, H, W), and the parent of each track that has one."""

    labels: Stack
    parents: Mapping[int, int]


def is_ctc_folder(path: Path) -> bool:
    """Whether `read_ctc` reads this folder."""
    return path.is_dir() and any((path / name).is_file() for name in _TRACK_FILES)


def read_ctc(folder: Path) -> LabelsWithParents:
    """Read the masks of a folder and its track file, of results or of ground truth.

    Parameters
    ----------
    folder
        ``01_RES`` with ``mask000.tif`` … and ``res_track.txt``, or ``01_GT/TRA`` with
        ``man_track000.tif`` … and ``man_track.txt``.

    Raises
    ------
    FileError
        If there are no masks or no track file, or a line of it is not four whole numbers.
    """
    file = next((folder / name for name in _TRACK_FILES if (folder / name).is_file()), None)
    if file is None:
        raise FileError(f"{folder}: expected {' or '.join(_TRACK_FILES)} beside the masks")
    parents = {branch.track: branch.parent for branch in _read_branches(file) if branch.parent}
    counts = {pattern: len(list(folder.glob(pattern))) for pattern in _MASK_PATTERNS}
    pattern = next((pattern for pattern, count in counts.items() if count), None)
    if pattern is None:
        raise FileError(
            f"{folder}: contains no masks: expected mask000.tif, … or man_track000.tif, …"
        )
    axes = "TYX" if counts[pattern] > 1 else "YX"
    return LabelsWithParents(open_labels(str(folder / pattern), axes=axes), parents)


def _read_branches(file: Path) -> list[Branch]:
    branches = []
    lines = read_utf8_text(file, "a track file of the Cell Tracking Challenge").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            track, first, last, parent = (int(part) for part in line.split())
        except ValueError as error:
            raise FileError(
                f"{file}: line {number} is {line!r}: expected four whole numbers: label, first "
                "frame, last frame, parent"
            ) from error
        branches.append(Branch(track, first, last, parent))
    return branches
