"""NRRD: volumes with their orientation in space."""

from __future__ import annotations

import bz2
import gzip
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.core.stack import ImageGeometry, Spacing
from napari_sam2.io.readers.files import (
    check_declared_bytes,
    check_inside_folder,
    convert_read_errors,
    get_file_stamp,
)
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import UNKNOWN_AXIS, OpenedImage, make_vector
from napari_sam2.io.units import convert_to_um

SUFFIXES = (".nrrd", ".nhdr")

_UM_PER_MM = 1e3  # the unit of a file that names none
_SIGNS_TO_RAS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}
_MAX_WHOLE_BYTES = 2**29  # of the pixels of a compressed file that is kept in memory
_SKIP_BYTES = 2**20
_ENCODINGS = {
    "gz": "gzip",
    "bz2": "bzip2",
    **dict.fromkeys(("txt", "text", "ascii", "hex"), "text"),
}
_SPACE_KINDS = ("domain", "space")
_AXES_BY_KIND = {"time": "t", "list": "c", "vector": "c", "rgb-color": "s", "rgba-color": "s"}


def open_nrrd(path: Path) -> OpenedImage:
    """Open a NRRD file.

    If the file names an anatomical space but no unit, lengths are in mm, as in other readers.
    """
    planes = NrrdPlanes.of(path)
    header = read_nrrd_header(path)
    axes = _get_axes(header, len(planes.shape))
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes[::-1],
        _make_spacing(header, axes),
        name=path.name.split(".")[0],
        source=str(path),
        geometry=_make_geometry(header),
    )


def _make_geometry(header: Mapping[str, Any]) -> ImageGeometry | None:
    """The space directions and the origin; None unless both are given in three dimensions."""
    directions, origin = header.get("space directions"), header.get("space origin")
    if directions is None or origin is None or len(origin) != 3:
        return None
    space = str(header.get("space", ""))
    signs = _SIGNS_TO_RAS.get(space.lower())
    units = [str(unit) for unit in header.get("space units", []) if unit]
    to_um = (convert_to_um(1.0, units[0]) if units else None) or _UM_PER_MM
    factors = np.asarray(signs or (1, 1, 1)) * to_um
    steps = [np.asarray([np.nan] * 3 if each is None else each, float) for each in directions]
    return ImageGeometry(
        "patient" if signs else f"NRRD {space}",
        make_vector(np.asarray(origin, float) * factors),
        tuple(
            make_vector(step * factors) if np.isfinite(step).all() else None for step in steps[::-1]
        ),
    )


@dataclass(frozen=True)
class NrrdPlanes:
    """The planes of a NRRD file, its last dimension first.

    A compressed file is decompressed as a whole, once; a large one up to the plane that is read.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, path: Path) -> NrrdPlanes:
        """The planes of a file; reads its header."""
        nrrd = import_extra("nrrd", MEDICAL, f"{path}: NRRD")
        with convert_read_errors(f"{path}: cannot be read as NRRD", "a header and its data"):
            header = read_nrrd_header(path)
            shape = tuple(int(n) for n in header["sizes"])[::-1]
            dtype = np.dtype(nrrd.reader._determine_datatype(header)).newbyteorder("=")
            if min(shape, default=0) < 1:
                raise FileError(f"{path}: declares the sizes {shape!r}: expected numbers above 0")
            file = _find_data_file(path, header)
            encoding = _get_encoding(header)
            # a number takes at least one byte of text
            declared = math.prod(shape) * (1 if encoding == "text" else dtype.itemsize)
            if encoding != "bzip2":
                check_declared_bytes(file, declared, compressed=encoding == "gzip")
        return cls(str(path), shape, dtype)

    @property
    def n_leading(self) -> int:
        """The number of dimensions before the last two."""
        return max(0, len(self.shape) - 2)

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One plane."""
        stamp = get_file_stamp(Path(self.path))
        if _get_encoding(read_nrrd_header(Path(self.path))) == "text":
            return np.asarray(_read_text(self.path, stamp)[index])
        plane = self.shape[self.n_leading :]
        number = int(np.ravel_multi_index(index, self.shape[: self.n_leading])) if index else 0
        n_bytes = math.prod(plane) * self.dtype.itemsize
        stream = _open_stream(self.path, stamp, math.prod(self.shape) * self.dtype.itemsize)
        stored = np.frombuffer(stream.read(number * n_bytes, n_bytes), self._stored_dtype)
        return stored.reshape(plane).astype(self.dtype, copy=False)

    @property
    def _stored_dtype(self) -> np.dtype[Any]:
        endian = str(read_nrrd_header(Path(self.path)).get("endian", "little")).lower()
        return self.dtype.newbyteorder("<" if endian == "little" else ">")


def _get_encoding(header: Mapping[str, Any]) -> str:
    encoding = str(header.get("encoding", "raw")).lower()
    return _ENCODINGS.get(encoding, encoding)


