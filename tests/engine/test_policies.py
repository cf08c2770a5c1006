"""Memory policies: SAM 2's own against its rule written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.errors import PlanError
from napari_sam2.core.plan import Step
from napari_sam2.core.result import Memory
from napari_sam2.engine.policies import POLICIES, Sam2Policy
from napari_sam2.testing.contracts import PolicyContract


class TestSam2Policy(PolicyContract):
    """The contract every policy keeps."""

    def make_policy(self) -> Sam2Policy:
        return Sam2Policy()


class TestLimitedSam2Policy(PolicyContract):
    """With fewer conditioning frames shown."""

    def make_policy(self) -> Sam2Policy:
        return Sam2Policy(conditioning=2)


def _memory(frame: int, *, conditioning: bool = False) -> Memory:
    return Memory(frame, conditioning, np.zeros(4, np.float32), features=(np.zeros(2),))


def test_the_nearest_conditioning_frames_are_shown_where_limited_and_the_others_count_as_tracked() -> None:
    memories = [_memory(frame, conditioning=frame in (0, 7, 20)) for frame in (0, 7, 8, 9, 20)]
    recalls = Sam2Policy(conditioning=1).select(memories, Step(10, True, (1,)))
    assert {recall.memory.frame: recall.slot for recall in recalls} == {7: 0, 8: 2, 9: 1, 0: None}


def test_walking_back_looks_at_later_frames() -> None:
    memories = [_memory(0, conditioning=True), *(_memory(frame) for frame in range(1, 9))]
    recalls = Sam2Policy().select(memories, Step(2, False, (1,)))
    assert {recall.memory.frame: (recall.slot, recall.age) for recall in recalls} == {
        0: (0, None),
        3: (1, 1),
        4: (2, 2),
        5: (3, 3),
        6: (4, 4),
        7: (5, 5),
        8: (6, 6),
    }


def test_an_unknown_policy_lists_the_known_ones() -> None:
    with pytest.raises(PlanError, match="sam2"):
        POLICIES.get("samurai")
