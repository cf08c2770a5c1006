"""Cell Tracking Challenge folders: ``01``, ``02``, … with ``01_GT/SEG`` (whole outlines on some frames) and ``01_GT/TRA`` (who is who).

Outlines take their number from the marker they hold, since only markers are numbered through time.
Format: https://celltrackingchallenge.net/datasets/, "Naming and file content conventions".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import tifffile

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.core.stack import Video
from napari_sam2.io.open import open_stack
from napari_sam2.io.readers.files import convert_read_errors
from napari_sam2.train.data.annotated import ReadOptions
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack

_UNMARKED_OFFSET = (
    1_000_000  # added, with the frame, to outlines that hold no marker: objects that nobody follows
)
_TRUTH_SUFFIXES = ("GT", "ST")  # people's, and the silver truth made of many algorithms' answers


def is_ctc(folder: Path) -> bool:
    """Whether this is a data set (with sequences in it) or one of its sequences."""
    return bool(_find_sequences(folder))


def open_ctc(folder: str | Path, *, options: ReadOptions | None = None) -> list[AnnotatedStack]:
    """The pairs of all sequences of a data set, or of one of them; each sequence is a group.

    Outlines of GT are used where there are any, else those of ST, which the name of the pair then
    says. A 3D sequence is walked along z unless `options` says t.

    Raises
    ------
    FileError
        No sequence with truth, or files that cannot be read.
    LabelsError
        Markers without outlines, or of another shape than the images.
    """
    sequences = _find_sequences(Path(folder))
    if not sequences:
        raise FileError(f"{folder}: no sequence with its truth: expected folders 01 and 01_GT")
    return [
        pair
        for sequence in sequences
        for pair in _open_sequence(sequence, options or ReadOptions())
    ]


def _find_sequences(folder: Path) -> list[Path]:
    here = [folder] if re.fullmatch(r"\d\d", folder.name) else sorted(folder.glob("[0-9][0-9]"))
    return [
        each
        for each in here
        if each.is_dir()
        and any(_get_truth_folder(each, truth).is_dir() for truth in _TRUTH_SUFFIXES)
    ]


def _get_truth_folder(sequence: Path, truth: str) -> Path:
    return sequence.with_name(f"{sequence.name}_{truth}")


@dataclass(frozen=True)
class _OutlineFile:
    """A file of outlines: of frame `t`, of slice `z` of it or, where that is None, of all its slices."""

    path: Path
    t: int
    z: int | None


def _find_outlines(sequence: Path) -> tuple[str, list[_OutlineFile]]:
    for truth in _TRUTH_SUFFIXES:
        found = []
        for path in sorted((_get_truth_folder(sequence, truth) / "SEG").glob("man_seg*.tif")):
            match = re.fullmatch(r"man_seg_?(\d+)(?:_(\d+))?", path.stem)
            if match:
                found.append(_OutlineFile(path, int(match[1]), int(match[2]) if match[2] else None))
        if found:
            return truth, found
    raise LabelsError(
        f"{sequence}: has no outlines (SEG/man_seg*.tif), only markers: expected filled objects "
        "to train on"
    )


def _open_sequence(sequence: Path, options: ReadOptions) -> list[AnnotatedStack]:
    truth, outlines = _find_outlines(sequence)
    stack = open_stack(sequence, axes=options.axes or _guess_axes(sequence))
    places = {
        (each.t, z): each
        for each in outlines
        for z in (range(stack.sizes.get("z", 1)) if each.z is None else (each.z,))
    }
    along = options.along or ("z" if "z" in stack.axes else "t")
    fixed = [axis for axis in stack.axes[:-2] if axis not in ("c", along)]
    truths = _GroundTruth(places, _get_truth_folder(sequence, "GT") / "TRA")
    pairs = []
    for at in sorted({tuple((axis, t if axis == "t" else z) for axis in fixed) for t, z in places}):
        unscaled = Video.of(
            stack, along=along, channel=options.channel, contrast=Contrast(0, 1), at=dict(at)
        )
        frames = [frame for frame in range(len(unscaled)) if truths.has_outlines(unscaled, frame)]
        if frames:
            video = Video.of(stack, along=along, channel=options.channel, at=dict(at))
            where = "".join(f" {axis}={number}" for axis, number in at)
            name = f"{sequence.parent.name}/{sequence.name}{where}" + (
                "" if truth == "GT" else f" ({truth})"
            )
            pairs.append(
                AnnotatedStack(
                    name,
                    str(sequence),
                    video.shape,
                    tuple(frames),
                    partial(_read_plane, video, truths),
                )
            )
    if not pairs:
        raise LabelsError(f"{sequence}: its outlines hold no object: expected at least one")
    return pairs


def _guess_axes(sequence: Path) -> str:
    files = sorted(sequence.glob("*.tif"))
    if not files:
        raise FileError(f"{sequence}: holds no images: expected t000.tif and so on")
    return ("t" if len(files) > 1 else "") + ("yx" if _read_image(files[0]).ndim == 2 else "zyx")


def _read_plane(video: Video, truths: _GroundTruth, frame: int) -> AnnotatedPlane:
    return video.read_frame(frame).pixels, truths.load_labels(video, frame)


@dataclass(frozen=True)
class _GroundTruth:
    """The outlines of each (t, z) there are outlines of, and the folder of the markers."""

    outlines: Mapping[tuple[int, int], _OutlineFile]
    markers: Path

    def has_outlines(self, video: Video, frame: int) -> bool:
        """Whether there are outlines of an object on this frame."""
        where = video.axis_indices(frame)
        return (where.get("t", 0), where.get("z", 0)) in self.outlines and bool(
            self.load_labels(video, frame).any()
        )

    def load_labels(self, video: Video, frame: int) -> np.ndarray:
        """(H, W) int32 outlines of a frame, numbered by the markers in them."""
        where = video.axis_indices(frame)
        t, z = where.get("t", 0), where.get("z", 0)
        outlines = self.outlines[t, z]
        drawn = _read_outline_plane(outlines.path, z if outlines.z is None else 0)
        if drawn.shape != video.shape[1:]:
            raise LabelsError(
                f"{outlines.path}: outlines {drawn.shape!r}, images {video.shape[1:]!r}: "
                "expected the same shape"
            )
        paths = (self.markers / f"man_track{t:0{digits}d}.tif" for digits in (3, 4))
        marked = next(
            (_read_outline_plane(path, z) for path in paths if path.is_file()), np.zeros_like(drawn)
        )
        return _number_by_markers(drawn, marked, _UNMARKED_OFFSET * (t + 1))


def _read_outline_plane(path: Path, z: int) -> np.ndarray:
    image = _read_image(path)
    return np.asarray(image if image.ndim == 2 else image[z], dtype=np.int32)


@lru_cache(maxsize=8)  # a volume of outlines is asked for slice by slice
def _read_image(path: Path) -> np.ndarray:
    with convert_read_errors(f"{path}: cannot be read as TIFF", "one image of the sequence"):
        return np.asarray(tifffile.imread(path))


def _number_by_markers(
    outlines: np.ndarray, markers: np.ndarray, unmarked_offset: int
) -> np.ndarray:
    """Each outline with the number of the marker that covers most of it; `unmarked_offset` is added to those that hold none."""
    numbers = np.arange(int(outlines.max()) + 1) + unmarked_offset
    numbers[0] = 0
    both = (outlines > 0) & (markers > 0)
    pairs, counts = np.unique(np.stack([outlines[both], markers[both]]), axis=1, return_counts=True)
    for number in np.argsort(counts):
        numbers[pairs[0, number]] = pairs[1, number]
    return np.asarray(numbers[outlines], dtype=np.int32)
