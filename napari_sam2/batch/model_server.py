"""The server side of a remote model: runs on a worker and keeps embeddings and memories there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from napari_sam2.batch.compressed_array import compress_arrays, decompress_arrays
from napari_sam2.batch.tasks import get_model
from napari_sam2.core.byte_limited_cache import ByteLimitedCache
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import ModelError
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.core.result import Embedding, MemoryReference, Query, Segment
from napari_sam2.core.window import Window

RESUME_HINT = (
    "finished frames are kept; resume with `track --resume`, or in Python with "
    "`session.reconnect_model(load_remote_model(...))`"
)
"""What to do if a worker is lost."""


@dataclass(frozen=True, eq=False)
class RemoteFeatures:
    """Features that the server keeps: their number, and their size in bytes."""

    number: int
    nbytes: int


class ModelServer:
    """The model on the worker: a dask actor that `RemoteModel` calls, one method at a time.

    Arrays are sent compressed. `released` are the numbers of features that the client has dropped.
    Parts of frames are kept as long as their frame, within `DEFAULT_BYTES`.
    """

    def __init__(self, name: str, options: InferenceOptions) -> None:
        self._model = get_model(name, options)
        self._stored: dict[int, tuple[Any, ...]] = {}
        self.frame_parts = ByteLimitedCache[tuple[int, Window], Embedding](
            lambda embedding: self._model.nbytes(embedding.features)
        )
        self._next_number = count(1)
        self._last_segments: list[Segment] = []

    def describe(self) -> tuple[ModelCard, str]:
        """The model's card and its device."""
        return self._model.card, self._model.device

    def embed(self, views: Any, released: Sequence[int]) -> list[RemoteFeatures]:
        """Embed views and keep the features; see `VideoModel.embed`."""
        self._release(released)
        return [
            self._store(embedding.features)
            for embedding in self._model.embed(decompress_arrays(views))
        ]

    def segment(self, embedding: Embedding, queries: Any, released: Sequence[int]) -> Any:
        """Compressed segments; see `VideoModel.segment`.

        The server keeps the last ones, so that `remember` need not send them back.
        """
        self._release(released)
        self._last_segments = self._model.segment(
            self._restore_embedding(embedding),
            [self._restore_query(query) for query in decompress_arrays(queries)],
        )
        return compress_arrays(self._last_segments)

    def encode_memory(
        self, embedding: Embedding, segments: Any, released: Sequence[int]
    ) -> list[RemoteFeatures]:
        """Encode memories; a segment is given by its index in the last ones, or whole."""
        self._release(released)
        known = [
            self._last_segments[each] if isinstance(each, int) else decompress_arrays(each)
            for each in segments
        ]
        return [
            self._store(features)
            for features in self._model.encode_memory(self._restore_embedding(embedding), known)
        ]

    def to_arrays(self, features: RemoteFeatures, released: Sequence[int]) -> Any:
        """Compressed arrays of features."""
        self._release(released)
        return compress_arrays(list(self._model.to_arrays(self._get_features((features,)))))

    def from_arrays(self, arrays: Any, released: Sequence[int]) -> RemoteFeatures:
        """Features from compressed arrays; they are kept."""
        self._release(released)
        return self._store(self._model.from_arrays(decompress_arrays(arrays)))

    def count_features(self, released: Sequence[int]) -> int:
        """Number of features that are kept."""
        self._release(released)
        return len(self._stored)

    def _store(self, features: tuple[Any, ...]) -> RemoteFeatures:
        number = next(self._next_number)
        self._stored[number] = features
        return RemoteFeatures(number, self._model.nbytes(features))

    def _release(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._stored.pop(number, None)
        self.frame_parts.drop(lambda key: key[0] in numbers)

    def _get_features(self, features: tuple[Any, ...]) -> tuple[Any, ...]:
        (kept,) = features
        if kept.number not in self._stored:
            raise ModelError(f"the worker was restarted and lost its features: {RESUME_HINT}")
        return self._stored[kept.number]

    def _restore_embedding(self, embedding: Embedding) -> Embedding:
        (kept,) = embedding.features
        return replace(
            embedding,
            features=self._get_features(embedding.features),
            get_or_make_part=partial(self._get_part, kept.number),
        )

    def _get_part(self, number: int, window: Window, make: Callable[[], Embedding]) -> Embedding:
        """Parts of frames stay on the server, in memory."""
        return self.frame_parts.get_or_make((number, window), make)

    def _restore_query(self, query: Query) -> Query:
        return replace(
            query,
            memory_references=tuple(
                self._restore_reference(each) for each in query.memory_references
            ),
        )

    def _restore_reference(self, reference: MemoryReference) -> MemoryReference:
        memory = reference.memory
        if memory.features is None:
            return reference
        return replace(
            reference, memory=replace(memory, features=self._get_features(memory.features))
        )
