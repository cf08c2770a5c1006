"""Frames of DICOM files: where each lies in space, when it was taken, and what its values mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.io.readers.dicom.headers import read_header
from napari_sam2.io.readers.dicom.values import (
    ModalityTransform,
    get_stored_range,
    make_transform,
)

_DEFAULT_ORIENTATION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_MAX_ANGLE = 1e-3  # by which the directions of slices may differ, in radians
_MAX_SPACING_DEVIATION = 1e-3  # of the distance of pixels, relative
_SHOWN_FILES = 3

TIME_KEYS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "AcquisitionNumber",
    "InstanceNumber",
    "AcquisitionDateTime",
    "FrameAcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
"""Elements that can order the frames at one position in time, the most explicit first."""

_KIND_KEYS = (
    "Modality",
    "Units",
    "RescaleType",
    "PhotometricInterpretation",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
)
"""Elements that are the same in all slices of one stack."""


@dataclass(frozen=True, eq=False)
class DicomFrame:
    """One frame of a DICOM file.

    Parameters
    ----------
    file, number
        The file, and the position of the frame in it.
    n_frames, size
        How many frames the file has, and their (rows, columns).
    orientation, position_mm
        Directions of a row and of a column, and the place of the first pixel, in the patient
        (x to the left, y to the back, z to the head); None if not stated.
    pixel_mm
        Distance between rows, and between columns.
    transform, stored
        What stored numbers mean, and their smallest and largest.
    times
        The elements that order frames in time.
    kind
        Texts that are the same for all frames that may be stacked, by what they say.
    """

    file: str
    number: int
    n_frames: int
    size: tuple[int, int]
    orientation: tuple[float, ...] | None
    position_mm: tuple[float, ...] | None
    pixel_mm: tuple[float, float] | None
    transform: ModalityTransform
    stored: tuple[int, int]
    times: dict[str, Any]
    kind: dict[str, str]

    @property
    def label(self) -> str:
        """The name of the file, and the frame in it if there are several."""
        name = Path(self.file).name
        return name if self.n_frames == 1 else f"{name} frame {self.number + 1}"


def list_frames(files: Sequence[Path]) -> list[DicomFrame]:
    """The frames of all files, those of one file in its order."""
    return [frame for file in files for frame in _list_file_frames(file, read_header(file))]


def _list_file_frames(file: Path, header: Any) -> list[DicomFrame]:
    n_frames = int(header.get("NumberOfFrames") or 1)
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])[:1]
    own = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    if own and len(own) != n_frames:
        raise FileError(
            f"{file}: describes {len(own)} of {n_frames} frames: it is damaged; export it again"
        )
    offsets = _get_offsets(header, n_frames)
    shared_elements = _flatten_groups(shared)
    return [
        _make_frame(
            file,
            header,
            number,
            shared_elements | _flatten_groups(own[number : number + 1]),
            None if offsets is None else offsets[number],
        )
        for number in range(n_frames)
    ]


def _flatten_groups(groups: Sequence[Any]) -> dict[str, Any]:
    """The elements of functional groups by keyword; each group is a sequence of one item."""
    return {
        element.keyword: element.value
        for group in groups
        for macro in group
        if macro.VR == "SQ" and macro.value
        for element in macro.value[0]
    }


def _make_frame(
    file: Path, header: Any, number: int, elements: Mapping[str, Any], offset_mm: float | None
) -> DicomFrame:
    """A frame of a file; its functional groups come before the header."""
    n_frames = int(header.get("NumberOfFrames") or 1)

    def find(name: str) -> Any:
        value = elements.get(name)
        return header.get(name) if value is None else value

    orientation = _read_numbers(find("ImageOrientationPatient"), 6)
    position = _read_numbers(find("ImagePositionPatient"), 3)
    if offset_mm is not None and position is not None:
        position = tuple((position + compute_normal(orientation) * offset_mm).tolist())
    elif n_frames > 1 and "ImagePositionPatient" not in elements:
        position = None  # one position for many frames tells the place of none
    pixel = _read_numbers(find("PixelSpacing"), 2)
    size = (int(header.Rows), int(header.Columns))
    kind = {name: _format(find(name)) for name in _KIND_KEYS}
    return DicomFrame(
        str(file),
        number,
        n_frames,
        size,
        orientation,
        position,
        (pixel[0], pixel[1]) if pixel else None,
        make_transform(header, elements),
        get_stored_range(header),
        {name: find(name) for name in TIME_KEYS if find(name) is not None},
        kind
        | {
            "size": f"{size[0]} × {size[1]}",
            "ImageType": _format((find("FrameType") or find("ImageType") or ())[2:]),
        },
    )


def _get_offsets(header: Any, n_frames: int) -> np.ndarray | None:
    """Offsets in mm of the frames along their normal (dose volumes); None if not stated."""
    vector = header.get("GridFrameOffsetVector")
    if vector is None or len(vector) != n_frames:
        return None
    offsets = np.asarray(vector, dtype=float)
    return np.asarray(offsets - offsets[0])


def _read_numbers(values: Any, count: int) -> tuple[float, ...] | None:
    if values is None or len(values) != count:
        return None
    return tuple(float(value) for value in values)


def _format(value: Any) -> str:
    """A value for error texts, with numbers rounded."""
    if value is None or value == "":
        return "none"
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    return ", ".join(_format(each) for each in value) or "none"


def compute_normal(orientation: tuple[float, ...] | None) -> np.ndarray:
    """The unit vector along which slices follow each other."""
    directions = np.asarray(orientation or _DEFAULT_ORIENTATION, dtype=float)
    normal = np.cross(directions[:3], directions[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length else np.array([0.0, 0.0, 1.0])


def check_alike(frames: Sequence[DicomFrame], source: Path) -> None:
    """Raise FileError, naming the files, unless all frames may be slices of one stack."""
    for what in frames[0].kind:
        counts = Counter(frame.kind[what] for frame in frames)
        usual, _ = counts.most_common(1)[0]
        others = [frame for frame in frames if frame.kind[what] != usual]
        if others:
            raise _make_error(source, frames, others, what, others[0].kind[what], usual)
    for what, tolerance in (("orientation", _MAX_ANGLE), ("pixel_mm", 0.0)):
        values = [getattr(frame, what) for frame in frames]
        stated = [value for value in values if value is not None]
        if not stated:
            continue
        usual_numbers = np.median(np.array(stated), axis=0)
        allowed = tolerance or _MAX_SPACING_DEVIATION * float(np.min(usual_numbers))
        others = [
            frame
            for frame, value in zip(frames, values, strict=True)
            if value is None or np.abs(np.array(value) - usual_numbers).max() > allowed
        ]
        if others:
            name = "pixel spacing" if what == "pixel_mm" else what
            raise _make_error(
                source,
                frames,
                others,
                name,
                _format(getattr(others[0], what)),
                _format(usual_numbers.tolist()),
            )


def _make_error(
    source: Path,
    frames: Sequence[DicomFrame],
    others: Sequence[DicomFrame],
    what: str,
    value: str,
    usual: str,
) -> FileError:
    return FileError(
        f"{source}: {what} is {value} in {name_frames(others)} and {usual} in the other "
        f"{len(frames) - len(others)}: expected slices alike; move localisers and other images to "
        "their own folders"
    )


def name_frames(frames: Sequence[DicomFrame]) -> str:
    """The names of frames, for error texts; of many, the first ones."""
    names = [frame.label for frame in frames]
    rest = len(names) - _SHOWN_FILES
    return ", ".join(names[:_SHOWN_FILES]) + (f" and {rest} more" if rest > 0 else "")
