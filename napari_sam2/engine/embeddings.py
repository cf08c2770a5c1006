"""Embeddings: each frame is encoded once. Kept in memory within a budget of bytes and, where a folder is given, on disk."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import zarr

from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding
from napari_sam2.core.video import Frame, Video
from napari_sam2.core.window import Window

DEFAULT_BYTES = 1 << 30


class Embeddings:
    """The embeddings of one Video by one model.

    Parameters
    ----------
    budget
        Bytes of memory they may take together; the one last used is always kept.
    folder
        Where they are kept on disk too, in half precision (zarr). A frame read back and a frame just encoded are then
        the same: both are rounded, so a result does not depend on what was in the cache. Not kept where None.
    """

    def __init__(self, video: Video, model: VideoModel, *, budget: int = DEFAULT_BYTES, folder: Path | None = None) -> None:
        self._video = video
        self._model = model
        self._budget = budget
        self._kept: OrderedDict[tuple[int, Window], Embedding] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()
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
        window = self.window
        with self._lock:
            found = self._kept.get((frame, window))
            if found:
                self._kept.move_to_end((frame, window))
                return found
        embedding = self._load(frame, window) or self._encode(frame, window, ahead)
        self._keep(embedding)
        return embedding

    def close(self) -> None:
        """Let go of all memory and of the reading thread."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._kept.clear()
        self._ahead.clear()
        self._bytes = 0

    def _encode(self, frame: int, window: Window, ahead: int | None) -> Embedding:
        pixels = self._read(frame)
        if ahead is not None and (ahead, window) not in self._kept and ahead not in self._ahead:
            self._ahead = {ahead: self._reader.submit(self._video.frame, ahead)}
        embedding = self._model.embed([(pixels, window)])[0]
        return embedding if self._store is None else self._save(embedding, self._store)

    def _read(self, frame: int) -> Frame:
        waiting = self._ahead.pop(frame, None)
        return waiting.result() if waiting else self._video.frame(frame)

    def _keep(self, embedding: Embedding) -> None:
        with self._lock:
            self._kept[(embedding.frame, embedding.window)] = embedding
            self._bytes += self._model.nbytes(embedding.features)
            while self._bytes > self._budget and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= self._model.nbytes(oldest.features)

    def _save(self, embedding: Embedding, store: Any) -> Embedding:
        arrays = [_halved(array) for array in self._model.to_arrays(embedding.features)]
        group = store.create_group(_name(embedding.frame, embedding.window), overwrite=True)
        for number, array in enumerate(arrays):
            group.create_array(str(number), data=array, chunks=array.shape)
        group.attrs["arrays"] = len(arrays)  # written last: a group without it was cut off and is made again
        return self._rounded(embedding.frame, embedding.window, arrays)

    def _load(self, frame: int, window: Window) -> Embedding | None:
        if self._store is None or _name(frame, window) not in self._store:
            return None
        group = self._store[_name(frame, window)]
        count = group.attrs.get("arrays")
        return None if count is None else self._rounded(frame, window, [np.asarray(group[str(n)][...]) for n in range(count)])

    def _rounded(self, frame: int, window: Window, arrays: list[np.ndarray]) -> Embedding:
        return Embedding(frame, window, self._model.from_arrays([_doubled(array) for array in arrays]))


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


def _name(frame: int, window: Window) -> str:
    place = f"{window.top:g}_{window.left:g}_{window.height:g}_{window.width:g}_{window.size}"
    return f"{frame}/{place}"
