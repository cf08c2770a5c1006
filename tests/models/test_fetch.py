"""Downloads from a real server on this machine, which fails as servers do."""

import contextlib
import hashlib
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, FileError, OutputError, UnknownModelError
from napari_sam2.models.weights import cards, fetch, files
from napari_sam2.models.weights.published import PUBLISHED, PublishedCheckpoint

WEIGHTS = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
PIECE = 65_536
HALF = 24 * PIECE


@dataclass
class Server:
    """The content of the server; its next answers break off after `stops` bytes each."""

    content: bytes = WEIGHTS
    supports_ranges: bool = True
    status: int = 200
    stops: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            behaviour.ranges.append(self.headers.get("Range"))
            stop = behaviour.stops.pop(0) if behaviour.stops else None
            if stop == 0 or behaviour.status != 200:
                self.send_error(behaviour.status if behaviour.status != 200 else 503)
                return
            start = (
                int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                if behaviour.supports_ranges and "Range" in self.headers
                else 0
            )
            self._answer(start, behaviour.content, stop)

        def _answer(self, start, content, stop):
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[start:][:stop])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        behaviour.url = f"http://127.0.0.1:{http.server_address[1]}/toy.pt"
        yield behaviour
        http.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "cache"))
    return files.get_cache_folder()


@pytest.fixture
def toy(server, cache, monkeypatch):
    """A model named "toy", published on that server."""

    def publish(sha256=SHA256, url=server.url):
        monkeypatch.setitem(
            PUBLISHED,
            "toy",
            PublishedCheckpoint(ModelCard("toy", source=url, sha256=sha256), len(WEIGHTS)),
        )

    publish()
    return publish


def list_cache(cache: Path) -> list[str]:
    """Names of the files in the cache, without locks."""
    return (
        sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")
        if cache.is_dir()
        else []
    )


def write_partial(cache: Path, content: bytes) -> Path:
    """A download that broke off after `content`, in an earlier run."""
    cache.mkdir(parents=True)
    part = cache / f"toy.pt.{SHA256[:8]}.part"
    part.write_bytes(content)
    return part


def test_file_is_downloaded_once(server, toy, cache):
    path = fetch.fetch_model("toy", progress=False)
    assert path.read_bytes() == WEIGHTS
    assert list_cache(cache) == ["toy.pt"]
    assert cards.find_models()["toy"].state == "fetched"
    assert fetch.fetch_model("toy", progress=False) == path
    assert server.ranges == [None]


def test_broken_download_is_resumed(server, toy, cache):
    server.stops = [HALF, 2 * PIECE]
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 2 * PIECE}-"]
    assert list_cache(cache) == ["toy.pt"]


def test_later_call_resumes_an_earlier_one(server, toy, cache):
    server.stops = [HALF, 0]
    with pytest.raises(
        FileError,
        match=r"the server answered 503 .* The same command resumes after 1\.6 MB",
    ):
        fetch.fetch_model("toy", progress=False)
    assert list_cache(cache) == [f"toy.pt.{SHA256[:8]}.part"]
    server.ranges.clear()
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.ranges == [f"bytes={HALF}-"]


def test_download_without_progress_is_given_up(server, toy):
    server.stops = [HALF, *[-len(WEIGHTS)] * 5]
    with pytest.raises(FileError, match="the connection broke"):
        fetch.fetch_model("toy", progress=False)
    assert len(server.ranges) == 2


def test_cancelled_download_stops_and_is_resumed_later(server, toy, cache):
    answers = iter([True, False])
    with pytest.raises(FileError, match="was stopped; the next one resumes it"):
        fetch.fetch_model("toy", progress=False, should_continue=lambda: next(answers))
    assert len(list_cache(cache)) == 1 and list_cache(cache)[0].endswith(".part")
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.ranges[1].startswith("bytes=")


def test_server_without_ranges_sends_the_whole_file(server, toy, cache):
    server.supports_ranges = False
    write_partial(cache, WEIGHTS[:HALF])
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.ranges == [f"bytes={HALF}-"]


def test_complete_download_is_only_verified(server, toy, cache):
    write_partial(cache, WEIGHTS)
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert list_cache(cache) == ["toy.pt"]


def test_download_longer_than_the_file_starts_again(server, toy, cache):
    write_partial(cache, WEIGHTS + b"more")
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.ranges == [f"bytes={len(WEIGHTS) + 4}-", None]


