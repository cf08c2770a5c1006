"""Folders of checkpoints, their hashes, and atomic writing."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sam2.core.errors import FileError, OutputError

CACHE_VARIABLE = "NAPARI_SAM2_CACHE"
_PACKAGE = Path(__file__).resolve().parents[2]


def get_embedded_folder() -> Path:
    """The folder of the package's own checkpoints: inside it, or beside it in a checkout."""
    inside = _PACKAGE / "checkpoints"
    return inside if inside.is_dir() else _PACKAGE.parent / "checkpoints"


def get_cache_folder() -> Path:
    """The folder of this user's fetched and imported checkpoints, which may not exist yet.

    ``models`` in the folder that the environment variable NAPARI_SAM2_CACHE names, else in the
    operating system's cache folder (Linux: ``~/.cache/napari-sam2``).
    """
    folder = os.environ.get(CACHE_VARIABLE)
    if folder:
        return Path(folder).expanduser().absolute() / "models"
    from platformdirs import user_cache_path

    return user_cache_path("napari-sam2", appauthor=False) / "models"


def compute_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 lower-case hexadecimal digits.

    Raises FileError if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from error


def make_folder(folder: Path) -> Path:
    """The folder, created if it is missing. Raises OutputError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be created ({error.strerror}): choose another folder with "
            f"{CACHE_VARIABLE}"
        ) from error
    return folder


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary file that replaces `path` at the end, or is removed after an error.

    Raises OutputError if no space is left or permission is missing.
    """
    make_folder(path.parent)
    with (
        convert_write_errors(path),
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
    ):
        yield Path(folder) / path.name
        os.replace(Path(folder) / path.name, path)


@contextmanager
def convert_write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError about a full disk or missing permission into an OutputError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = (
                f"{path.parent}: no space left for {path.name}: free some space, or choose another "
                f"folder with {CACHE_VARIABLE}"
            )
            raise OutputError(text) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(
                f"{path.parent}: not writable ({error.strerror}): choose another folder with "
                f"{CACHE_VARIABLE}"
            ) from error
        raise
