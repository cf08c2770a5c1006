"""Movies (MP4, AVI and similar), read one frame at a time."""

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
from napari_sam2.core.files.extras import VIDEO, import_extra
from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.files import convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

_PLUGIN = "pyav"
_decoder_lock = Lock()  # all threads share the one open decoder


def open_movie(path: Path) -> OpenedImage:
    """Open a movie: frames over time, in colour, or grey if the three colours of frame 0 agree.

    The interval is that of playback.
    """
    planes = MoviePlanes.of(path)
    in_colour = len(planes.shape) == 4
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        "tyxs" if in_colour else "tyx",
        Spacing(t_s=1 / planes.fps if planes.fps else None),
        rgb=in_colour,
        name=path.stem,
        source=str(path),
    )


@dataclass(frozen=True)
class MoviePlanes:
    """The frames of one movie.

    Reading them in order is fast; reading an earlier frame decodes again from the beginning.
    """

    path: str
    shape: tuple[int, ...]
    fps: float
    n_leading: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always uint8."""
        return np.dtype(np.uint8)

    @classmethod
    def of(cls, path: Path) -> MoviePlanes:
        """The frames of a movie; decodes it once to count them, because containers may be wrong."""
        import_extra("av", VIDEO, f"{path}: a movie")
        with convert_read_errors(
            f"{path}: cannot be read as a movie", "frames that can be decoded"
        ):
            n_frames, first, fps = _count_frames(str(path), get_file_stamp(path))
        if not n_frames:
            raise FileError(f"{path}: contains no frames: expected a movie")
        grey = bool((first == first[..., :1]).all())
        return cls(str(path), (n_frames, *(first.shape[:2] if grey else first.shape)), fps)

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """One frame, (H, W, 3) or (H, W)."""
        with _decoder_lock:
            pixels = _get_decoder(self.path, get_file_stamp(Path(self.path))).read_frame(index[0])
        return pixels if len(self.shape) == 4 else pixels[..., 0]


class _MovieDecoder:
    """Decodes a movie in order and restarts for an earlier frame.

    Seeking is not used, because it is not exact in every file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._next_frame = 0
        self._frames: Generator[np.ndarray, None, None] | None = None

    def close(self) -> None:
        """Close the file."""
        if self._frames is not None:
            self._frames.close()
        self._frames, self._next_frame = None, 0

    def read_frame(self, index: int) -> np.ndarray:
        """Decode one frame."""
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


@lru_cache(maxsize=16)
def _count_frames(path: str, _: tuple[int, int]) -> tuple[int, np.ndarray, float]:
    """The number of frames, the first frame, and the frames per second (0 if unknown)."""
    fps = float(imageio.immeta(path, plugin=_PLUGIN).get("fps") or 0.0)
    n_frames, first = 0, np.empty((0, 0, 3), np.uint8)
    for pixels in imageio.imiter(path, plugin=_PLUGIN):
        first = np.asarray(pixels) if n_frames == 0 else first
        n_frames += 1
    return n_frames, first, fps
