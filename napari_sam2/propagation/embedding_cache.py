"""EmbeddingCache: each frame is encoded once, and cached in memory and optionally on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from napari_sam2.core.byte_limited_cache import DEFAULT_BYTES, ByteLimitedCache
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding
from napari_sam2.core.stack import Frame, Video
from napari_sam2.core.window import Window
from napari_sam2.propagation.embedding_disk_cache import EmbeddingDiskCache


class _EmbeddingKey(NamedTuple):
    """A whole frame, or a part of one that the model encoded on demand."""

    frame: int
    window: Window
    is_part: bool = False

    @property
    def name(self) -> str:
        """Name of the group on disk."""
        window = self.window
        place = f"{window.top:g}_{window.left:g}_{window.height:g}_{window.width:g}_{window.size}"
        return f"{self.frame}/{'part_' if self.is_part else ''}{place}"


class EmbeddingCache:
    """The embeddings of one video by one model: whole frames, and parts the model encodes.

    Parameters
    ----------
    budget
        Bytes of memory for all embeddings; the one used last always stays.
    disk_cache
        Stores the embeddings on disk too, in single precision and without loss.
    """

    def __init__(
        self,
        video: Video,
        model: VideoModel,
        *,
        budget: int = DEFAULT_BYTES,
        disk_cache: EmbeddingDiskCache | None = None,
    ) -> None:
        self._video = video
        self._model = model
        self.cache = ByteLimitedCache[_EmbeddingKey, Embedding](
            lambda embedding: model.nbytes(embedding.features), budget
        )
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="napari-sam2-read")
        self._prefetched: dict[int, Future[Frame]] = {}
        self._disk_cache = disk_cache

    @property
    def window(self) -> Window:
        """The window of a whole frame."""
        return self._model.card.make_frame_window(self._video.shape[1:])

    @property
    def length(self) -> int:
        """Frames in the video."""
        return len(self._video)

    def get(self, frame: int, *, next_frame: int | None = None) -> Embedding:
        """The embedding of a whole frame; `next_frame` is read while it is encoded."""
        view = _EmbeddingKey(frame, self.window)
        return replace(
            self._get_or_make(view, lambda: self._encode(view, next_frame)),
            get_or_make_part=partial(self._get_part, frame),
        )

    def close(self) -> None:
        """Release all memory and the reading thread."""
        self._reader.shutdown(wait=True, cancel_futures=True)
        self.cache.clear()
        self._prefetched.clear()

    def _get_part(self, frame: int, window: Window, make: Callable[[], Embedding]) -> Embedding:
        return self._get_or_make(_EmbeddingKey(frame, window, is_part=True), make)

    def _get_or_make(self, key: _EmbeddingKey, make: Callable[[], Embedding]) -> Embedding:
        """The embedding from memory or from disk, else computed."""
        return self.cache.get_or_make(key, lambda: self._load(key) or self._save(key, make()))

    def _encode(self, key: _EmbeddingKey, next_frame: int | None) -> Embedding:
        pixels = self._read_frame(key.frame)
        if (
            next_frame is not None
            and key._replace(frame=next_frame) not in self.cache
            and next_frame not in self._prefetched
        ):
            self._prefetched = {next_frame: self._reader.submit(self._video.read_frame, next_frame)}
        return self._model.embed([(pixels, key.window)])[0]

    def _read_frame(self, frame: int) -> Frame:
        waiting = self._prefetched.pop(frame, None)
        return waiting.result() if waiting else self._video.read_frame(frame)

    def _save(self, key: _EmbeddingKey, embedding: Embedding) -> Embedding:
        """Store an embedding on disk, if wanted, and return it as it will be read back.

        On a CPU, kernels may round differently for another memory layout. Results would then
        depend on whether the embedding came from the disk.
        """
        if self._disk_cache is None and self._model.device != "cpu":
            return replace(embedding, get_or_make_part=None)
        arrays = self._model.to_arrays(embedding.features)
        if self._disk_cache:
            self._disk_cache.put(key.name, arrays)
        return self._restore_embedding(key, arrays)

    def _load(self, key: _EmbeddingKey) -> Embedding | None:
        arrays = self._disk_cache.get(key.name) if self._disk_cache else None
        return None if arrays is None else self._restore_embedding(key, arrays)

    def _restore_embedding(self, key: _EmbeddingKey, arrays: Sequence[np.ndarray]) -> Embedding:
        return Embedding(key.frame, key.window, self._model.from_arrays(arrays))
