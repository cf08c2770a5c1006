"""Host: a model on a worker of a cluster, with all that is too large to travel: embeddings and memories."""

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
    "what was done is kept; `track` goes on with --resume, a Session with `take_up` of a new "
    "remote_model"
)
"""What to do when a worker is lost."""


@dataclass(frozen=True, eq=False)
class RemoteFeatures:
    """Features that a Host keeps: their number there, and the bytes they take."""

    number: int
    nbytes: int


class ModelServer:
    """What `remote.RemoteModel` asks, on the other machine: an actor of dask, whose methods are called one after another.

    Arrays come and go as parcels. `released` are numbers of features that nobody holds any more.
    Parts of frames are kept within `DEFAULT_BYTES`, as long as their frame is.
    """

    def __init__(self, name: str, options: InferenceOptions) -> None:
        self._model = get_model(name, options)
        self._stored: dict[int, tuple[Any, ...]] = {}
        self._frame_parts = ByteLimitedCache[tuple[int, Window], Embedding](
            lambda embedding: self._model.nbytes(embedding.features)
        )
        self._next_number = count(1)
        self._last_segments: list[Segment] = []

    def describe(self) -> tuple[ModelCard, str]:
        """The model's card and its device."""
        return self._model.card, self._model.device

    def embed(self, views: Any, released: Sequence[int]) -> list[RemoteFeatures]:
        """What is kept of each view; see `VideoModel.embed`."""
        self._release(released)
        return [
            self._store(embedding.features)
            for embedding in self._model.embed(decompress_arrays(views))
        ]

    def segment(self, embedding: Embedding, queries: Any, released: Sequence[int]) -> Any:
        """Answers as parcels; see `VideoModel.segment`.

        They are kept until the next ones, to be remembered.
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
        """What is kept of each segment, which is given by its place among the last answers or as a whole."""
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
        """Features as parcels."""
        self._release(released)
        return compress_arrays(list(self._model.to_arrays(self._get_features((features,)))))

    def from_arrays(self, arrays: Any, released: Sequence[int]) -> RemoteFeatures:
        """Features of parcels, kept."""
        self._release(released)
        return self._store(self._model.from_arrays(decompress_arrays(arrays)))

    def count_features(self, released: Sequence[int]) -> int:
        """How many features are kept."""
        self._release(released)
        return len(self._stored)

    def _store(self, features: tuple[Any, ...]) -> RemoteFeatures:
        number = next(self._next_number)
        self._stored[number] = features
        return RemoteFeatures(number, self._model.nbytes(features))

    def _release(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._stored.pop(number, None)
        self._frame_parts.drop(lambda key: key[0] in numbers)

    def _get_features(self, features: tuple[Any, ...]) -> tuple[Any, ...]:
        (kept,) = features
        if kept.number not in self._stored:
            raise ModelError(
                f"features that were kept on the worker are lost, for it was started anew: {RESUME_HINT}"
            )
        return self._stored[kept.number]

    def _restore_embedding(self, embedding: Embedding) -> Embedding:
        (kept,) = embedding.features
        return replace(
            embedding,
            features=self._get_features(embedding.features),
            get_or_make_part=partial(self._get_part, kept.number),
        )

    def _get_part(self, number: int, window: Window, make: Callable[[], Embedding]) -> Embedding:
        """A part of a frame stays here, in memory: the other side is told nothing of it."""
        return self._frame_parts.get_or_make((number, window), make)

    def _restore_query(self, query: Query) -> Query:
        return replace(
            query,
            memory_references=tuple(
                self._restore_reference(recall) for recall in query.memory_references
            ),
        )

    def _restore_reference(self, reference: MemoryReference) -> MemoryReference:
        memory = reference.memory
        if memory.features is None:
            return reference
        return replace(
            reference, memory=replace(memory, features=self._get_features(memory.features))
        )
