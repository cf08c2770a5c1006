"""Fetching: from a real server on this machine, which breaks off, forgets, lies and refuses as servers do."""

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
    """What the server has, and how it behaves: `stops` are the bytes after which each next answer breaks off."""

    content: bytes = WEIGHTS
    ranges: bool = True
    status: int = 200
    stops: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    behaviour = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            behaviour.asked.append(self.headers.get("Range"))
            stop = behaviour.stops.pop(0) if behaviour.stops else None
            if stop == 0 or behaviour.status != 200:
                self.send_error(behaviour.status if behaviour.status != 200 else 503)
                return
            start = (
                int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
                if behaviour.ranges and "Range" in self.headers
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
    """A model published on that server, called "toy"."""

    def publish(sha256=SHA256, url=server.url):
        monkeypatch.setitem(
            PUBLISHED,
            "toy",
            PublishedCheckpoint(ModelCard("toy", source=url, sha256=sha256), len(WEIGHTS)),
        )

    publish()
    return publish


def left(cache: Path) -> list[str]:
    """Names of what is in the cache, but for locks."""
    return (
        sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")
        if cache.is_dir()
        else []
    )


def begun(cache: Path, content: bytes) -> Path:
    """A download that broke off after `content`, in an earlier run."""
    cache.mkdir(parents=True)
    part = cache / f"toy.pt.{SHA256[:8]}.part"
    part.write_bytes(content)
    return part


def test_whole_file_arrives_and_is_not_fetched_twice(server, toy, cache):
    path = fetch.fetch_model("toy", progress=False)
    assert path.read_bytes() == WEIGHTS
    assert left(cache) == ["toy.pt"]
    assert cards.find_models()["toy"].state == "fetched"
    assert fetch.fetch_model("toy", progress=False) == path
    assert server.asked == [None]


def test_broken_connection_goes_on_where_it_was(server, toy, cache):
    server.stops = [HALF, 2 * PIECE]
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.asked == [None, f"bytes={HALF}-", f"bytes={HALF + 2 * PIECE}-"]
    assert left(cache) == ["toy.pt"]


def test_later_call_goes_on_where_an_earlier_one_gave_up(server, toy, cache):
    server.stops = [HALF, 0]
    with pytest.raises(
        FileError,
        match=r"the server answered 503 .* The same command resumes after 1\.6 MB",
    ):
        fetch.fetch_model("toy", progress=False)
    assert left(cache) == [f"toy.pt.{SHA256[:8]}.part"]
    server.asked.clear()
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.asked == [f"bytes={HALF}-"]


def test_connection_that_brings_nothing_any_more_is_given_up(server, toy):
    server.stops = [HALF, *[-len(WEIGHTS)] * 5]
    with pytest.raises(FileError, match="the connection broke"):
        fetch.fetch_model("toy", progress=False)
    assert len(server.asked) == 2


def test_download_that_is_not_wanted_any_more_stops_and_goes_on_later(server, toy, cache):
    answers = iter([True, False])
    with pytest.raises(FileError, match="was stopped; the next one resumes it"):
        fetch.fetch_model("toy", progress=False, should_continue=lambda: next(answers))
    assert len(left(cache)) == 1 and left(cache)[0].endswith(".part")
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.asked[1].startswith("bytes=")


def test_server_without_ranges_sends_all_again(server, toy, cache):
    server.ranges = False
    begun(cache, WEIGHTS[:HALF])
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.asked == [f"bytes={HALF}-"]


def test_download_that_was_complete_is_only_verified(server, toy, cache):
    begun(cache, WEIGHTS)
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert left(cache) == ["toy.pt"]


def test_download_longer_than_the_file_starts_afresh(server, toy, cache):
    begun(cache, WEIGHTS + b"more")
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS
    assert server.asked == [f"bytes={len(WEIGHTS) + 4}-", None]


def test_other_file_than_the_published_one_is_refused_and_removed(server, toy, cache):
    server.content = WEIGHTS[::-1]
    arrived = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(
        CheckpointError, match=f"has SHA-256 {arrived}, expected {SHA256}: it was removed"
    ):
        fetch.fetch_model("toy", progress=False)
    assert left(cache) == []


def test_wrong_beginning_is_noticed_and_does_not_stay(server, toy, cache):
    begun(cache, b"x" * HALF)
    with pytest.raises(CheckpointError, match="it was removed"):
        fetch.fetch_model("toy", progress=False)
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS


def test_file_that_was_damaged_in_the_cache_is_fetched_again(server, toy, cache):
    path = fetch.fetch_model("toy", progress=False)
    path.write_bytes(WEIGHTS[:-1])
    assert fetch.fetch_model("toy", progress=False).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "the server answered 404 Not Found"), (403, "the server answered 403 Forbidden")],
)
def test_server_that_refuses_is_quoted_with_a_way_out(server, toy, cache, status, said):
    server.status = status
    with pytest.raises(FileError, match=f"{said}.*napari-sam2 models import FILE"):
        fetch.fetch_model("toy", progress=False)
    assert left(cache) == []


