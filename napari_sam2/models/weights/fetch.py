"""Download of published checkpoints: resumed after a break, and verified before use."""

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

# To connect, and between two chunks.
_TIMEOUT_S = (10, 60)
# If the connection breaks, at most one chunk is lost.
_CHUNK_BYTES = 2**16
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
    """The file of a model, downloaded into the user's cache if it is not there.

    A download that broke off is resumed, in this call or a later one. The file gets its name only
    if its SHA-256 is the published one; another file is removed.

    Parameters
    ----------
    progress
        Show a progress bar on standard error.
    url
        Of a mirror with the same file.
    sha256
        The expected SHA-256 if none is published.
    should_continue
        Called between two chunks. If it returns False, FileError is raised, and the next call
        resumes the download.

    Raises
    ------
    UnknownModelError
        No model has this name.
    CheckpointError
        The downloaded file is another one, or its expected SHA-256 is not known.
    FileError
        There is no connection, or no such file at the address. The text says what to do.
    OutputError
        No space is left, or the cache cannot be written.
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
    """A download into `partial_file`, which stays between attempts."""

    name: str
    url: str
    partial_file: Path
    progress: bool
    should_continue: Callable[[], bool] = lambda: True

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download the file to `output_file`, as pooch calls its downloaders."""
        self._download_with_retries()
        self.partial_file.replace(output_file)

    def _download_with_retries(self) -> None:
        """Retry as long as each attempt receives some bytes."""
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
            content_range = answer.headers.get("Content-Range", "")
            if answer.status_code == 416 and content_range == f"bytes */{have}":
                return  # an earlier attempt received all of it
            resumed = answer.status_code == 206 and content_range.startswith(f"bytes {have}-")
            if answer.ok and (resumed or answer.status_code != 206):
                self._append_response(answer, have if resumed else 0)
                return
            if not have or answer.status_code not in (206, 416):
                raise FileError(
                    self._format_failure(
                        f"the server answered {answer.status_code} {answer.reason}"
                    )
                )
        self.partial_file.unlink()  # it belongs to another file, so the download starts again
        self._resume()

    def _append_response(self, response: Response, offset: int) -> None:
        """Append to the first `offset` bytes: 0 if the server does not support ranges."""
        from tqdm import tqdm

        remaining = int(response.headers.get("Content-Length", 0))
        self._check_space(remaining - (self._get_partial_size() - offset))
        bar: dict[str, Any] = {
            "total": offset + remaining or None,
            "initial": offset,
            "unit": "B",
            "unit_scale": True,
        }
        mode = "ab" if offset else "wb"
        with (
            convert_write_errors(self.partial_file),
            self.partial_file.open(mode) as file,
            tqdm(desc=self.name, disable=not self.progress, **bar) as progress_bar,
        ):
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                progress_bar.update(len(chunk))
                if not self.should_continue():
                    raise FileError(
                        f"{self.name}: the download was stopped; the next one resumes it"
                    )

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.partial_file.parent).free
        if free < needed:
            raise OutputError(
                f"{self.partial_file.parent}: {self.name} needs {_format_megabytes(needed)}, but "
                f"{_format_megabytes(free)} are free: free some space, or choose another folder "
                f"with {CACHE_VARIABLE}"
            )

    def _get_partial_size(self) -> int:
        return self.partial_file.stat().st_size if self.partial_file.exists() else 0

    def _format_failure(self, reason: str) -> str:
        size = self._get_partial_size()
        hint = f" The same command resumes after {_format_megabytes(size)}." if size else ""
        return f"{self.name} could not be fetched from {self.url}: {reason}.{hint} {_OFFLINE_HINT}"


def _retrieve(target: Path, sha256: str, download: _Download) -> Path:
    import pooch

    pooch.get_logger().setLevel("ERROR")  # this package has its own lines and progress

    try:
        pooch.retrieve(
            download.url,
            known_hash=f"sha256:{sha256}",
            fname=target.name,
            path=target.parent,
            downloader=download,
        )
    except ValueError as error:  # pooch raises it for another hash, and has removed the file
        actual = re.search(r"but got (\w+)", str(error))
        raise CheckpointError(
            f"{download.name}: the file from {download.url} has "
            f"{'SHA-256 ' + actual[1] if actual else 'another SHA-256'}, expected {sha256}: it was "
            f"removed. Try again, or another address. {_OFFLINE_HINT}"
        ) from error
    return target


def _resolve_sha256(name: str, published: str, requested: str | None) -> str:
    """The expected SHA-256. Raises CheckpointError if there is none, or two different ones."""
    requested = requested.lower().removeprefix("sha256:") if requested else None
    if requested and not re.fullmatch(r"[0-9a-f]{64}", requested):
        raise CheckpointError(f"SHA-256 {requested!r}: expected 64 hexadecimal digits")
    if requested and published and requested != published:
        raise CheckpointError(
            f"{name}: SHA-256 {requested} was given, but the published file has {published}: leave "
            "it out, or import the other file"
        )
    if not (requested or published):
        raise CheckpointError(
            f"{name}: no SHA-256 is published, so a download cannot be verified: give the one you "
            "trust with --sha256"
        )
    return requested or published


@contextmanager
def _lock_download(partial_file: Path) -> Iterator[None]:
    """Keep other processes from the file, which could change it after it was verified."""
    from filelock import FileLock, Timeout

    try:
        with (
            convert_write_errors(partial_file),
            FileLock(partial_file.with_suffix(".lock"), timeout=0),
        ):
            yield
    except Timeout as error:
        raise OutputError(
            f"{partial_file}: another process is downloading it: wait until it has finished, then "
            "try again"
        ) from error


def _explain_request_error(error: Exception) -> str:
    """The innermost text of nested errors, for example "Connection refused"."""
    import requests

    if isinstance(error, requests.Timeout):
        return "the server does not answer"
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
