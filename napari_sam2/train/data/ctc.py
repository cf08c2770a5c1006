"""Cell Tracking Challenge folders as training data.

A folder holds sequences ``01``, ``02``, …, each with ``01_GT/SEG`` (outlines on some frames) and
``01_GT/TRA`` (markers of all objects on all frames). Outlines take the number of the marker inside
them, because only markers keep their number through time.
Format: https://celltrackingchallenge.net/datasets/, "Naming and file content conventions".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import tifffile

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.core.stack import Stack, Video
from napari_sam2.io.open import open_stack
from napari_sam2.io.readers.files import convert_read_errors
from napari_sam2.train.data.annotated import ReadOptions
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack

# Added, times the frame + 1, to the numbers of outlines without a marker: they belong to no track.
_UNMARKED_OFFSET = 1_000_000

# The gold truth, made by people, and the silver truth, made from results of many algorithms.
_TRUTH_SUFFIXES = ("GT", "ST")


def is_ctc(folder: Path) -> bool:
    """Whether a folder is a data set with sequences, or one of its sequences."""
    return bool(_find_sequences(folder))


def open_ctc(folder: str | Path, *, options: ReadOptions | None = None) -> list[AnnotatedStack]:
    """Open all sequences of a data set, or a single sequence; each sequence is a group.

    GT outlines are used if there are any, else ST outlines; the stack's name then contains ST.
    A 3D sequence is propagated along z, unless `along` of the options is t.

    Raises
    ------
    FileError
        No sequence with truth, or files that cannot be read.
    LabelsError
        Markers without outlines, or of another shape than the images.
    """
    sequences = _find_sequences(Path(folder))
    if not sequences:
        raise FileError(
            f"{folder}: holds no sequence with its truth: expected folders such as 01 and 01_GT"
        )
    return [
        pair
        for sequence in sequences
        for pair in _open_sequence(sequence, options or ReadOptions())
    ]


def _find_sequences(folder: Path) -> list[Path]:
    is_sequence = re.fullmatch(r"\d\d", folder.name)
    candidates = [folder] if is_sequence else sorted(folder.glob("[0-9][0-9]"))
    return [
        each
        for each in candidates
        if each.is_dir()
        and any(_get_truth_folder(each, truth).is_dir() for truth in _TRUTH_SUFFIXES)
    ]


def _get_truth_folder(sequence: Path, truth: str) -> Path:
    return sequence.with_name(f"{sequence.name}_{truth}")


@dataclass(frozen=True)
class _OutlineFile:
    """A file of outlines of time point `t`: of slice `z`, or of all slices if that is None."""

    path: Path
    t: int
    z: int | None


def _find_outlines(sequence: Path) -> tuple[str, list[_OutlineFile]]:
    """Find the outlines of a sequence, and the suffix of the truth they belong to."""
    for truth in _TRUTH_SUFFIXES:
        paths = sorted((_get_truth_folder(sequence, truth) / "SEG").glob("man_seg*.tif"))
        matches = [(path, re.fullmatch(r"man_seg_?(\d+)(?:_(\d+))?", path.stem)) for path in paths]
        files = [
            _OutlineFile(path, int(match[1]), int(match[2]) if match[2] else None)
            for path, match in matches
            if match
        ]
        if files:
            return truth, files
    raise LabelsError(
        f"{sequence}: has no outlines (SEG/man_seg*.tif), only markers: expected filled objects "
        "to train on"
    )


@dataclass(frozen=True)
class _Sequence:
    """An opened sequence with its truth, propagated along one axis of its stack."""

    folder: Path
    stack: Stack
    along: str
    channel: int | None
    truth_suffix: str
    truth: _GroundTruth

    @classmethod
    def of(cls, folder: Path, options: ReadOptions) -> _Sequence:
        suffix, files = _find_outlines(folder)
        stack = open_stack(folder, axes=options.axes or _guess_axes(folder))
        along = options.along or ("z" if "z" in stack.axes else "t")
        outlines = _index_outlines(files, stack.sizes.get("z", 1))
        truth = _GroundTruth(outlines, _get_truth_folder(folder, "GT") / "TRA")
        return cls(folder, stack, along, options.channel, suffix, truth)

    def list_positions(self) -> list[tuple[tuple[str, int], ...]]:
        """List the indices of the fixed axes at which there are outlines, e.g. (("z", 3),)."""
        fixed = [axis for axis in self.stack.axes[:-2] if axis not in ("c", self.along)]
        return sorted(
            {
                tuple((axis, t if axis == "t" else z) for axis in fixed)
                for t, z in self.truth.outlines
            }
        )

    def open_at(self, position: tuple[tuple[str, int], ...]) -> AnnotatedStack | None:
        """Open the annotated stack at a position; None if no frame shows an object."""
        unscaled = self._open_video(position, Contrast(0, 1))
        frames = [
            frame for frame in range(len(unscaled)) if self.truth.has_outlines(unscaled, frame)
        ]
        if not frames:
            return None
        video = self._open_video(position)
        return AnnotatedStack(
            self._format_name(position),
            str(self.folder),
            video.shape,
            tuple(frames),
            partial(_read_plane, video, self.truth),
        )

    def _open_video(
        self, position: tuple[tuple[str, int], ...], contrast: Contrast | None = None
    ) -> Video:
        """Open the video; without a contrast, one is estimated, which reads the images."""
        return Video.of(
            self.stack,
            along=self.along,
            channel=self.channel,
            contrast=contrast,
            at=dict(position),
        )

    def _format_name(self, position: tuple[tuple[str, int], ...]) -> str:
        indices = "".join(f" {axis}={number}" for axis, number in position)
        suffix = "" if self.truth_suffix == "GT" else f" ({self.truth_suffix})"
        return f"{self.folder.parent.name}/{self.folder.name}{indices}{suffix}"


def _open_sequence(folder: Path, options: ReadOptions) -> list[AnnotatedStack]:
    sequence = _Sequence.of(folder, options)
    stacks = [sequence.open_at(position) for position in sequence.list_positions()]
    found = [stack for stack in stacks if stack is not None]
    if not found:
        raise LabelsError(f"{folder}: its outlines hold no object: expected at least one")
    return found


def _index_outlines(
    files: Sequence[_OutlineFile], slices: int
) -> dict[tuple[int, int], _OutlineFile]:
    """Index files of outlines by time point and slice; a file of a whole volume has all slices."""
    return {
        (file.t, z): file
        for file in files
        for z in (range(slices) if file.z is None else (file.z,))
    }


def _guess_axes(sequence: Path) -> str:
    files = sorted(sequence.glob("*.tif"))
    if not files:
        raise FileError(f"{sequence}: holds no images: expected t000.tif, t001.tif, …")
    return ("t" if len(files) > 1 else "") + ("yx" if _read_image(files[0]).ndim == 2 else "zyx")


def _read_plane(video: Video, truth: _GroundTruth, frame: int) -> AnnotatedPlane:
    return video.read_frame(frame).pixels, truth.load_labels(video, frame)


@dataclass(frozen=True)
class _GroundTruth:
    """Files of outlines by time point and slice, and the folder of the markers."""

    outlines: Mapping[tuple[int, int], _OutlineFile]
    markers: Path

    def has_outlines(self, video: Video, frame: int) -> bool:
        """Whether this frame has outlines of an object."""
        indices = video.get_axis_indices(frame)
        return (indices.get("t", 0), indices.get("z", 0)) in self.outlines and bool(
            self.load_labels(video, frame).any()
        )

    def load_labels(self, video: Video, frame: int) -> np.ndarray:
        """Load (H, W) int32 outlines of a frame, numbered by the markers inside them."""
        indices = video.get_axis_indices(frame)
        t, z = indices.get("t", 0), indices.get("z", 0)
        file = self.outlines[t, z]
        outlines = _read_slice(file.path, z if file.z is None else 0)
        if outlines.shape != video.shape[1:]:
            raise LabelsError(
                f"{file.path}: the outlines are {outlines.shape!r}, the images "
                f"{video.shape[1:]!r}: expected the same shape"
            )
        paths = (self.markers / f"man_track{t:0{digits}d}.tif" for digits in (3, 4))
        markers = next(
            (_read_slice(path, z) for path in paths if path.is_file()), np.zeros_like(outlines)
        )
        return _number_by_markers(outlines, markers, _UNMARKED_OFFSET * (t + 1))


def _read_slice(path: Path, z: int) -> np.ndarray:
    image = _read_image(path)
    return np.asarray(image if image.ndim == 2 else image[z], dtype=np.int32)


@lru_cache(maxsize=8)  # the slices of a volume are read one after another
def _read_image(path: Path) -> np.ndarray:
    with convert_read_errors(f"{path}: cannot be read as TIFF", "one image of the sequence"):
        return np.asarray(tifffile.imread(path))


def _number_by_markers(
    outlines: np.ndarray, markers: np.ndarray, unmarked_offset: int
) -> np.ndarray:
    """Give each outline the number of the marker that covers most of it.

    `unmarked_offset` is added to the numbers of outlines without a marker.
    """
    numbers = np.arange(int(outlines.max()) + 1) + unmarked_offset
    numbers[0] = 0
    both = (outlines > 0) & (markers > 0)
    pairs, counts = np.unique(np.stack([outlines[both], markers[both]]), axis=1, return_counts=True)
    for index in np.argsort(counts):
        numbers[pairs[0, index]] = pairs[1, index]
    return np.asarray(numbers[outlines], dtype=np.int32)