def test_no_connection_is_said_with_a_way_out(toy, cache):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    toy(url=f"http://127.0.0.1:{port}/toy.pt")
    with pytest.raises(
        FileError, match=r"no connection \(Connection refused\).*napari-sam2 models import FILE"
    ):
        fetch.fetch_model("toy", progress=False)
    assert left(cache) == []


def test_address_that_is_none_is_refused(toy):
    with pytest.raises(FileError, match=r"could not be fetched from toy\.pt"):
        fetch.fetch_model("toy", progress=False, url="toy.pt")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_disk_that_fills_up_while_writing(server, toy, cache):
    cache.mkdir(parents=True)
    (cache / f"toy.pt.{SHA256[:8]}.part").symlink_to(
        "/dev/full"
    )  # the system itself says "No space left on device"
    with pytest.raises(
        OutputError, match=r"no space left .* choose another folder with NAPARI_SAM2_CACHE"
    ):
        fetch.fetch_model("toy", progress=False)


def test_disk_too_small_is_noticed_before_anything_is_written(server, toy, cache, monkeypatch):
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(OutputError, match=r"toy needs 3\.0 MB, but 0\.0 MB are free"):
        fetch.fetch_model("toy", progress=False)
    assert left(cache) == []


def test_cache_that_cannot_be_made(server, toy, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(files.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be created"):
        fetch.fetch_model("toy", progress=False)
    assert server.asked == []


def test_two_at_once_do_not_write_into_each_other(server, toy, cache):
    part = begun(cache, WEIGHTS[:HALF])
    with (
        FileLock(part.with_suffix(".lock")),
        pytest.raises(OutputError, match="another process is downloading it"),
    ):
        fetch.fetch_model("toy", progress=False)
    assert part.read_bytes() == WEIGHTS[:HALF]


def test_checkpoint_without_a_known_sum_is_not_fetched_unless_one_is_given(server, toy, cache):
    toy(sha256="")
    with pytest.raises(
        CheckpointError, match="cannot be verified: give the one you trust with --sha256"
    ):
        fetch.fetch_model("toy", progress=False)
    assert server.asked == []
    assert (
        fetch.fetch_model("toy", progress=False, sha256=f"sha256:{SHA256.upper()}").read_bytes()
        == WEIGHTS
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [("0" * 64, "the published file has"), ("abc", "expected 64 hexadecimal digits")],
)
def test_sum_that_cannot_be_right_is_refused(server, toy, given, said):
    with pytest.raises(CheckpointError, match=said):
        fetch.fetch_model("toy", progress=False, sha256=given)
    assert server.asked == []


def test_mirror_gives_the_same_file(server, toy, cache):
    toy(url="http://127.0.0.1:9/nowhere.pt")
    assert fetch.fetch_model("toy", progress=False, url=server.url).name == "nowhere.pt"


def test_name_that_nobody_publishes(toy):
    with pytest.raises(UnknownModelError, match="did you mean 'toy'"):
        fetch.fetch_model("toyy")


def test_progress_is_shown_on_request(server, toy, cache, capsys):
    fetch.fetch_model("toy")
    assert "toy: 100%" in capsys.readouterr().err


def test_no_progress_is_shown_without(server, toy, cache, capsys):
    fetch.fetch_model("toy", progress=False)
    assert "%" not in capsys.readouterr().err
