"""DICOM files: which they are, and their headers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_sam2.core.errors import FileError
from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.io.readers.files import convert_read_errors, get_file_stamp

SUFFIXES = (".dcm", ".dicom", ".ima")

_DICM_MARKER = b"DICM"  # after a preamble of 128 bytes, see DICOM PS3.10, 7.1
_NATIVE_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by the ending of its name or by its content."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # files are often named by a UID
        return False
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == _DICM_MARKER
    except OSError:
        return False


def list_dicom_files(folder: Path) -> list[Path]:
    """The DICOM files directly in a folder."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and is_dicom(path)
    ]


def read_header(path: Path) -> Any:
    """The header of a file without its pixels.

    Raises FileError unless it is a grey image whose declared size fits into the file.
    """
    return _read_header(str(path), get_file_stamp(path))


@lru_cache(maxsize=4096)  # headers of slices, no pixels
def _read_header(path: str, file_stamp: tuple[int, int]) -> Any:
    with convert_read_errors(f"{path}: cannot be read as DICOM", "a whole DICOM file"):
        header = import_extra("pydicom", MEDICAL, f"{path}: DICOM").dcmread(
            path, stop_before_pixels=True
        )
        _check_header(header, path, file_stamp[1])
        return header


def _check_header(header: Any, path: str, file_bytes: int) -> None:
    size = [int(header.get(name) or 0) for name in ("Rows", "Columns")]
    n_frames = int(header.get("NumberOfFrames") or 1)
    if min(*size, n_frames) < 1:
        raise FileError(
            f"{path}: declares {n_frames} frames of {size[0]} × {size[1]}: expected an image with "
            "Rows and Columns"
        )
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise FileError(
            f"{path}: is {size[0]} × {size[1]} with {header.SamplesPerPixel} values a pixel: "
            "expected a grey image"
        )
    if int(header.get("TotalPixelMatrixColumns") or 0) > size[1]:
        raise FileError(
            f"{path}: is a whole slide in tiles: expected slices or frames; export the part to use"
        )
    bits = int(header.get("BitsAllocated") or 8)
    # one byte a frame is the least that a compressed frame takes
    native = str(header.file_meta.get("TransferSyntaxUID", "")) in _NATIVE_SYNTAXES
    declared = n_frames * (size[0] * size[1] * bits // 8 if native else 1)
    if declared > file_bytes:
        raise FileError(
            f"{path}: declares {n_frames} frames of {size[0]} × {size[1]}, at least {declared} "
            f"bytes, but has {file_bytes}: it is truncated or damaged; copy or export it again"
        )
