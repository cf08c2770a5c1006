"""Where checkpoints lie, what identifies them, and how they are put in place."""

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
    """The folder of the checkpoints that come with the package: inside it where it is installed, beside it in a checkout."""
    inside = _PACKAGE / "checkpoints"
    return inside if inside.is_dir() else _PACKAGE.parent / "checkpoints"


def get_cache_folder() -> Path:
    """The folder of this user's fetched and imported checkpoints; it need not exist yet.

    ``models`` in the folder named by the environment variable NAPARI_SAM2_CACHE, else in the place
    the operating system has for caches (Linux: ``~/.cache/napari-sam2``).
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute() / "models"
    from platformdirs import user_cache_path

    return user_cache_path("napari-sam2", appauthor=False) / "models"


def compute_sha256(path: Path) -> str:
    """SHA-256 of the whole file, 64 lower-case hexadecimal digits.

    Raises FileError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from error


def make_folder(folder: Path) -> Path:
    """`folder`, made where it was missing. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror}): choose another place with "
            f"{CACHE_VARIABLE}"
        ) from error
    return folder


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place at the end, or is removed where something went wrong.

    Raises OutputError where there is no space left or no permission.
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
    """Raise OutputError, saying what to do, in place of an OSError that means that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = (
                f"{path.parent}: no space left for {path.name}: free some, or choose another "
                f"place with {CACHE_VARIABLE}"
            )
            raise OutputError(text) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(
                f"{path.parent}: not writable ({error.strerror}): choose another place with "
                f"{CACHE_VARIABLE}"
            ) from error
        raise
