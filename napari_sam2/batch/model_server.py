"""Host: a model on a worker of a cluster, with all that is too large to travel: embeddings and memories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

from napari_sam2.batch.compressed_array import packed, unpacked
from napari_sam2.batch.tasks import model_of
from napari_sam2.core.byte_limited_cache import Shelf
from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import ModelError
from napari_sam2.core.result import Embedding, Query, Recall, Segment
from napari_sam2.core.window import Window

GO_ON = (
    "what was done is kept; `track` goes on with --resume, a Session with `take_up` of a new "
    "remote_model"
)
"""What to do when a worker is lost."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Features that a Host keeps: their number there, and the bytes they take."""

    number: int
    nbytes: int


class Host:
    """What `remote.RemoteModel` asks, on the other machine: an actor of dask, whose methods are called one after another.

    Arrays come and go as parcels. `released` are numbers of features that nobody holds any more.
    Parts of frames are kept within `DEFAULT_BYTES`, as long as their frame is.
    """

    def __init__(self, name: str, device: str, how: Mapping[str, Any]) -> None:
        self._model = model_of(name, device, **how)
        self._held: dict[int, tuple[Any, ...]] = {}
        self._parts = Shelf[tuple[int, Window], Embedding](
            lambda embedding: self._model.nbytes(embedding.features)
        )
        self._numbers = count(1)
        self._answers: list[Segment] = []

    def about(self) -> tuple[ModelCard, str]:
        """The model's card and its device."""
        return self._model.card, self._model.device

    def embed(self, views: Any, released: Sequence[int]) -> list[Kept]:
        """What is kept of each view; see `VideoModel.embed`."""
        self._release(released)
        return [self._keep(embedding.features) for embedding in self._model.embed(unpacked(views))]

    def segment(self, embedding: Embedding, queries: Any, released: Sequence[int]) -> Any:
        """Answers as parcels; see `VideoModel.segment`.

        They are kept until the next ones, to be remembered.
        """
        self._release(released)
        self._answers = self._model.segment(
            self._whole(embedding), [self._asked(query) for query in unpacked(queries)]
        )
        return packed(self._answers)

    def remember(self, embedding: Embedding, segments: Any, released: Sequence[int]) -> list[Kept]:
        """What is kept of each segment, which is given by its place among the last answers or as a whole."""
        self._release(released)
        known = [
            self._answers[each] if isinstance(each, int) else unpacked(each) for each in segments
        ]
        return [
            self._keep(features) for features in self._model.remember(self._whole(embedding), known)
        ]

    def to_arrays(self, kept: Kept, released: Sequence[int]) -> Any:
        """Features as parcels."""
        self._release(released)
        return packed(list(self._model.to_arrays(self._features((kept,)))))

    def from_arrays(self, arrays: Any, released: Sequence[int]) -> Kept:
        """Features of parcels, kept."""
        self._release(released)
        return self._keep(self._model.from_arrays(unpacked(arrays)))

    def holds(self, released: Sequence[int]) -> int:
        """How many features are kept."""
        self._release(released)
        return len(self._held)

    def _keep(self, features: tuple[Any, ...]) -> Kept:
        number = next(self._numbers)
        self._held[number] = features
        return Kept(number, self._model.nbytes(features))

    def _release(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._held.pop(number, None)
        self._parts.drop(lambda key: key[0] in numbers)

    def _features(self, features: tuple[Any, ...]) -> tuple[Any, ...]:
        (kept,) = features
        if kept.number not in self._held:
            raise ModelError(
                f"features that were kept on the worker are lost, for it was started anew: {GO_ON}"
            )
        return self._held[kept.number]

    def _whole(self, embedding: Embedding) -> Embedding:
        (kept,) = embedding.features
        return replace(
            embedding,
            features=self._features(embedding.features),
            keep=partial(self._part, kept.number),
        )

    def _part(self, number: int, window: Window, make: Callable[[], Embedding]) -> Embedding:
        """A part of a frame stays here, in memory: the other side is told nothing of it."""
        return self._parts.had((number, window), make)

    def _asked(self, query: Query) -> Query:
        return replace(query, recalls=tuple(self._recalled(recall) for recall in query.recalls))

    def _recalled(self, recall: Recall) -> Recall:
        memory = recall.memory
        if memory.features is None:
            return recall
        return replace(recall, memory=replace(memory, features=self._features(memory.features)))
