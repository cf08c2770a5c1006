"""Movies (MP4, AVI and similar), read one frame at a time."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.files.extras import VIDEO, import_extra
from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.files import convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage, separate_times
from napari_sam2.io.readers.pixels.video import VideoPixels

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

_ROUNDED_TICKS = 1.5  # ticks of the file's clock that times may deviate because they are rounded
_decoder_lock = Lock()  # all threads share the one open decoder


def open_movie(path: Path) -> OpenedImage:
    """Open a movie: frames over time, in colour, or grey if its three colours always agree.

    Pixels have the depth that the movie declares. The interval is that of playback; if frames do
    not come evenly, it is empty, and the time of each frame is kept.
    """
    planes = MoviePlanes.of(path)
    scan = _scan_movie(str(path), get_file_stamp(path))
    in_colour = len(planes.shape) == 4
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        "tyxs" if in_colour else "tyx",
        Spacing(t_s=scan.interval_s),
        rgb=in_colour,
        name=path.stem,
        source=str(path),
        times_s=scan.times_s,
        notes=tuple(f"{path}: {note}" for note in scan.notes),
        lossy=scan.lossy,
    )


@dataclass(frozen=True)
class MoviePlanes:
    """The frames of one movie.

    Reading them in order is fast; reading an earlier frame decodes again from the beginning.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int = 1

    @classmethod
    def of(cls, path: Path) -> MoviePlanes:
        """The frames of a movie; decodes it once to count them, because containers may be wrong."""
        import_extra("av", VIDEO, f"{path}: a movie")
        with convert_read_errors(
            f"{path}: cannot be read as a movie", "frames that can be decoded"
        ):
            scan = _scan_movie(str(path), get_file_stamp(path))
        if not scan.n_frames:
            raise FileError(f"{path}: contains no frames: expected a movie")
        plane = scan.size if scan.grey else (*scan.size, 3)
        return cls(str(path), (scan.n_frames, *plane), scan.dtype)

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One frame, (H, W, 3) or (H, W)."""
        with _decoder_lock:
            pixels = _get_decoder(self.path, get_file_stamp(Path(self.path))).read_frame(index[0])
        pixels = pixels[..., 0] if pixels.ndim > len(self.shape) - 1 else pixels
        if (pixels.shape, pixels.dtype) != (self.shape[1:], self.dtype):
            raise ValueError(
                f"decoded as {pixels.dtype} {pixels.shape!r}, declared as {self.dtype} "
                f"{self.shape[1:]!r}"
            )
        return pixels


class _MovieDecoder:
    """Decodes a movie in order and restarts for an earlier frame.

    Seeking is not used, because it is not exact in every file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._next_frame = 0
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
        self._container, self._frames, self._next_frame = None, iter(()), 0

    def read_frame(self, index: int) -> np.ndarray:
        """Decode one frame."""
        if self._container is None or index < self._next_frame:
            self.close()
            self._container = _open_container(self._path)
            self._frames = self._container.decode(video=0)
        while True:
            frame = next(self._frames, None)
            if frame is None:
                raise ValueError(f"the movie ends before frame {index}")
            self._next_frame += 1
            if self._next_frame > index:
                return VideoPixels.of(frame.format).read(frame)


_open_decoders: dict[tuple[str, tuple[int, int]], _MovieDecoder] = {}


def _get_decoder(path: str, file_stamp: tuple[int, int]) -> _MovieDecoder:
    """The decoder of this movie; closes the decoder of any other."""
    if (path, file_stamp) not in _open_decoders:
        _close_decoders()
        _open_decoders[path, file_stamp] = _MovieDecoder(path)
    return _open_decoders[path, file_stamp]


@atexit.register  # before the modules that a decoder needs are unloaded
def _close_decoders() -> None:
    for decoder in _open_decoders.values():
        decoder.close()
    _open_decoders.clear()


def _open_container(path: str) -> Any:
    """An open movie; its stream decodes frames in several threads."""
    container = import_extra("av", VIDEO, f"{path}: a movie").open(path)
    if not container.streams.video:
        container.close()
        raise FileError(f"{path}: has no video stream: expected a movie")
    container.streams.video[0].thread_type = "AUTO"
    return container


@dataclass(frozen=True)
class _MovieScan:
    """What a movie contains, after all its frames were decoded once; `size` is (H, W)."""

    n_frames: int
    size: tuple[int, int]
    dtype: np.dtype[Any]
    grey: bool
    interval_s: float | None
    times_s: tuple[float, ...]
    lossy: str
    notes: tuple[str, ...]


@lru_cache(maxsize=16)
def _scan_movie(path: str, _: tuple[int, int]) -> _MovieScan:
    times: list[float | None] = []
    size, grey, pixels = (0, 0), True, None
    with _open_container(path) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context.codec
        for frame in container.decode(stream):
            pixels = pixels or VideoPixels.of(frame.format)
            size = size if times else (frame.height, frame.width)
            times.append(frame.time)
            grey = grey and (pixels.grey or _has_equal_colours(pixels.read(frame)))
        rate = float(stream.average_rate or 0)
        tick_s = float(stream.time_base or 0)
        lossy = "" if codec.lossless and not codec.lossy else codec.name
    interval_s, times_s, notes = _read_times(times, rate, tick_s)
    dtype = pixels.dtype if pixels else np.dtype(np.uint8)
    return _MovieScan(len(times), size, dtype, grey, interval_s, times_s, lossy, notes)


def _has_equal_colours(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[..., :1]).all())


def _read_times(
    times: list[float | None], rate: float, tick_s: float
) -> tuple[float | None, tuple[float, ...], tuple[str, ...]]:
    """The interval in s, or the time of each frame if they come unevenly, and notes."""
    declared_s = 1 / rate if rate else None
    known = [time for time in times if time is not None]
    if len(known) < len(times) or len(times) < 2:
        return declared_s, (), ()
    if (np.diff(known) <= 0).any():
        return None, (), ("the times of its frames do not increase; the interval is empty",)
    tolerance_s = _ROUNDED_TICKS * tick_s
    interval_s, times_s = separate_times(known, tolerance_s)
    if interval_s is None:
        steps = np.diff(known)
        note = (
            f"its frames come unevenly, {steps.min():g} to {steps.max():g} s apart; the interval "
            "is empty, and the time of each frame is in the tables"
        )
        return None, times_s, (note,)
    if declared_s and abs(declared_s - interval_s) * (len(times) - 1) <= 2 * tolerance_s:
        return declared_s, (), ()  # times are rounded, the declared rate is not
    return interval_s, (), ()
