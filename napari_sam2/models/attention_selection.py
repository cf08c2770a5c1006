"""Sight: how a track is looked at and how much it is shown, where that is left to what is seen so.

On the first frame after a prompt, and on the first after it was lost, a track is looked at by a
Region and by the whole grid. Where they see the same mask, there and on the next frames, the Region
is enough, and the track is looked at by Regions. Else the whole grid looks again, shown the
memories around the object alone: they are what costs most there. Where that is the same, it goes on
so; else with all there is. One that is too large for a Region on that frame goes on with all there
is too.

What was decided stands in the last memory, and nothing else has to be known to go on: it was `seen`
by a Region, or by the whole grid and holds a Region (its Segment is `narrow`), or it holds the
whole grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from napari_sam2.core.result import (
    Embedding,
    MemoryReference,
    Query,
    Segment,
    compute_segment_iou,
)
from napari_sam2.core.sam2_constants import ABSENT_LOGIT
from napari_sam2.core.window import Window
from napari_sam2.models.local_attention import LocalRegions, resample_region
from napari_sam2.models.memory_payload import MemoryPayload, cut_tokens, find_nearest_memory

SAME_MASK_IOU = 0.985
"""A Region sees the same as the whole grid where their masks agree to this, in pixels of the frame."""

LOCAL_MEMORY_IOU = 0.995
"""Memories around the object are enough where the masks agree to this.

It is stricter, since nothing is compared later on:
of tracks below it some end elsewhere (docs/benchmarks.md), above it none did."""


COMPARED_FRAMES = 3
"""From a prompt on, a Region has to show the same on so many frames, or less where a track was lost."""


SegmentQueries = Callable[[Sequence[Query], Sequence[Window]], list[Segment]]
"""Answers to queries, each looked at through its window."""


def select_attention(
    segment_queries: SegmentQueries,
    queries: Sequence[Query],
    windows: Sequence[Window],
    embedding: Embedding,
    regions: LocalRegions,
) -> list[Segment]:
    """Answers by what was decided for each track; where that is open, by the least that shows what the whole grid does."""
    whole, frame = embedding.window, embedding.frame
    found = _segment_as_decided(segment_queries, queries, windows, embedding, regions)
    doubted = [is_undecided(query, frame) or is_compared(query, frame, whole) for query in queries]
    tried = [place for place, doubt in enumerate(doubted) if doubt and windows[place] != whole]
    full = segment_queries([queries[place] for place in tried], [whole] * len(tried))
    differ = {
        place: answer
        for place, answer in zip(tried, full, strict=True)
        if not is_same_mask(found[place], answer)
    }
    middle = segment_queries(
        [use_local_memory(queries[place], whole, regions) for place in differ],
        [whole] * len(differ),
    )
    enough = {
        place: replace(answer, local_memory=True)
        for place, answer in zip(differ, middle, strict=True)
        if is_same_mask(answer, differ[place])
    }
    better = differ | enough
    return [better.get(place, segment) for place, segment in enumerate(found)]


def _segment_as_decided(
    segment_queries: SegmentQueries,
    queries: Sequence[Query],
    windows: Sequence[Window],
    embedding: Embedding,
    regions: LocalRegions,
) -> list[Segment]:
    """Answers by what was decided for each track."""
    whole = embedding.window
    narrow = [has_local_memory(query, embedding.frame, whole) for query in queries]
    shown = [
        use_local_memory(query, whole, regions) if each else query
        for query, each in zip(queries, narrow, strict=True)
    ]
    return [
        mark_local_memory(segment, each, whole)
        for segment, each in zip(segment_queries(shown, windows), narrow, strict=True)
    ]


def is_undecided(query: Query, frame: int) -> bool:
    """Whether it is open how a track that is carried along is looked at: its last mask was said or locked, or it was lost before that."""
    last = find_nearest_memory(query.memories, frame)
    if last is None or query.prompts.points:
        return False
    before = find_nearest_memory((memory for memory in query.memories if memory is not last), frame)
    return last.conditioning or (before is not None and not before.present)


def is_compared(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track is looked at by Regions so far, and still so near to a prompt that both looks are compared."""
    last = find_nearest_memory(query.memories, frame)
    said = find_nearest_memory((memory for memory in query.memories if memory.conditioning), frame)
    if (
        last is None
        or said is None
        or query.prompts.points
        or abs(said.frame - frame) > COMPARED_FRAMES
    ):
        return False
    return not last.conditioning and cast(MemoryPayload, last.features).view_window != whole


def is_global(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track was decided to be looked at by the whole grid."""
    last = find_nearest_memory(query.memories, frame)
    return (
        last is not None
        and not is_undecided(query, frame)
        and cast(MemoryPayload, last.features).view_window == whole
    )


def has_local_memory(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track was decided to be shown what is around it alone: its last memory holds no more."""
    last = find_nearest_memory(query.memories, frame)
    if last is None or last.features is None or not last.present or is_undecided(query, frame):
        return False
    return cast(MemoryPayload, last.features).window != whole


def use_local_memory(query: Query, whole: Window, regions: LocalRegions) -> Query:
    """The same question, shown of its memories what is around the object alone."""
    return replace(
        query,
        memory_references=tuple(
            _cut_memory(recall, whole, regions) for recall in query.memory_references
        ),
    )


def mark_local_memory(segment: Segment, local_memory: bool, whole: Window) -> Segment:
    """An answer by the whole grid that says whether what is around the object is enough to remember of it.

    Of one that was prompted all is kept, for it opens the question again.
    """
    return (
        replace(segment, local_memory=True)
        if local_memory and segment.window == whole and not segment.conditioning
        else segment
    )


def is_same_mask(local_segment: Segment, global_segment: Segment) -> bool:
    """Whether an answer by a Region, or by narrower memories, is that of the whole grid: both present, and the masks agree."""
    least = LOCAL_MEMORY_IOU if local_segment.window == global_segment.window else SAME_MASK_IOU
    return (
        local_segment.present
        and global_segment.present
        and compute_segment_iou(local_segment, global_segment) >= least
    )


def _cut_memory(
    reference: MemoryReference, whole: Window, regions: LocalRegions
) -> MemoryReference:
    """A memory of the whole grid as one of the Region around the object."""
    payload = cast(MemoryPayload | None, reference.memory.features)
    if payload is None or payload.window != whole or payload.corners is None:
        return reference
    region = regions.make_region(payload.corners, whole)
    tokens, _ = cut_tokens(payload, region, whole)
    mask = (
        None
        if payload.mask is None
        else resample_region(payload.mask, whole, region, whole, ABSENT_LOGIT)
    )
    return replace(
        reference,
        memory=replace(
            reference.memory, features=payload._replace(tokens=tokens, window=region, mask=mask)
        ),
    )
