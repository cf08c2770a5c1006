"""Atomic writes: a result appears under its name when it is complete, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sam2.core.errors import OutputError, Sam2Error

_DEFAULT_ADVICE = "choose another folder with --out, or make this one writable"
_ADVICE_BY_ERRNO = {
    errno.ENOSPC: "free some space, or choose another folder with --out",
    errno.EDQUOT: "free some space, or choose another folder with --out",
    errno.EFBIG: "the file system accepts no file of this size: choose another folder with --out",
}


@contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or a folder to.

    If the block succeeds, the written file or folder replaces `path`; otherwise it is removed and
    `path` stays as it was.

    Raises
    ------
    OutputError
        If the file system refuses to write or to replace.
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
    """The hidden name beside `path` that this process uses for an unfinished file."""
    return path.with_name(f".{path.name}.{os.getpid()}.{kind}")


def move_into_place(part: Path, final: Path) -> None:
    """Replace `final` by a finished file or folder.

    Raises OSError if that fails; `final` then stays as it was.
    """
    if not (part.is_dir() and final.exists()):
        os.replace(part, final)
        return
    older = get_part_path(final, "old")  # a folder with files in it cannot be replaced in one step
    os.replace(final, older)
    try:
        os.replace(part, final)
    except OSError:
        os.replace(older, final)
        raise
    remove_path(older)


def remove_path(path: Path) -> None:
    """Remove a file or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def convert_write_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as an OutputError that names `path` and says what to do."""
    try:
        yield
    except Sam2Error:
        raise
    except OSError as error:
        advice = _ADVICE_BY_ERRNO.get(error.errno or 0, _DEFAULT_ADVICE)
        reason = error.strerror or error
        raise OutputError(f"{path}: cannot be written ({reason}): {advice}") from error
