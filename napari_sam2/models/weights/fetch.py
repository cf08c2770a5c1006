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
from napari_sam2.models.weights.cards import find_models, make_unknown_model_error
from napari_sam2.models.weights.checkpoints import find_checkpoint
from napari_sam2.models.weights.files import (
    CACHE_VARIABLE,
    convert_write_errors,
    get_cache_folder,
    make_folder,
)
from napari_sam2.models.weights.published import PUBLISHED

if TYPE_CHECKING:
    from requests import Response

_TIMEOUT_S = (10, 60)  # to connect, and between two pieces
_CHUNK_BYTES = 2**16  # what of the last piece had arrived is lost when the connection breaks
_OFFLINE_HINT = (
    "Without a connection: get the file on another machine, then `napari-sam2 models import FILE`"
)


def fetch_model(
    name: str,
    *,
    progress: bool = True,
    url: str | None = None,
    sha256: str | None = None,
    should_continue: Callable[[], bool] = lambda: True,
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
    should_continue
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
    models = find_models()
    if name not in models:
        raise make_unknown_model_error(name, models)
    if name not in PUBLISHED:
        return find_checkpoint(name)  # embedded or imported
    published = PUBLISHED[name]
    expected = _resolve_sha256(name, published.card.sha256, sha256)
    target = make_folder(get_cache_folder()) / published.filename
    part = target.with_name(f"{target.name}.{expected[:8]}.part")
    with _lock_download(part):
        return _retrieve(
            target, expected, _Download(name, url or published.url, part, progress, should_continue)
        )


@dataclass(frozen=True)
class _Download:
    """A file being downloaded into `partial_file`, which is kept between attempts."""

    name: str
    url: str
    partial_file: Path
    progress: bool
    should_continue: Callable[[], bool] = lambda: True

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """As pooch calls its downloaders: the whole file at `output_file`."""
        self._download_with_retries()
        self.partial_file.replace(output_file)

    def _download_with_retries(self) -> None:
        """Try again for as long as something arrives each time."""
        import requests

        while True:
            before = self._get_partial_size()
            try:
                self._resume()
            except requests.RequestException as error:
                if self._get_partial_size() <= before:
                    raise FileError(self._format_failure(_explain_request_error(error))) from error
            else:
                return

    def _resume(self) -> None:
        import requests

        have = self._get_partial_size()
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with requests.get(self.url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            told = answer.headers.get("Content-Range", "")
            if answer.status_code == 416 and told == f"bytes */{have}":
                return  # all of it had arrived before
            resumed = answer.status_code == 206 and told.startswith(f"bytes {have}-")
            if answer.ok and (resumed or answer.status_code != 206):
                self._append_response(answer, have if resumed else 0)
                return
            if not have or answer.status_code not in (206, 416):
                raise FileError(
                    self._format_failure(f"it answered {answer.status_code} {answer.reason}")
                )
        self.partial_file.unlink()  # it is no beginning of that file: from the start
        self._resume()

    def _append_response(self, response: Response, offset: int) -> None:
        """Append to the first `offset` bytes; a server that does not know Range sends all from the start."""
        from tqdm import tqdm

        coming = int(response.headers.get("Content-Length", 0))
        self._check_space(coming - (self._get_partial_size() - offset))
        bar: dict[str, Any] = {
            "total": offset + coming or None,
            "initial": offset,
            "unit": "B",
            "unit_scale": True,
        }
        mode = "ab" if offset else "wb"
        with (
            convert_write_errors(self.partial_file),
            self.partial_file.open(mode) as file,
            tqdm(desc=self.name, disable=not self.progress, **bar) as shown,
        ):
            for piece in response.iter_content(_CHUNK_BYTES):
                file.write(piece)
                shown.update(len(piece))
                if not self.should_continue():
                    raise FileError(
                        f"{self.name}: the download was stopped; what arrived is kept, and the "
                        "next one goes on from there"
                    )

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.partial_file.parent).free
        if free < needed:
            raise OutputError(
                f"{self.partial_file.parent}: {_format_megabytes(needed)} needed for {self.name}, "
                f"{_format_megabytes(free)} left: "
                f"free some, or choose another place with {CACHE_VARIABLE}"
            )

    def _get_partial_size(self) -> int:
        return self.partial_file.stat().st_size if self.partial_file.exists() else 0

    def _format_failure(self, reason: str) -> str:
        kept = (
            f" The {_format_megabytes(self._get_partial_size())} that arrived are kept; the same command goes on "
            "from there."
            if self._get_partial_size()
            else ""
        )
        return f"{self.name} could not be fetched from {self.url}: {reason}.{kept} {_OFFLINE_HINT}"


def _retrieve(target: Path, sha256: str, download: _Download) -> Path:
    import pooch

    try:
        pooch.retrieve(
            download.url,
            known_hash=f"sha256:{sha256}",
            fname=target.name,
            path=target.parent,
            downloader=download,
        )
    except ValueError as error:  # pooch's, for another hash; it has removed the file
        arrived = re.search(r"but got (\w+)", str(error))
        raise CheckpointError(
            f"{download.name}: what {download.url} gave has SHA-256 "
            f"{arrived[1] if arrived else 'unlike'}, expected {sha256}: "
            f"refused and removed. Try again, or another address. {_OFFLINE_HINT}"
        ) from error
    return target


def _resolve_sha256(name: str, published: str, requested: str | None) -> str:
    """The SHA-256 to hold the file against. Raises CheckpointError where there is none, or two."""
    requested = requested.lower().removeprefix("sha256:") if requested else None
    if requested and not re.fullmatch(r"[0-9a-f]{64}", requested):
        raise CheckpointError(f"SHA-256 {requested!r}: expected 64 hexadecimal digits")
    if requested and published and requested != published:
        raise CheckpointError(
            f"{name}: SHA-256 {requested} was given, the published file has {published}: leave it "
            "out, or import the other file"
        )
    if not (requested or published):
        raise CheckpointError(
            f"{name}: no published SHA-256 is known, so a download cannot be verified: give the "
            "one you trust with --sha256"
        )
    return requested or published


@contextmanager
def _lock_download(partial_file: Path) -> Iterator[None]:
    """Hold the download for this process: two that write one file would spoil it after it was verified."""
    from filelock import FileLock, Timeout

    try:
        with (
            convert_write_errors(partial_file),
            FileLock(partial_file.with_suffix(".lock"), timeout=0),
        ):
            yield
    except Timeout as error:
        raise OutputError(
            f"{partial_file}: is being downloaded by another process: wait for it to finish, then try again"
        ) from error


def _explain_request_error(error: Exception) -> str:
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


def _format_megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
