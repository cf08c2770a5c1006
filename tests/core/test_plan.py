"""Propagation: steps in order."""

from __future__ import annotations

import pytest

from napari_sam2.core.errors import PlanError
from napari_sam2.core.plan import Propagation, PropagationRange, Step


def test_steps_ascend_then_descend_with_tracks_together() -> None:
    plan = Propagation.outward({1: [1], 2: [3]}, length=5)
    assert list(plan.iterate_steps()) == [
        Step(2, True, (1,)),
        Step(3, True, (1,)),
        Step(4, True, (1, 2)),
        Step(2, False, (2,)),
        Step(1, False, (2,)),
        Step(0, False, (1, 2)),
    ]
    assert plan.tracks == (1, 2)


@pytest.mark.parametrize(
    ("direction", "frames", "ranges"),
    [
        ("both", None, (PropagationRange(1, 4, 9), PropagationRange(1, 4, 0))),
        ("forward", None, (PropagationRange(1, 4, 9),)),
        ("backward", None, (PropagationRange(1, 4, 0),)),
        ("both", (3, 6), (PropagationRange(1, 4, 5), PropagationRange(1, 4, 3))),
        ("both", (4, 5), ()),
        ("forward", (6, 9), (PropagationRange(1, 4, 8),)),
    ],
    ids=["both", "forward", "backward", "part", "only itself", "beyond"],
)
def test_ranges_of_outward_propagation(
    direction: str, frames: tuple[int, int] | None, ranges: tuple[PropagationRange, ...]
) -> None:
    assert (
        Propagation.outward({1: [4]}, length=10, direction=direction, frames=frames).ranges
        == ranges
    )  # type: ignore[arg-type]


def test_start_frame_is_not_in_the_range() -> None:
    assert list(PropagationRange(1, 4, 6).frames) == [5, 6]
    assert list(PropagationRange(1, 4, 2).frames) == [3, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "sideways"}, "expected one of"),
        ({"frames": (3, 3)}, "frames 3:3: expected a part of 0:10"),
        ({"frames": (-1, 3)}, "expected a part of 0:10"),
        ({"frames": (0, 11)}, "expected a part of 0:10"),
    ],
    ids=["direction", "empty", "negative", "beyond"],
)
def test_impossible_plans_are_refused(options: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(PlanError, match=message):
        Propagation.outward({1: [4]}, length=10, **options)
