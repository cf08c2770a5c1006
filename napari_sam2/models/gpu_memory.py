"""Smaller batches for a GPU whose memory does not hold all items at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from napari_sam2.core.errors import DeviceMemoryError
from napari_sam2.core.protocols import VideoModel, WrappedModel
from napari_sam2.core.result import Embedding, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_R = TypeVar("_R")


class BatchLimitedModel(WrappedModel):
    """A VideoModel that halves the batches of `inner` whenever the GPU runs out of memory.

    `notices` holds sentences for the person. The user interface removes those it has shown; they
    are logged too. DeviceMemoryError is raised if a single item does not fit.
    """

    def __init__(self, inner: VideoModel) -> None:
        super().__init__(inner)
        self.notices: list[str] = []
        self._max_batch_sizes: dict[str, int] = {}

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

    def _call_in_parts(
        self, kind: str, call: Callable[[Sequence[_T]], Sequence[_R]], items: Sequence[_T]
    ) -> list[_R]:
        if not items:
            return list(call(items))
        results: list[_R] = []
        while len(results) < len(items):
            size = self._max_batch_sizes.get(kind, len(items))
            part = items[len(results) : len(results) + size]
            answers = _call_unless_out_of_memory(call, part)
            if answers is None:  # the error is gone, and with it the memory it referred to
                self._halve_batch_size(kind, len(part))
            else:
                results += answers
        return results

    def _halve_batch_size(self, kind: str, count: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if count <= 1:
            raise DeviceMemoryError(
                f"the memory of {self.device} is full: it does not hold {self.card.name} and one "
                f"of the {kind}; choose a smaller model or the processor, or close other programs"
            )
        is_first = not self._max_batch_sizes
        self._max_batch_sizes[kind] = count // 2
        if is_first:
            text = (
                f"The memory of {self.device} does not hold all {kind} at once: they are "
                "computed in smaller parts, which takes longer."
            )
            self.notices.append(text)
            log.warning(text)


def _call_unless_out_of_memory(
    call: Callable[[Sequence[_T]], Sequence[_R]], part: Sequence[_T]
) -> Sequence[_R] | None:
    """The results; None if the GPU ran out of memory."""
    try:
        return call(part)
    except torch.OutOfMemoryError:
        return None
