"""Payload: what a network keeps of a Segment for later frames, and what it is shown of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

from torch import Tensor

from napari_sam2.core.errors import PromptError
from napari_sam2.core.result import Memory, MemoryReference, Query
from napari_sam2.core.window import Window
from napari_sam2.models.cropping import Corners
from napari_sam2.models.local_attention import TokenRegion
from napari_sam2.models.network.sam2_network import STRIDE


class MemoryPayload(NamedTuple):
    """What is kept of a Segment: (N, 64) memory, its window, where the object is in it, and the mask for networks that carry it.

    `corners` are None where it is nowhere; `mask` is (h, w); `view_window` is the window that the Segment
    was looked at by.
    """

    tokens: Tensor
    window: Window
    corners: Corners | None
    mask: Tensor | None
    view_window: Window


def find_nearest_memory(memories: Iterable[Memory], frame: int) -> Memory | None:
    """The memory of the nearest frame; None where there is none."""
    return min(memories, key=lambda memory: abs(memory.frame - frame), default=None)


def get_payload(reference: MemoryReference, query: Query) -> MemoryPayload:
    """What is kept of a memory that a query is shown. Raises PromptError where it is forgotten."""
    if reference.memory.features is None:
        forgotten = (
            f"the memory of frame {reference.memory.frame} is to be shown in slot {reference.slot}, "
            "but its features are forgotten"
        )
        raise PromptError(f"{forgotten}: remember it again", track=query.track)
    return cast(MemoryPayload, reference.memory.features)


def cut_tokens(payload: MemoryPayload, window: Window, whole: Window) -> tuple[Tensor, Tensor]:
    """(N, 64) tokens of a memory that are shown to what is looked at by `window`, and their (N,) places on the grid."""
    grid, own = whole.size // STRIDE, TokenRegion.of(payload.window, whole)
    index = own.token_indices(grid)
    if payload.window != whole:
        return payload.tokens, index
    part = TokenRegion.of(window, whole).token_indices(grid)
    return payload.tokens[part.to(payload.tokens.device)], part


def count_memory_tokens(query: Query, window: Window, whole: Window) -> int:
    """Tokens of memory that a query is shown which is looked at by `window`: as many as `cut_tokens` gives."""
    kept = [
        cast(MemoryPayload, memory.features).window
        for memory in query.memories
        if memory.features is not None
    ]
    return sum((window if each == whole else each).size ** 2 for each in kept) // STRIDE**2
