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

from napari_sam2.core.result import ABSENT_LOGIT, Embedding, Query, Recall, Segment, agreement
from napari_sam2.core.window import Window
from napari_sam2.models.local_attention import Regions, brought
from napari_sam2.models.memory_payload import Payload, nearest, piece

SAME_IOU = 0.985
"""A Region sees the same as the whole grid where their masks agree to this, in pixels of the frame."""

NARROW_IOU = 0.995
"""Memories around the object are enough where the masks agree to this.

It is stricter, since nothing is compared later on:
of tracks below it some end elsewhere (docs/benchmarks.md), above it none did."""


TRIAL_FRAMES = 3
"""From a prompt on, a Region has to show the same on so many frames, or less where a track was lost."""


Ask = Callable[[Sequence[Query], Sequence[Window]], list[Segment]]
"""Answers to queries, each looked at through its window."""


def least(
    ask: Ask,
    queries: Sequence[Query],
    windows: Sequence[Window],
    embedding: Embedding,
    regions: Regions,
) -> list[Segment]:
    """Answers by what was decided for each track; where that is open, by the least that shows what the whole grid does."""
    whole, frame = embedding.window, embedding.frame
    found = _decided(ask, queries, windows, embedding, regions)
    doubted = [undecided(query, frame) or on_trial(query, frame, whole) for query in queries]
    tried = [place for place, doubt in enumerate(doubted) if doubt and windows[place] != whole]
    full = ask([queries[place] for place in tried], [whole] * len(tried))
    differ = {
        place: answer
        for place, answer in zip(tried, full, strict=True)
        if not same(found[place], answer)
    }
    middle = ask(
        [narrowed(queries[place], whole, regions) for place in differ], [whole] * len(differ)
    )
    enough = {
        place: replace(answer, narrow=True)
        for place, answer in zip(differ, middle, strict=True)
        if same(answer, differ[place])
    }
    better = differ | enough
    return [better.get(place, segment) for place, segment in enumerate(found)]


def _decided(
    ask: Ask,
    queries: Sequence[Query],
    windows: Sequence[Window],
    embedding: Embedding,
    regions: Regions,
) -> list[Segment]:
    """Answers by what was decided for each track."""
    whole = embedding.window
    narrow = [stays_narrow(query, embedding.frame, whole) for query in queries]
    shown = [
        narrowed(query, whole, regions) if each else query
        for query, each in zip(queries, narrow, strict=True)
    ]
    return [
        marked(segment, each, whole)
        for segment, each in zip(ask(shown, windows), narrow, strict=True)
    ]


def undecided(query: Query, frame: int) -> bool:
    """Whether it is open how a track that is carried along is looked at: its last mask was said or locked, or it was lost before that."""
    last = nearest(query.memories, frame)
    if last is None or query.said.points:
        return False
    before = nearest((memory for memory in query.memories if memory is not last), frame)
    return last.conditioning or (before is not None and not before.present)


def on_trial(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track is looked at by Regions so far, and still so near to a prompt that both looks are compared."""
    last = nearest(query.memories, frame)
    said = nearest((memory for memory in query.memories if memory.conditioning), frame)
    if last is None or said is None or query.said.points or abs(said.frame - frame) > TRIAL_FRAMES:
        return False
    return not last.conditioning and cast(Payload, last.features).seen != whole


def stays_whole(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track was decided to be looked at by the whole grid."""
    last = nearest(query.memories, frame)
    return (
        last is not None
        and not undecided(query, frame)
        and cast(Payload, last.features).seen == whole
    )


def stays_narrow(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track was decided to be shown what is around it alone: its last memory holds no more."""
    last = nearest(query.memories, frame)
    if last is None or last.features is None or not last.present or undecided(query, frame):
        return False
    return cast(Payload, last.features).window != whole


def narrowed(query: Query, whole: Window, regions: Regions) -> Query:
    """The same question, shown of its memories what is around the object alone."""
    return replace(query, recalls=tuple(_cut(recall, whole, regions) for recall in query.recalls))


def marked(segment: Segment, narrow: bool, whole: Window) -> Segment:
    """An answer by the whole grid that says whether what is around the object is enough to remember of it.

    Of one that was prompted all is kept, for it opens the question again.
    """
    return (
        replace(segment, narrow=True)
        if narrow and segment.window == whole and not segment.conditioning
        else segment
    )


def same(less: Segment, whole: Segment) -> bool:
    """Whether an answer by a Region, or by narrower memories, is that of the whole grid: both present, and the masks agree."""
    least = NARROW_IOU if less.window == whole.window else SAME_IOU
    return less.present and whole.present and agreement(less, whole) >= least


def _cut(recall: Recall, whole: Window, regions: Regions) -> Recall:
    """A memory of the whole grid as one of the Region around the object."""
    payload = cast(Payload | None, recall.memory.features)
    if payload is None or payload.window != whole or payload.corners is None:
        return recall
    region = regions.around(payload.corners, whole)
    tokens, _ = piece(payload, region, whole)
    mask = (
        None if payload.mask is None else brought(payload.mask, whole, region, whole, ABSENT_LOGIT)
    )
    return replace(
        recall,
        memory=replace(
            recall.memory, features=payload._replace(tokens=tokens, window=region, mask=mask)
        ),
    )
