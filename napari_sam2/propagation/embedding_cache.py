"""Embeddings: each frame is encoded once.

Kept in memory within a budget of bytes and, where asked, on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from napari_sam2.core.byte_limited_cache import DEFAULT_BYTES, Shelf
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding
from napari_sam2.core.video import Frame, Video
from napari_sam2.core.window import Window
from napari_sam2.propagation.embedding_disk_cache import Disk


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
    disk
        Where they are kept too, in single precision: what is read back is what was encoded, to the
        last bit. Not kept where None.
    """

    def __init__(
        self,
        video: Video,
        model: VideoModel,
        *,
        budget: int = DEFAULT_BYTES,
        disk: Disk | None = None,
    ) -> None:
        self._video = video
        self._model = model
        self._kept = Shelf[_View, Embedding](
            lambda embedding: model.nbytes(embedding.features), budget
        )
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="napari-sam2-read")
        self._ahead: dict[int, Future[Frame]] = {}
        self._disk = disk

    @property
    def window(self) -> Window:
        """The Window of a whole frame."""
        return self._model.card.window(self._video.shape[1:])

    @property
    def length(self) -> int:
        """Frames in the video."""
        return len(self._video)

    def get(self, frame: int, *, ahead: int | None = None) -> Embedding:
        """The embedding of a whole frame.

        `ahead` is the frame wanted next: it is read while this one is encoded.
        """
        view = _View(frame, self.window)
        return replace(
            self._had(view, lambda: self._encode(view, ahead)), keep=partial(self._part, frame)
        )

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
        if (
            ahead is not None
            and view._replace(frame=ahead) not in self._kept
            and ahead not in self._ahead
        ):
            self._ahead = {ahead: self._reader.submit(self._video.frame, ahead)}
        return self._model.embed([(pixels, view.window)])[0]

    def _read(self, frame: int) -> Frame:
        waiting = self._ahead.pop(frame, None)
        return waiting.result() if waiting else self._video.frame(frame)

    def _save(self, view: _View, embedding: Embedding) -> Embedding:
        """Kept on disk where asked; in memory then as it is read back: kernels may take another way with what lies otherwise there."""
        if self._disk is None and self._model.device != "cpu":
            return replace(embedding, keep=None)
        arrays = self._model.to_arrays(embedding.features)
        if self._disk:
            self._disk.put(view.name, arrays)
        return self._of(view, arrays)

    def _load(self, view: _View) -> Embedding | None:
        arrays = self._disk.get(view.name) if self._disk else None
        return None if arrays is None else self._of(view, arrays)

    def _of(self, view: _View, arrays: Sequence[np.ndarray]) -> Embedding:
        return Embedding(view.frame, view.window, self._model.from_arrays(arrays))
