"""The features that a network keeps of a segment, cut or resampled to another window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from torch import Tensor

from napari_sam2.core.errors import PromptError
from napari_sam2.core.result import Memory, MemoryReference, Query
from napari_sam2.core.sam2_constants import ABSENT_LOGIT
from napari_sam2.core.window import Window
from napari_sam2.models.cropping import Corners, resample
from napari_sam2.models.local_attention import TokenRegion, resample_region
from napari_sam2.models.network.sam2_network import MASK_STRIDE, STRIDE


class MemoryPayload(NamedTuple):
    """The features of one memory.

    Parameters
    ----------
    tokens
        (N, 64) memory features of `window`, row by row.
    window
        The window they cover.
    corners
        Of the object, in data pixels; None if it is absent.
    mask
        (h, w) logits over `window`, for networks that read the propagated mask; else None.
    view_window
        The window through which the model segmented the object.
    """

    tokens: Tensor
    window: Window
    corners: Corners | None
    mask: Tensor | None
    view_window: Window


def find_nearest_memory(memories: Iterable[Memory], frame: int) -> Memory | None:
    """The memory of the nearest frame; None if there is none."""
    return min(memories, key=lambda memory: abs(memory.frame - frame), default=None)


def get_payload(reference: MemoryReference, query: Query) -> MemoryPayload:
    """The features of a memory that a query refers to. Raises PromptError if they were dropped."""
    if reference.memory.features is None:
        raise PromptError(
            f"slot {reference.slot} refers to the memory of frame {reference.memory.frame}, "
            "whose features were dropped: encode this memory again",
            track=query.track,
        )
    return cast(MemoryPayload, reference.memory.features)


def cut_tokens(payload: MemoryPayload, window: Window, whole: Window) -> tuple[Tensor, Tensor]:
    """The tokens of a memory that a query of `window` attends to.

    Of a memory of the whole grid these are the tokens in `window`, else all of its tokens.

    Returns
    -------
    tokens
        (N, 64).
    indices
        (N,) of the tokens on the grid of `whole`.
    """
    grid, own = whole.size // STRIDE, TokenRegion.of(payload.window, whole)
    if payload.window != whole:
        return payload.tokens, own.token_indices(grid)
    part = TokenRegion.of(window, whole).token_indices(grid)
    return payload.tokens[part.to(payload.tokens.device)], part


def count_memory_tokens(query: Query, window: Window, whole: Window) -> int:
    """Memory tokens that a query of `window` attends to: as many as `cut_tokens` returns."""
    windows = [
        cast(MemoryPayload, memory.features).window
        for memory in query.memories
        if memory.features is not None
    ]
    return sum((window if each == whole else each).size ** 2 for each in windows) // STRIDE**2


def cut_memory(payload: MemoryPayload, region: Window, whole: Window) -> MemoryPayload:
    """A memory of the whole grid, cut to a region of it."""
    tokens, _ = cut_tokens(payload, region, whole)
    mask = payload.mask
    if mask is not None:
        mask = resample_region(mask, whole, region, whole, ABSENT_LOGIT)
    return payload._replace(tokens=tokens, window=region, mask=mask)


def resample_memory(payload: MemoryPayload, target: Window, view_window: Window) -> MemoryPayload:
    """A memory resampled to any target window, as seen through `view_window`."""
    tokens = resample_tokens(
        payload.tokens.float()[None], [payload.window], [target], target.size // STRIDE
    )[0]
    mask = payload.mask
    if mask is not None:
        plane = mask.float()[None, None]
        side = target.size // MASK_STRIDE
        mask = resample(plane, [payload.window], [target], side)[0, 0].to(mask.dtype)
    return MemoryPayload(
        tokens.to(payload.tokens.dtype), target, payload.corners, mask, view_window
    )


def resample_tokens(
    tokens: Tensor, sources: Sequence[Window], targets: Sequence[Window], side: int | None = None
) -> Tensor:
    """(B, N, C) tokens of square source windows at the tokens of their target windows.

    `side` is the number of tokens of a target along each axis; by default that of the sources.
    """
    grid = math.isqrt(tokens.shape[1])
    planes = tokens.transpose(1, 2).unflatten(2, (grid, grid))
    return resample(planes, sources, targets, side).flatten(2).transpose(1, 2)
