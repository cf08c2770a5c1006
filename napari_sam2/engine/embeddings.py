"""Embeddings: each frame is encoded once. Kept in memory within a budget of bytes and, where a folder is given, on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding
from napari_sam2.core.shelf import DEFAULT_BYTES, Shelf
from napari_sam2.core.video import Frame, Video
from napari_sam2.core.window import Window

__all__ = ["DEFAULT_BYTES", "Embeddings"]


class _View(NamedTuple):
    """What an Embedding is of: a frame, or a part of one that the model asked for while it was asked about the frame."""

    frame: int
    window: Window
    part: bool = False

    @property
    def name(self) -> str:
        """Of its group on disk."""
        window = self.window
        place = f"{window.top:g}_{window.left:g}_{window.height:g}_{window.width:g}_{window.size}"
        return f"{self.frame}/{'part_' if self.part else ''}{place}"


class Embeddings:
    """The embeddings of one Video by one model: of whole frames, and of the parts that the model looks at.

    Parameters
    ----------
    budget
        Bytes of memory they may take together; the one last used is always kept.
    folder
        Where they are kept on disk too, in half precision (zarr). What is read back and what was just encoded are then
        the same: both are rounded, so a result does not depend on what was in the cache. Not kept where None.
    """

    def __init__(self, video: Video, model: VideoModel, *, budget: int = DEFAULT_BYTES, folder: Path | None = None) -> None:
        self._video = video
        self._model = model
        self._kept = Shelf[_View, Embedding](lambda embedding: model.nbytes(embedding.features), budget)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="napari-sam2-read")
        self._ahead: dict[int, Future[Frame]] = {}
        self._store = _open_store(folder, video, model) if folder else None

    @property
    def window(self) -> Window:
        """The Window of a whole frame."""
        return self._model.card.window(self._video.shape[1:])

    @property
    def length(self) -> int:
        """Frames in the video."""
        return len(self._video)

    def get(self, frame: int, *, ahead: int | None = None) -> Embedding:
        """The embedding of a whole frame. `ahead` is the frame wanted next: it is read while this one is encoded."""
        view = _View(frame, self.window)
        return replace(self._had(view, lambda: self._encode(view, ahead)), keep=partial(self._part, frame))

    def close(self) -> None:
        """Let go of all memory and of the reading thread."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._kept.clear()
        self._ahead.clear()

    def _part(self, frame: int, window: Window, make: Callable[[], Embedding]) -> Embedding:
        return self._had(_View(frame, window, part=True), make)

    def _had(self, view: _View, make: Callable[[], Embedding]) -> Embedding:
        """From memory, from disk, or made."""
        return self._kept.had(view, lambda: self._load(view) or self._save(view, make()))

    def _encode(self, view: _View, ahead: int | None) -> Embedding:
        pixels = self._read(view.frame)
        if ahead is not None and view._replace(frame=ahead) not in self._kept and ahead not in self._ahead:
            self._ahead = {ahead: self._reader.submit(self._video.frame, ahead)}
        return self._model.embed([(pixels, view.window)])[0]

    def _read(self, frame: int) -> Frame:
        waiting = self._ahead.pop(frame, None)
        return waiting.result() if waiting else self._video.frame(frame)

    def _save(self, view: _View, embedding: Embedding) -> Embedding:
        """As it is read back from disk; as it is where nothing is kept there."""
        if self._store is None:
            return replace(embedding, keep=None)
        arrays = [_halved(array) for array in self._model.to_arrays(embedding.features)]
        group = self._store.create_group(view.name, overwrite=True)
        for number, array in enumerate(arrays):
            group.create_array(str(number), data=array, chunks=array.shape)
        group.attrs["arrays"] = len(arrays)  # written last: a group without it was cut off and is made again
        return self._rounded(view, arrays)

    def _load(self, view: _View) -> Embedding | None:
        if self._store is None or view.name not in self._store:
            return None
        group = self._store[view.name]
        count = group.attrs.get("arrays")
        return None if count is None else self._rounded(view, [np.asarray(group[str(n)][...]) for n in range(count)])

    def _rounded(self, view: _View, arrays: list[np.ndarray]) -> Embedding:
        return Embedding(view.frame, view.window, self._model.from_arrays([_doubled(array) for array in arrays]))


def _open_store(folder: Path, video: Video, model: VideoModel) -> Any:
    """A zarr group of this video and these weights; another model, precision, windows or contrast is another group."""
    card = model.card
    unusual = [each for each in (card.precision, card.windows) if each not in ("float32", "whole")]
    weights = "|".join([card.sha256 or card.name, *unusual])
    key = hashlib.sha256(f"{video.identity}|{weights}".encode()).hexdigest()[:16]
    return zarr.open_group(folder / f"{key}.zarr", mode="a")


def _halved(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16) if array.dtype.kind == "f" else array


def _doubled(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "f" else array
