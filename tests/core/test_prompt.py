"""Prompts and their log."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.errors import PromptError
from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import (
    BoxPrompt,
    FramePrompts,
    Lock,
    MaskPrompt,
    PointPrompt,
    Prompt,
    PromptLog,
    Removal,
)
from napari_sam2.core.track import Track

_MASK = np.eye(4, dtype=bool)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PointPrompt(0, 0, [(1, 1)], [True]), "0 is the background"),
        (lambda: PointPrompt(0, 1.5, [(1, 1)], [True]), "track is 1.5"),
        (lambda: PointPrompt(-1, 1, [(1, 1)], [True]), "frame is -1"),
        (lambda: PointPrompt(True, 1, [(1, 1)], [True]), "frame is True"),
        (lambda: PointPrompt(0, 1, [], []), "no points given"),
        (lambda: PointPrompt(0, 1, [(1, 1)], [True, False]), "1 points with 2 positive flags"),
        (lambda: PointPrompt(0, 1, [(1, 1, 1)], [True]), r"a point is \(y, x\)"),
        (lambda: PointPrompt(0, 1, [(1, float("nan"))], [True]), "finite"),
        (lambda: BoxPrompt(0, 1, (5, 5, 5, 9)), "has no area"),
        (lambda: BoxPrompt(0, 1, (9, 0, 1, 5)), "y < y2 and x < x2"),
        (lambda: MaskPrompt(0, 1, np.zeros((4, 4))), "at least one"),
        (lambda: MaskPrompt(0, 1, np.ones(4)), r"expected \(H, W\)"),
        (lambda: Lock(0, 0), "0 is the background"),
        (lambda: Track(3, parent=3), "its own parent"),
        (lambda: Track(2**32), "4294967295"),
    ],
)
def test_invalid_values_raise_on_construction(make: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make()  # type: ignore[operator]


def test_prompts_are_immutable_and_equal_by_value() -> None:
    assert PointPrompt(0, 1, [(1, 2)], [1]) == PointPrompt(0, 1, np.array([[1.0, 2.0]]), (True,))
    assert MaskPrompt(0, 1, _MASK) == MaskPrompt(0, 1, _MASK.astype(np.uint8) * 255)
    assert MaskPrompt(0, 1, _MASK) != MaskPrompt(0, 1, ~_MASK)
    assert len({MaskPrompt(0, 1, _MASK), MaskPrompt(0, 1, _MASK), MaskPrompt(1, 1, _MASK)}) == 2
    source = _MASK.copy()
    prompt = MaskPrompt(0, 1, source)
    source[:] = True
    assert prompt == MaskPrompt(0, 1, _MASK)
    prompt.mask[:] = True
    np.testing.assert_array_equal(prompt.mask, _MASK)


def test_mask_prompt_stores_only_its_bounding_box() -> None:
    mask = np.zeros((2048, 2048), dtype=bool)
    mask[1000:1030, 20:53] = np.random.default_rng(0).random((30, 33)) > 0.5
    prompt = MaskPrompt(0, 1, mask)
    np.testing.assert_array_equal(prompt.mask, mask)
    assert len(prompt.bits) <= 30 * 33 // 8 + 1


@pytest.mark.parametrize(
    ("prompts", "combined"),
    [
        ([], FramePrompts()),
        (
            [PointPrompt(0, 1, [(1, 1)], [True]), PointPrompt(0, 1, [(2, 2)], [False])],
            FramePrompts(((1, 1), (2, 2)), (True, False)),
        ),
        (
            [PointPrompt(0, 1, [(1, 1)], [True]), BoxPrompt(0, 1, (0, 0, 3, 3))],
            FramePrompts(box=(0, 0, 3, 3)),
        ),
        (
            [BoxPrompt(0, 1, (0, 0, 3, 3)), PointPrompt(0, 1, [(1, 1)], [True])],
            FramePrompts(((1, 1),), (True,), (0, 0, 3, 3)),
        ),
        (
            [BoxPrompt(0, 1, (0, 0, 3, 3)), BoxPrompt(0, 1, (1, 1, 2, 2))],
            FramePrompts(box=(1, 1, 2, 2)),
        ),
        (
            [MaskPrompt(0, 1, _MASK), PointPrompt(0, 1, [(1, 1)], [True])],
            FramePrompts(((1, 1),), (True,)),
        ),
        (
            [PointPrompt(1, 1, [(1, 1)], [True]), PointPrompt(0, 2, [(1, 1)], [True])],
            FramePrompts(),
        ),
    ],
    ids=[
        "nothing",
        "points add up",
        "box replaces",
        "points after box",
        "second box",
        "points after mask",
        "elsewhere",
    ],
)
def test_prompts_of_a_frame_are_combined(prompts: list, combined: FramePrompts) -> None:  # type: ignore[type-arg]
    assert PromptLog(tuple(prompts)).combine_prompts(1, 0) == combined


def test_mask_replaces_earlier_prompts() -> None:
    combined = PromptLog(
        (PointPrompt(0, 1, [(1, 1)], [True]), MaskPrompt(0, 1, _MASK))
    ).combine_prompts(1, 0)
    assert combined.points == ()
    np.testing.assert_array_equal(combined.mask, _MASK)


@pytest.mark.parametrize(
    ("last", "drawn"),
    [
        (None, [1]),
        (PointPrompt(0, 1, [(1, 1)], [True]), []),
        (PointPrompt(1, 1, [(1, 1)], [True]), [1]),
        (MaskPrompt(0, 2, _MASK), [1, 2]),
    ],
    ids=["a mask", "a click after it", "a click elsewhere", "another track's mask"],
)
def test_drawn_masks_are_those_whose_mask_is_the_last_prompt(
    last: Prompt | None, drawn: list[int]
) -> None:
    log = PromptLog((MaskPrompt(0, 1, _MASK),))
    found = (log if last is None else log.add(last)).get_drawn_masks(0)
    assert sorted(found) == drawn
    assert all((mask == _MASK).all() for mask in found.values())


def test_added_entries_do_not_change_the_old_log() -> None:
    log = PromptLog((PointPrompt(2, 1, [(1, 1)], [True]),))
    assert (log.track_ids, log.find_prompted_frames(1), log.find_first_frame(1)) == ((1,), (2,), 2)
    longer = log.add(PointPrompt(0, 1, [(1, 1)], [True]), PointPrompt(0, 3, [(1, 1)], [True]))
    assert (longer.track_ids, longer.find_prompted_frames(1), longer.find_first_frame(1)) == (
        (1, 3),
        (0, 2),
        2,
    )
    assert log.track_ids == (1,)


def test_undo_removes_the_last_prompt_and_later_propagations() -> None:
    one, two = PointPrompt(0, 1, [(1, 1)], [True]), PointPrompt(3, 1, [(1, 1)], [True])
    plan = Propagation.outward({1: [0]}, length=5)
    log = PromptLog((one, plan, two, plan))
    assert log.without_last().entries == (one, plan)
    assert log.without_last().without_last().entries == ()
    assert PromptLog().without_last() == PromptLog()


def test_last_lock_entry_counts() -> None:
    log = PromptLog((Lock(2, 1), Lock(3, 1), Lock(3, 1, locked=False)))
    assert (log.is_locked(1, 2), log.is_locked(1, 3), log.is_locked(1, 4)) == (True, False, False)


def test_tracks_come_from_prompts_and_descriptions() -> None:
    log = PromptLog((PointPrompt(4, 7, [(1, 1)], [True]), PointPrompt(0, 7, [(1, 1)], [True])))
    assert log.track_ids == (7,)
    assert log.find_first_frame(7) == 4
    assert log.find_prompted_frames(7) == (0, 4)
    assert log.describe(Track(7, "a")).describe(Track(7, "b")).tracks == (Track(7, "b"),)
    assert log.get_track(7) == Track(7)
    with pytest.raises(PromptError, match="track 2: has no prompt"):
        log.find_first_frame(2)


def test_removed_track_returns_after_undo() -> None:
    log = PromptLog(
        (PointPrompt(0, 1, [(1, 1)], [True]), PointPrompt(0, 2, [(1, 1)], [True]), Removal(1))
    )
    assert (log.track_ids, log.removed) == ((2,), {1})
    assert log.without_last().track_ids == (1, 2)
    with pytest.raises(PromptError, match="0 is the background"):
        Removal(0)
