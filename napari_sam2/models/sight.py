"""Sight: whether a track is looked at by a Region or by the whole grid, where that is left to what both of them see.

On the first frame after a prompt, and on the first after it was lost, a track is looked at by both. Where they see the same
mask, the Region is enough, and the track is looked at by Regions from there on; else by the whole grid, which is shown the
memories around the object alone: they are what costs most there, and the rest of them changes next to nothing. What was
decided is the Window of the answer, which its memory tells: nothing else has to be known to go on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from napari_sam2.core.result import ABSENT_LOGIT, Query, Recall, Segment, agreement
from napari_sam2.core.window import Window
from napari_sam2.models.payload import Payload, nearest, piece
from napari_sam2.models.regions import Regions, brought

SAME_IOU = 0.985
"""Two looks see the same where their masks agree to this, in pixels of the frame."""


def undecided(query: Query, frame: int) -> bool:
    """Whether it is open how a track that is carried along is looked at: its last mask was said or locked, or it was lost before that."""
    last = nearest(query.memories, frame)
    if last is None or query.said.points:
        return False
    before = nearest((memory for memory in query.memories if memory is not last), frame)
    return last.conditioning or (before is not None and not before.present)


def stays_whole(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track was decided to be looked at by the whole grid."""
    last = nearest(query.memories, frame)
    return last is not None and not undecided(query, frame) and cast(Payload, last.features).seen == whole


def stays_narrow(query: Query, frame: int, whole: Window) -> bool:
    """Whether a track was decided to be shown what is around it alone: its last memory holds no more."""
    last = nearest(query.memories, frame)
    if last is None or last.features is None or not last.present or undecided(query, frame):
        return False
    return cast(Payload, last.features).window != whole


def narrowed(query: Query, whole: Window, regions: Regions) -> Query:
    """The same question, shown of its memories what is around the object alone."""
    return replace(query, recalls=tuple(_cut(recall, whole, regions) for recall in query.recalls))


def remembered(segment: Segment, narrow: bool, whole: Window) -> Segment:
    """An answer that says whether what is around the object is enough to remember of it; one by a Region holds no more."""
    return replace(segment, narrow=True) if narrow and segment.window == whole else segment


def same(near: Segment, whole: Segment) -> bool:
    """Whether an answer by a Region is that of the whole grid: present in both, and the masks agree to `SAME_IOU`."""
    return near.present and whole.present and agreement(near, whole) >= SAME_IOU


def _cut(recall: Recall, whole: Window, regions: Regions) -> Recall:
    """A memory of the whole grid as one of the Region around the object."""
    payload = cast(Payload | None, recall.memory.features)
    if payload is None or payload.window != whole or payload.corners is None:
        return recall
    region = regions.around(payload.corners, whole)
    tokens, _ = piece(payload, region, whole)
    mask = None if payload.mask is None else brought(payload.mask, whole, region, whole, ABSENT_LOGIT)
    return replace(recall, memory=replace(recall.memory, features=payload._replace(tokens=tokens, window=region, mask=mask)))
