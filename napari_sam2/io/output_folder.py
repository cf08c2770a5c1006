"""Output folders: check that they are writable, lock them, remove what killed runs left."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from napari_sam2.core.errors import OutputError
from napari_sam2.core.files.atomic import convert_write_errors, remove_path

_LOCK_NAME = ".napari-sam2.lock"


def check_output(folder: Path | str) -> None:
    """Create `folder` if it does not exist; raise OutputError if no file can be written into it."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file: expected a folder to write to, new or existing")
    # permissions are not enough: the whole disk may be read-only
    with convert_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


@contextmanager
def lock_folder(folder: Path | str) -> Iterator[None]:
    """Lock `folder` against other runs; raise OutputError if another run has locked it.

    The lock is a file in the folder that is removed at the end. It belongs to the process, so a
    killed run releases it.
    """
    lock = FileLock(Path(folder) / _LOCK_NAME)
    with convert_write_errors(Path(folder)):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:  # an OSError too, but the disk is not its cause
            raise OutputError(
                f"{folder}: another run is writing there: wait for it, or choose another folder "
                "with --out"
            ) from error
    try:
        yield
    finally:
        # removed before it is released: nobody can have locked a file that is about to vanish
        with suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of killed processes; call it only while `folder` is locked."""
    for kind in ("part", "planes", "old"):
        for leftover in folder.glob(f".*.{kind}"):
            if leftover.suffixes[-2:-1] and leftover.suffixes[-2][1:].isdigit():
                remove_path(leftover)
