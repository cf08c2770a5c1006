"""Fetching published checkpoints: resumed where it broke off, verified, and only then put in place."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam2.core.errors import CheckpointError, FileError, OutputError
from napari_sam2.models.weights.cards import known, unknown
from napari_sam2.models.weights.checkpoints import find
from napari_sam2.models.weights.files import CACHE_VARIABLE, cache, made, writing
from napari_sam2.models.weights.published import PUBLISHED

if TYPE_CHECKING:
    from requests import Response

_TIMEOUT_S = (10, 60)  # to connect, and between two pieces
_PIECE = 2**16  # what of the last piece had arrived is lost when the connection breaks
_ELSEWHERE = (
    "Without a connection: get the file on another machine, then `napari-sam2 models import FILE`"
)


def fetch(
    name: str,
    *,
    progress: bool = True,
    url: str | None = None,
    sha256: str | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> Path:
    """The file of the model called `name`, downloaded into the user's cache unless it is there.

    A download that broke off goes on where it was, in this call or a later one. The file is put in
    place only when its SHA-256 is the published one (`sha256`, where none is known); another file
    is removed.

    Parameters
    ----------
    progress
        Show a bar on standard error.
    url
        Get it from there instead: a mirror, with the same file.
    wanted
        Asked between two pieces whether to go on; where not, FileError. What arrived is kept for
        the next time.

    Raises
    ------
    UnknownModelError
        Nothing published is called so.
    CheckpointError
        What arrived is another file, or nobody says what its SHA-256 should be.
    FileError
        It could not be had: no connection, or no such file there. The text says what to do.
    OutputError
        No space left, or the cache cannot be written.
    """
    models = known()
    if name not in models:
        raise unknown(name, models)
    if name not in PUBLISHED:
        return find(name)  # embedded or imported
    published = PUBLISHED[name]
    expected = _expected(name, published.card.sha256, sha256)
    target = made(cache()) / published.filename
    part = target.with_name(f"{target.name}.{expected[:8]}.part")
    with _alone(part):
        return _retrieved(
            target, expected, _Download(name, url or published.url, part, progress, wanted)
        )


@dataclass(frozen=True)
class _Download:
    """A file being downloaded into `part`, which is kept between attempts."""

    name: str
    url: str
    part: Path
    progress: bool
    wanted: Callable[[], bool] = lambda: True

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """As pooch calls its downloaders: the whole file at `output_file`."""
        self._complete()
        self.part.replace(output_file)

    def _complete(self) -> None:
        """Try again for as long as something arrives each time."""
        import requests

        while True:
            before = self._size()
            try:
                self._go_on()
            except requests.RequestException as error:
                if self._size() <= before:
                    raise FileError(self._failed(_reason(error))) from error
            else:
                return

    def _go_on(self) -> None:
        import requests

        have = self._size()
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with requests.get(self.url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            told = answer.headers.get("Content-Range", "")
            if answer.status_code == 416 and told == f"bytes */{have}":
                return  # all of it had arrived before
            resumed = answer.status_code == 206 and told.startswith(f"bytes {have}-")
            if answer.ok and (resumed or answer.status_code != 206):
                self._write(answer, have if resumed else 0)
                return
            if not have or answer.status_code not in (206, 416):
                raise FileError(self._failed(f"it answered {answer.status_code} {answer.reason}"))
        self.part.unlink()  # it is no beginning of that file: from the start
        self._go_on()

    def _write(self, answer: Response, have: int) -> None:
        """Append to the first `have` bytes; a server that does not know Range sends all from the start."""
        from tqdm import tqdm

        coming = int(answer.headers.get("Content-Length", 0))
        self._check_space(coming - (self._size() - have))
        bar: dict[str, Any] = {
            "total": have + coming or None,
            "initial": have,
            "unit": "B",
            "unit_scale": True,
        }
        mode = "ab" if have else "wb"
        with (
            writing(self.part),
            self.part.open(mode) as file,
            tqdm(desc=self.name, disable=not self.progress, **bar) as shown,
        ):
            for piece in answer.iter_content(_PIECE):
                file.write(piece)
                shown.update(len(piece))
                if not self.wanted():
                    raise FileError(
                        f"{self.name}: the download was stopped; what arrived is kept, and the "
                        "next one goes on from there"
                    )

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if free < needed:
            raise OutputError(
                f"{self.part.parent}: {_megabytes(needed)} needed for {self.name}, "
                f"{_megabytes(free)} left: "
                f"free some, or choose another place with {CACHE_VARIABLE}"
            )

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _failed(self, reason: str) -> str:
        kept = (
            f" The {_megabytes(self._size())} that arrived are kept; the same command goes on "
            "from there."
            if self._size()
            else ""
        )
        return f"{self.name} could not be fetched from {self.url}: {reason}.{kept} {_ELSEWHERE}"


def _retrieved(target: Path, expected: str, download: _Download) -> Path:
    import pooch

    try:
        pooch.retrieve(
            download.url,
            known_hash=f"sha256:{expected}",
            fname=target.name,
            path=target.parent,
            downloader=download,
        )
    except ValueError as error:  # pooch's, for another hash; it has removed the file
        arrived = re.search(r"but got (\w+)", str(error))
        raise CheckpointError(
            f"{download.name}: what {download.url} gave has SHA-256 "
            f"{arrived[1] if arrived else 'unlike'}, expected {expected}: "
            f"refused and removed. Try again, or another address. {_ELSEWHERE}"
        ) from error
    return target


def _expected(name: str, published: str, given: str | None) -> str:
    """The SHA-256 to hold the file against. Raises CheckpointError where there is none, or two."""
    given = given.lower().removeprefix("sha256:") if given else None
    if given and not re.fullmatch(r"[0-9a-f]{64}", given):
        raise CheckpointError(f"SHA-256 {given!r}: expected 64 hexadecimal digits")
    if given and published and given != published:
        raise CheckpointError(
            f"{name}: SHA-256 {given} was given, the published file has {published}: leave it "
            "out, or import the other file"
        )
    if not (given or published):
        raise CheckpointError(
            f"{name}: no published SHA-256 is known, so a download cannot be verified: give the "
            "one you trust with --sha256"
        )
    return given or published


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Hold the download for this process: two that write one file would spoil it after it was verified."""
    from filelock import FileLock, Timeout

    try:
        with writing(part), FileLock(part.with_suffix(".lock"), timeout=0):
            yield
    except Timeout as error:
        raise OutputError(
            f"{part}: is being downloaded by another process: wait for it to finish, then try again"
        ) from error


def _reason(error: Exception) -> str:
    """The innermost words of requests' nested errors: "Connection refused", "Name or service not known"."""
    import requests

    if isinstance(error, requests.Timeout):
        return "it does not answer"
    innermost: BaseException = error
    while innermost.__cause__ or innermost.__context__:
        innermost = innermost.__cause__ or innermost.__context__  # type: ignore[assignment]
    words = getattr(innermost, "strerror", None) or str(innermost) or type(innermost).__name__
    return (
        f"no connection ({words})"
        if isinstance(error, requests.ConnectionError)
        else f"the connection broke ({words})"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
