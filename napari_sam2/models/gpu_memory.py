"""Fitting: a model on a GPU whose memory may not hold all that is asked at once; then it is asked in smaller parts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import DeviceMemoryError
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_R = TypeVar("_R")


class BatchLimitedModel:
    """A VideoModel that asks `inner` for as many things at once as fit: where memory runs out, for half as many from then on.

    `notices` are sentences for the person, to be taken out by who shows them; they are logged too.
    Raises DeviceMemoryError where not even one thing fits.
    """

    def __init__(self, inner: VideoModel) -> None:
        self.inner = inner
        self.notices: list[str] = []
        self._max_batch_sizes: dict[str, int] = {}

    @property
    def card(self) -> ModelCard:
        """See `VideoModel`."""
        return self.inner.card

    @property
    def device(self) -> str:
        """See `VideoModel`."""
        return self.inner.device

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """See `VideoModel`."""
        return self._call_in_parts("frames", self.inner.embed, views)

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """See `VideoModel`."""
        return self._call_in_parts(
            "objects", lambda part: self.inner.segment(embedding, part), queries
        )

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """See `VideoModel`."""
        return self._call_in_parts(
            "memories", lambda part: self.inner.encode_memory(embedding, part), segments
        )

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """See `VideoModel`."""
        return self.inner.to_arrays(features)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """See `VideoModel`."""
        return self.inner.from_arrays(arrays)

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """See `VideoModel`."""
        return self.inner.nbytes(features)

    def _call_in_parts(
        self, kind: str, call: Callable[[Sequence[_T]], Sequence[_R]], items: Sequence[_T]
    ) -> list[_R]:
        if not items:
            return list(call(items))
        done: list[_R] = []
        while len(done) < len(items):
            part = items[len(done) : len(done) + self._max_batch_sizes.get(kind, len(items))]
            answers = _call_unless_out_of_memory(call, part)
            if answers is None:  # the error is gone by now, and with it what it held
                self._halve_batch_size(kind, len(part))
            else:
                done += answers
        return done

    def _halve_batch_size(self, kind: str, count: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if count <= 1:
            raise DeviceMemoryError(
                f"the memory of {self.device} is full: {self.card.name} does not fit with one of "
                f"the {kind} alone; "
                "choose a smaller model or the processor, or close other programs"
            )
        first = not self._max_batch_sizes
        self._max_batch_sizes[kind] = count // 2
        if first:
            text = (
                f"The memory of {self.device} does not hold all {kind} at once: they are "
                "computed in smaller parts, which takes longer."
            )
            self.notices.append(text)
            log.warning(text)


def _call_unless_out_of_memory(
    call: Callable[[Sequence[_T]], Sequence[_R]], part: Sequence[_T]
) -> Sequence[_R] | None:
    """The answers, None where memory ran out."""
    try:
        return call(part)
    except torch.OutOfMemoryError:
        return None
