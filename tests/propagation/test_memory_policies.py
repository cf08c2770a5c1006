"""Memory policies: SAM 2's rule against selections written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_sam2.core.errors import PlanError
from napari_sam2.core.plan import Step
from napari_sam2.core.protocols import MemoryPolicy
from napari_sam2.core.result import Memory, ObjectPosition
from napari_sam2.propagation.memory_policies import (
    POLICIES,
    MotionPolicy,
    Sam2Policy,
    ScorePolicy,
    StridedPolicy,
)
from napari_sam2.testing.contracts import PolicyContract


class TestSam2Policy(PolicyContract):
    """The contract of every policy, for the default policy."""

    def make_policy(self) -> Sam2Policy:
        return Sam2Policy()


class TestLimitedSam2Policy(PolicyContract):
    """With a limit on conditioning frames."""

    def make_policy(self) -> Sam2Policy:
        return Sam2Policy(max_conditioning=2)


class TestScorePolicy(PolicyContract):
    """Trusts high scores."""

    def make_policy(self) -> ScorePolicy:
        return ScorePolicy()


class TestMotionPolicy(PolicyContract):
    """Trusts steady motion."""

    def make_policy(self) -> MotionPolicy:
        return MotionPolicy()


class TestStridedPolicy(PolicyContract):
    """Trusts every third frame."""

    def make_policy(self) -> StridedPolicy:
        return StridedPolicy()


def _make_memory(frame: int, *, conditioning: bool = False) -> Memory:
    return Memory(frame, conditioning, np.zeros(4, np.float32), features=(np.zeros(2),))


def test_limit_selects_the_nearest_conditioning_frames() -> None:
    memories = [_make_memory(frame, conditioning=frame in (0, 7, 20)) for frame in (0, 7, 8, 9, 20)]
    recalls = Sam2Policy(max_conditioning=1).select(memories, Step(10, True, (1,)))
    assert {recall.memory.frame: recall.slot for recall in recalls} == {7: 0, 8: 2, 9: 1, 0: None}


def test_backward_propagation_selects_later_frames() -> None:
    memories = [_make_memory(0, conditioning=True), *(_make_memory(frame) for frame in range(1, 9))]
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


def test_unknown_policy_lists_the_known_ones() -> None:
    with pytest.raises(PlanError, match="sam2"):
        POLICIES.get("samurai")


_STEADY = {frame: ObjectPosition(10.0 + 3 * frame, 50.0, 8.0) for frame in range(1, 9)}


@pytest.mark.parametrize(
    ("policy", "changed", "expected"),
    [
        pytest.param(
            ScorePolicy(recent=3),
            {},
            {8: 1, 7: 2, 6: 3, 5: None, 4: None, 3: None, 2: None, 1: None},
            id="all are good",
        ),
        pytest.param(
            ScorePolicy(recent=3),
            {7: 0.2, 5: 0.2},
            {8: 1, 6: 2, 4: 3, 3: None, 2: None, 1: None},
            id="two were doubtful",
        ),
        pytest.param(
            MotionPolicy(recent=2),
            {},
            {8: 1, 7: 2, 6: None, 5: None, 4: None, 3: None, 2: None, 1: None},
            id="steady motion",
        ),
        pytest.param(
            MotionPolicy(recent=3),
            {6: ObjectPosition(90.0, 90.0, 8.0)},
            {8: 1, 5: 2, 4: 3, 3: None, 2: None, 1: None},
            id="a jump aside",
        ),
        pytest.param(
            StridedPolicy(recent=2), {}, {8: 1, 6: 2, 3: None}, id="every third, and the last"
        ),
    ],
)
def test_gated_policy_selects_trusted_memories(
    policy: MemoryPolicy,
    changed: dict[int, float | ObjectPosition],
    expected: dict[int, int | None],
) -> None:
    memories = [_make_memory(0, conditioning=True)]
    for frame, place in _STEADY.items():
        new = changed.get(frame)
        memory = replace(_make_memory(frame), iou=0.9, position=place)
        memories.append(
            replace(memory, position=new)
            if isinstance(new, ObjectPosition)
            else replace(memory, iou=new or 0.9)
        )
    shown = {
        recall.memory.frame: recall.slot
        for recall in policy.select(memories, Step(9, True, (1,)))
        if recall.memory.frame
    }
    assert shown == expected
