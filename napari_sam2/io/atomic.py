"""Places to write to: a result appears under its name when it is whole, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from napari_sam2.core.errors import OutputError, Sam2Error

_ADVICE_BY_ERRNO = {
    errno.ENOSPC: "free some space, or choose another folder with --out",
    errno.EDQUOT: "free some space, or choose another folder with --out",
    errno.EFBIG: "the file system takes no file that large: choose another folder with --out",
}

_LOCK_NAME = ".napari-sam2.lock"


def check_output(folder: Path | str) -> None:
    """Make `folder` where it is not there, and raise OutputError unless files can be written into it."""
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file: expected a folder to write to, new or there already")
    with convert_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(
            dir=path
        ):  # permissions alone do not tell: a disk may be read-only
            pass


@contextmanager
def lock_folder(folder: Path | str) -> Iterator[None]:
    """No other run may write to `folder` meanwhile; raises OutputError where one does.

    A killed run holds nothing.

    The lock is a file in the folder that is gone afterwards. Whoever dies lets go of it: it belongs
    to the process, not to the file.
    """
    lock = FileLock(Path(folder) / _LOCK_NAME)
    with convert_write_errors(Path(folder)):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:  # an OSError too, but not one that has to do with the disk
            raise OutputError(
                f"{folder}: another run is writing there: wait for it, or choose another folder "
                "with --out"
            ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink(
                missing_ok=True
            )  # while it is held: nobody who opened it before has it yet
        lock.release()


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to; on success it takes the place of `path`, else it is removed.

    Raises OutputError where that cannot be done; what was there before is then untouched.
    """
    final = Path(path)
    part = get_part_path(final)
    try:
        with convert_write_errors(final):
            yield part
            move_into_place(part, final)
    finally:
        remove_path(part)


def get_part_path(path: Path, kind: str = "part") -> Path:
    """A hidden name beside `path`, of this process alone, for what is not finished."""
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def remove_path(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def convert_write_errors(path: Path) -> Iterator[None]:
    """An OSError inside becomes an OutputError that names `path` and says what to do."""
    try:
        yield
    except Sam2Error:
        raise
    except OSError as error:
        advice = _ADVICE_BY_ERRNO.get(
            error.errno or 0, "choose another folder with --out, or make this one writable"
        )
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}): {advice}"
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder; nobody else may be writing to it."""
    for kind in ("part", "planes", "old"):
        for left in folder.glob(f".*.{kind}"):
            if left.suffixes[-2:-1] and left.suffixes[-2][1:].isdigit():
                remove_path(left)


def move_into_place(part: Path, final: Path) -> None:
    """Let a finished file or folder take the place of `final`; raises OSError, and then `final` is what it was."""
    if not (part.is_dir() and final.exists()):
        os.replace(part, final)
        return
    older = get_part_path(final, "old")  # a folder that is not empty cannot be replaced in one step
    os.replace(final, older)
    try:
        os.replace(part, final)
    except OSError:
        os.replace(older, final)
        raise
    remove_path(older)
