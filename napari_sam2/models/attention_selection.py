"""The choice between local and global attention for each track, made by comparing their masks.

On the first frame after a prompt, and on the first after an absence, a track reads both a region
and the whole grid. If both give the same mask, there and on the next frames, the track goes on with
regions. Else it reads the whole grid but attends only to memories around the object, which are the
costly part there, if that gives the same mask; else it attends to all memories. A track that is too
large for a region on that frame attends to all memories too.

The decision can be read off the last memory, so nothing else is stored: its `view_window` is a
region; or it is the whole grid while `window` is a region (local memory); or both are the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

from napari_sam2.core.result import Embedding, MemoryReference, Query, Segment, compute_segment_iou
from napari_sam2.core.window import Window
from napari_sam2.models.local_attention import LocalRegions
from napari_sam2.models.memory_payload import MemoryPayload, cut_memory, find_nearest_memory

SAME_MASK_IOU = 0.985
"""Masks of a region and of the whole grid are the same from this IoU on, in data pixels."""

LOCAL_MEMORY_IOU = 0.995
"""Masks by local and by all memories are the same from this IoU on.

The limit is stricter because nothing is compared on later frames: of tracks below it some ended
elsewhere, above it none did (docs/benchmarks.md).
"""

COMPARED_FRAMES = 3
"""A region must give the same masks on this many frames after a prompt."""

SegmentQueries = Callable[[Sequence[Query], Sequence[Window]], list[Segment]]
"""Answers queries, each through its window."""


def select_attention(
    segment_queries: SegmentQueries,
    queries: Sequence[Query],
    windows: Sequence[Window],
    embedding: Embedding,
    regions: LocalRegions,
) -> list[Segment]:
    """Answers with the attention decided for each track, or with the cheapest that is enough.

    Parameters
    ----------
    segment_queries
        Answers queries, each through its window.
    queries, windows
        One window for each query: a region, or that of the embedding.
    regions
        Chooses the memories around an object.
    """
    whole = embedding.window
    segments = _segment_as_decided(segment_queries, queries, windows, embedding, regions)
    compared = [
        index
        for index, query in enumerate(queries)
        if windows[index] != whole and _needs_comparison(query, embedding)
    ]
    by_all_memories = segment_queries(
        [queries[index] for index in compared], [whole] * len(compared)
    )
    different = {
        index: segment
        for index, segment in zip(compared, by_all_memories, strict=True)
        if not is_same_mask(segments[index], segment)
    }
    improved = different | _retry_local_memory(segment_queries, queries, different, whole, regions)
    return [improved.get(index, segment) for index, segment in enumerate(segments)]


def _needs_comparison(query: Query, embedding: Embedding) -> bool:
    frame = embedding.frame
    return is_undecided(query, frame) or is_compared(query, frame, embedding.window)


def _segment_as_decided(
    segment_queries: SegmentQueries,
    queries: Sequence[Query],
    windows: Sequence[Window],
    embedding: Embedding,
    regions: LocalRegions,
) -> list[Segment]:
    """Answers with the attention decided for each track."""
    whole = embedding.window
    local = [has_local_memory(query, embedding.frame, whole) for query in queries]
    local_queries = [
        use_local_memory(query, whole, regions) if is_local else query
        for query, is_local in zip(queries, local, strict=True)
    ]
    segments = segment_queries(local_queries, windows)
    return [
        mark_local_memory(segment, whole) if is_local else segment
        for segment, is_local in zip(segments, local, strict=True)
    ]


def _retry_local_memory(
    segment_queries: SegmentQueries,
    queries: Sequence[Query],
    by_all_memories: Mapping[int, Segment],
    whole: Window,
    regions: LocalRegions,
) -> dict[int, Segment]:
    """Answers by the whole grid and local memories that equal those by all memories, by index."""
    local_queries = [use_local_memory(queries[index], whole, regions) for index in by_all_memories]
    segments = segment_queries(local_queries, [whole] * len(local_queries))
    return {
        index: replace(segment, local_memory=True)
        for index, segment in zip(by_all_memories, segments, strict=True)
        if is_same_mask(segment, by_all_memories[index])
    }


def is_undecided(query: Query, frame: int) -> bool:
    """Whether a propagated track has no decision: it was just prompted, locked or found again."""
    last = find_nearest_memory(query.memories, frame)
    if last is None or query.prompts.points:
        return False
    before = find_nearest_memory((memory for memory in query.memories if memory is not last), frame)
    return last.conditioning or (before is not None and not before.present)


def is_compared(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track reads regions, near enough to a prompt that the masks are still compared."""
    last = find_nearest_memory(query.memories, frame)
    prompted = find_nearest_memory(
        (memory for memory in query.memories if memory.conditioning), frame
    )
    if last is None or prompted is None or query.prompts.points:
        return False
    if last.conditioning or abs(prompted.frame - frame) > COMPARED_FRAMES:
        return False
    return cast(MemoryPayload, last.features).view_window != whole


def is_global(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track was decided to read the whole grid."""
    last = find_nearest_memory(query.memories, frame)
    return (
        last is not None
        and not is_undecided(query, frame)
        and cast(MemoryPayload, last.features).view_window == whole
    )


def has_local_memory(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track was decided to attend only to memories around the object."""
    last = find_nearest_memory(query.memories, frame)
    if last is None or last.features is None or not last.present or is_undecided(query, frame):
        return False
    return cast(MemoryPayload, last.features).window != whole


def use_local_memory(query: Query, whole: Window, regions: LocalRegions) -> Query:
    """The query with its memories cut to the region around the object."""
    references = (_cut_reference(each, whole, regions) for each in query.memory_references)
    return replace(query, memory_references=tuple(references))


def mark_local_memory(segment: Segment, whole: Window) -> Segment:
    """An answer by the whole grid, marked to keep only the memory around the object.

    A prompted one keeps all of its memory because a prompt asks for a new decision.
    """
    if segment.window != whole or segment.conditioning:
        return segment
    return replace(segment, local_memory=True)


def is_same_mask(local_segment: Segment, global_segment: Segment) -> bool:
    """Whether the object is present in both answers and their masks agree."""
    same_window = local_segment.window == global_segment.window
    limit = LOCAL_MEMORY_IOU if same_window else SAME_MASK_IOU
    return (
        local_segment.present
        and global_segment.present
        and compute_segment_iou(local_segment, global_segment) >= limit
    )


def _cut_reference(
    reference: MemoryReference, whole: Window, regions: LocalRegions
) -> MemoryReference:
    """A memory of the whole grid, cut to the region around the object; any other as it is."""
    payload = cast(MemoryPayload | None, reference.memory.features)
    if payload is None or payload.window != whole or payload.corners is None:
        return reference
    features = cut_memory(payload, regions.make_region(payload.corners, whole), whole)
    return replace(reference, memory=replace(reference.memory, features=features))