def test_other_file_than_the_published_one_is_refused_and_removed(server, toy, cache):
    server.content = WEIGHTS[::-1]
    arrived = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(
        CheckpointError, match=f"has SHA-256 {arrived}, expected {SHA256}: it was removed"
    ):
        fetch.fetch_model("toy", progress=False)
    assert list_cache(cache) == []


def test_wrong_partial_file_is_removed(server, toy, cache):
    write_partial(cache, b"x" * HALF)
    with pytest.raises(CheckpointError, match="it was removed"):
        fetch.fetch_model("toy", progress=False)
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS


def test_damaged_file_in_the_cache_is_downloaded_again(server, toy, cache):
    path = fetch.fetch_model("toy", progress=False)
    path.write_bytes(WEIGHTS[:-1])
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "the server answered 404 Not Found"), (403, "the server answered 403 Forbidden")],
)
def test_error_quotes_the_server_and_tells_what_to_do(server, toy, cache, status, message):
    server.status = status
    with pytest.raises(FileError, match=f"{message}.*napari-sam2 models import FILE"):
        fetch.fetch_model("toy", progress=False)
    assert list_cache(cache) == []


def test_error_without_a_connection_tells_what_to_do(toy, cache):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    toy(url=f"http://127.0.0.1:{port}/toy.pt")
    with pytest.raises(
        FileError, match=r"no connection \(Connection refused\).*napari-sam2 models import FILE"
    ):
        fetch.fetch_model("toy", progress=False)
    assert list_cache(cache) == []


def test_invalid_address_is_refused(toy):
    with pytest.raises(FileError, match=r"could not be fetched from toy\.pt"):
        fetch.fetch_model("toy", progress=False, url="toy.pt")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_while_writing_is_an_output_error(server, toy, cache):
    cache.mkdir(parents=True)
    (cache / f"toy.pt.{SHA256[:8]}.part").symlink_to(
        "/dev/full"
    )  # the system's text is "No space left on device"
    with pytest.raises(
        OutputError, match=r"no space left .* choose another folder with NAPARI_SAM2_CACHE"
    ):
        fetch.fetch_model("toy", progress=False)


def test_too_small_disk_is_refused_before_writing(server, toy, cache, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OutputError, match=r"toy needs 3\.0 MB, but 0\.0 MB are free"):
        fetch.fetch_model("toy", progress=False)
    assert list_cache(cache) == []


def test_cache_folder_that_cannot_be_created_is_an_output_error(server, toy, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be created"):
        fetch.fetch_model("toy", progress=False)
    assert server.ranges == []


def test_two_downloads_of_one_file_are_refused(server, toy, cache):
    part = write_partial(cache, WEIGHTS[:HALF])
    with (
        FileLock(part.with_suffix(".lock")),
        pytest.raises(OutputError, match="another process is downloading it"),
    ):
        fetch.fetch_model("toy", progress=False)
    assert part.read_bytes() == WEIGHTS[:HALF]


def test_checkpoint_without_a_known_hash_needs_one(server, toy, cache):
    toy(sha256="")
    with pytest.raises(
        CheckpointError, match="cannot be verified: give the one you trust with --sha256"
    ):
        fetch.fetch_model("toy", progress=False)
    assert server.ranges == []
    assert (
        fetch.fetch_model("toy", progress=False, sha256=f"sha256:{SHA256.upper()}").read_bytes()
        == WEIGHTS
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [("0" * 64, "the published file has"), ("abc", "expected 64 hexadecimal digits")],
)
def test_invalid_hash_is_refused(server, toy, given, message):
    with pytest.raises(CheckpointError, match=message):
        fetch.fetch_model("toy", progress=False, sha256=given)
    assert server.ranges == []


def test_mirror_gives_the_same_file(server, toy, cache):
    toy(url="http://127.0.0.1:9/nowhere.pt")
    assert fetch.fetch_model("toy", progress=False, url=server.url).name == "nowhere.pt"


def test_unknown_name_is_refused(toy):
    with pytest.raises(UnknownModelError, match="did you mean 'toy'"):
        fetch.fetch_model("toyy")


def test_progress_bar_is_shown_on_request(server, toy, cache, capsys):
    fetch.fetch_model("toy")
    assert "toy: 100%" in capsys.readouterr().err


def test_no_progress_bar_is_shown_without_a_request(server, toy, cache, capsys):
    fetch.fetch_model("toy", progress=False)
    assert "%" not in capsys.readouterr().err