def _find_data_file(path: Path, header: Mapping[str, Any]) -> Path:
    """The file with the pixels: the file itself, or the one in its folder that it names."""
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return path
    if str(name).upper().startswith("LIST") or "%" in str(name):
        raise FileError(f"{path}: has its pixels in several files: expected one; save it as .nrrd")
    return check_inside_folder(path, str(name))


class NrrdStream:
    """The decompressed pixels of a NRRD file, read forward; small ones stay in memory.

    It begins again to read what lies behind, and can be used from several threads.
    """

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._path, self._n_bytes = path, n_bytes
        self._lock = threading.Lock()
        self._position = 0
        self._file: Any = None
        self._raw_file: Any = None
        header = read_nrrd_header(path)
        self._encoding = _get_encoding(header)
        self._whole: bytes | None = None
        if self._encoding != "raw" and n_bytes <= _MAX_WHOLE_BYTES:
            self._whole = self.read(0, n_bytes)
            self._close()

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`; raises EOFError if there are fewer."""
        with self._lock:
            if self._whole is not None:
                return self._whole[offset : offset + count]
            if self._file is None or offset < self._position:
                self._close()
                self._file, self._position = self._open(), 0
            while self._position < offset:
                self._position += len(self._read_some(min(_SKIP_BYTES, offset - self._position)))
            pieces = []
            while count:
                pieces.append(self._read_some(count))
                count -= len(pieces[-1])
            data = b"".join(pieces)
            self._position += len(data)
            if self._encoding == "raw":
                self._close()
            return data

    def __del__(self) -> None:
        self._close()

    def _read_some(self, count: int) -> bytes:
        data: bytes = self._file.read(count)
        if not data:
            raise EOFError(f"its pixels end before byte {self._position + count}")
        return data

    def _open(self) -> Any:
        """The file at its first pixel."""
        header = read_nrrd_header(self._path)
        data_path = _find_data_file(self._path, header)
        self._raw_file = file = data_path.open("rb")
        if data_path == self._path:
            import_extra("nrrd", MEDICAL, "NRRD").read_header(file)  # to its last line
        for _ in range(int(header.get("line skip", header.get("lineskip", 0)))):
            file.readline(_SKIP_BYTES)
        skipped = int(header.get("byte skip", header.get("byteskip", 0)))
        if self._encoding in ("gzip", "bzip2"):
            gzipped = self._encoding == "gzip"
            stream: Any = gzip.GzipFile(fileobj=file) if gzipped else bz2.BZ2File(file)
            stream.read(max(0, skipped))
            return stream
        if skipped == -1:  # the pixels are at the end of the file
            file.seek(-self._n_bytes, os.SEEK_END)
        else:
            file.seek(skipped, os.SEEK_CUR)
        return file

    def _close(self) -> None:
        for file in (self._file, self._raw_file):
            if file is not None:
                file.close()
        self._file = self._raw_file = None


def read_nrrd_header(path: Path) -> Mapping[str, Any]:
    """The header fields of a file, by name."""
    return _read_header(str(path), get_file_stamp(path))


def _get_axes(header: Mapping[str, Any], n_axes: int) -> str:
    """A letter for each dimension, in the order of the file: x, y, z in space, others by kind."""
    kinds = header.get("kinds", ["domain" if n_axes <= 3 else UNKNOWN_AXIS] * n_axes)
    space = iter("xyz")
    return "".join(
        next(space, UNKNOWN_AXIS) if kind in _SPACE_KINDS else _AXES_BY_KIND.get(kind, UNKNOWN_AXIS)
        for kind in (str(kind).lower() for kind in kinds)
    )


def _make_spacing(header: Mapping[str, Any], axes: str) -> Spacing:
    units = [unit for unit in header.get("space units", header.get("units", [])) if unit]
    unit = str(units[0]) if units else "mm" if "space" in header else None
    directions = header.get("space directions")
    if directions is not None:
        steps = [np.linalg.norm(np.asarray(direction, dtype=float)) for direction in directions]
    else:
        steps = header.get("spacings", [np.nan] * len(axes))
    lengths = {
        f"{axis}_um": convert_to_um(float(step) if np.isfinite(step) else None, unit)
        for axis, step in zip(axes, steps, strict=True)
        if axis in "xyz"
    }
    return Spacing(**lengths)


@lru_cache(maxsize=16)  # headers
def _read_header(path: str, _: tuple[int, int]) -> Mapping[str, Any]:
    with convert_read_errors(f"{path}: cannot be read as NRRD", "a header and its data"):
        header: Mapping[str, Any] = import_extra("nrrd", MEDICAL, f"{path}: NRRD").read_header(path)
        return header


@lru_cache(maxsize=1)  # all pixels, unless the file is large
def _open_stream(path: str, _: tuple[int, int], n_bytes: int) -> NrrdStream:
    return NrrdStream(Path(path), n_bytes)


@lru_cache(maxsize=1)  # all pixels
def _read_text(path: str, _: tuple[int, int]) -> np.ndarray:
    return np.asarray(import_extra("nrrd", MEDICAL, f"{path}: NRRD").read(path, index_order="C")[0])
