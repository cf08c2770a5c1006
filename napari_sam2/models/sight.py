"""Sight: whether a track is looked at by a Region or by the whole grid, where that is left to what both of them see.

On the first frame after a prompt, and on the first after it was lost, a track is looked at by both. Where they see the same
mask, the Region is enough, and the track is looked at by Regions from there on; else by the whole grid, which is shown the
memories around the object alone: they are what costs most there, and the rest of them changes next to nothing. What was
decided is the Window of the answer, which its memory tells: nothing else has to be known to go on.
"""

from __future__ import annotations

from typing import cast

from napari_sam2.core.result import Query, Segment, agreement
from napari_sam2.core.window import Window
from napari_sam2.models.payload import Payload, nearest

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


def same(near: Segment, whole: Segment) -> bool:
    """Whether an answer by a Region is that of the whole grid: present in both, and the masks agree to `SAME_IOU`."""
    return near.present and whole.present and agreement(near, whole) >= SAME_IOU
