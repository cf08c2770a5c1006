"""Checks of files before they are read, and one error for all that can go wrong while reading."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from napari_sam2.core.errors import FileError, Sam2Error

_MAX_REASON_CHARS = 200
_MAX_DEFLATE_RATIO = 1032


@contextmanager
def convert_read_errors(source: str, expected: str, *, frame: int | None = None) -> Iterator[None]:
    """Raise any error of the block as a FileError: the source, what was expected, and the reason.

    All exceptions are caught, because decoders raise anything from zlib.error to KeyError on broken
    files. Our own errors and MemoryError pass through.
    """
    try:
        yield
    except (Sam2Error, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FileError(
            f"{source}: expected {expected}; {reason[:_MAX_REASON_CHARS]}", frame=frame
        ) from error


def get_file_stamp(path: Path) -> tuple[int, int]:
    """Modification time in ns and size in bytes.

    Part of the keys of caches, so that a changed file is read again.
    """
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def check_file(
    path: Path, expected: str = "an image file, a folder of them or a zarr store"
) -> None:
    """Raise FileError unless `path` is a readable file that is not empty."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}; expected {expected}") from error
    if size == 0:
        raise FileError(f"{path}: is empty (0 bytes): copy or export it again")
    if not os.access(path, os.R_OK):
        raise FileError(
            f"{path}: you may not read it: ask for the permission, or copy it to your own folder"
        )


def check_declared_bytes(
    path: Path, declared: int, *, offset: int = 0, compressed: bool = False
) -> None:
    """Raise FileError if a file declares more pixels than it can contain.

    Parameters
    ----------
    declared
        Bytes of all pixels.
    offset
        Where they begin.
    compressed
        Whether they are compressed by DEFLATE, which makes data at most 1032 times smaller.
    """
    n_bytes = path.stat().st_size
    largest = n_bytes * _MAX_DEFLATE_RATIO if compressed else n_bytes - offset
    if declared > largest:
        raise FileError(
            f"{path}: declares {declared} bytes of pixels and can contain at most "
            f"{max(0, largest)}: it is truncated or damaged; copy or export it again"
        )


def check_inside_folder(path: Path, name: str) -> Path:
    """The path of a file that another file names; raises FileError if it is not in its folder.

    Metadata of other people's files may name any file of this machine.
    """
    windows = PureWindowsPath(name)
    normal = os.path.normpath(windows.as_posix())
    if windows.drive or windows.root or normal.split("/")[0] == "..":
        raise FileError(
            f"{path}: names the file {name!r}, which is not in its folder: expected the files of "
            "one image together; put them into one folder"
        )
    return path.parent / normal


def read_utf8_text(path: Path, expected: str) -> str:
    """The text of a UTF-8 file, without a byte order mark; raises FileError for any other file."""
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}; expected {expected}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not valid UTF-8: expected {expected}") from error
