"""Movies: MP4, AVI and their like, a frame at a time."""

from __future__ import annotations

import atexit
from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, cast

import imageio.v3 as imageio
import numpy as np

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.extras import VIDEO, import_extra
from napari_sam2.io.readers.lazy import convert_read_errors, get_file_stamp, make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

_PLUGIN = "pyav"
_decoder_lock = Lock()  # one decoder is kept, and it goes forward through its file


def open_movie(path: Path) -> OpenedImage:
    """What a movie holds: frames over time, in colour; grey where all three colours are one.

    The interval is that of playing.
    """
    planes = MoviePlanes.of(path)
    rate = planes.fps
    axes = "tyxs" if len(planes.shape) == 4 else "tyx"
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        axes,
        Spacing(t_s=1 / rate if rate else None),
        rgb=len(planes.shape) == 4,
        name=path.stem,
        source=str(path),
    )


@dataclass(frozen=True)
class MoviePlanes:
    """The frames of one movie.

    Reading them in order is quick, jumping decodes from the key frame before.
    """

    path: str
    shape: tuple[int, ...]
    fps: float
    n_leading: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """8 bit, as movies are."""
        return np.dtype(np.uint8)

    @classmethod
    def of(cls, path: Path) -> MoviePlanes:
        """Of a movie whose frames were counted: containers say how many there are, and are wrong."""
        import_extra("av", VIDEO, f"{path}: movies")
        with convert_read_errors(
            f"{path}: cannot be read as a movie", "frames that can be decoded"
        ):
            count, first, rate = _count_frames(str(path), get_file_stamp(path))
        if not count:
            raise FileError(f"{path}: holds no frames: expected a movie")
        grey = bool((first == first[..., :1]).all())
        return cls(str(path), (count, *(first.shape[:2] if grey else first.shape)), rate)

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One frame, (H, W, 3) or (H, W)."""
        with _decoder_lock:
            pixels = _get_decoder(self.path, get_file_stamp(Path(self.path))).read_frame(index[0])
        return pixels if len(self.shape) == 4 else pixels[..., 0]


class _MovieDecoder:
    """Goes forward through a movie; back means from the start again: exact, where seeking is not in every file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._next_frame = 0
        self._frames: Generator[np.ndarray, None, None] | None = None

    def close(self) -> None:
        """Let go of the file."""
        if self._frames is not None:
            self._frames.close()
        self._frames, self._next_frame = None, 0

    def read_frame(self, index: int) -> np.ndarray:
        """The pixels of one frame."""
        if self._frames is None or index < self._next_frame:
            self.close()
            self._frames = cast(
                "Generator[np.ndarray, None, None]", imageio.imiter(self._path, plugin=_PLUGIN)
            )
        while True:
            pixels = next(self._frames, None)
            if pixels is None:
                raise ValueError(f"the movie ends before frame {index}")
            self._next_frame += 1
            if self._next_frame > index:
                return np.asarray(pixels)


_open_decoders: dict[tuple[str, tuple[int, int]], _MovieDecoder] = {}


def _get_decoder(path: str, file_stamp: tuple[int, int]) -> _MovieDecoder:
    """The decoder of this movie; that of another is closed."""
    if (path, file_stamp) not in _open_decoders:
        _close_decoders()
        _open_decoders[path, file_stamp] = _MovieDecoder(path)
    return _open_decoders[path, file_stamp]


@atexit.register  # a decoder that is closed later finds its package taken down
def _close_decoders() -> None:
    for decoder in _open_decoders.values():
        decoder.close()
    _open_decoders.clear()


@lru_cache(maxsize=16)
def _count_frames(path: str, _: tuple[int, int]) -> tuple[int, np.ndarray, float]:
    """How many frames there are, the first of them, and how many are shown in a second."""
    rate = float(imageio.immeta(path, plugin=_PLUGIN).get("fps") or 0.0)
    count, first = 0, np.empty((0, 0, 3), np.uint8)
    for pixels in imageio.imiter(path, plugin=_PLUGIN):
        first = np.asarray(pixels) if count == 0 else first
        count += 1
    return count, first, rate
