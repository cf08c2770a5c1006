"""Sight: for each track it is found out whether a Region shows what the whole grid does, and nothing else is remembered of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from napari_sam2.core.inference_options import Attention
from napari_sam2.core.prompt import FramePrompts, MaskPrompt, PointPrompt
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.sam2_constants import ABSENT_LOGIT
from napari_sam2.core.stack import Stack, Video
from napari_sam2.core.track import Presence
from napari_sam2.core.window import Window
from napari_sam2.models.attention_selection import (
    has_local_memory,
    is_compared,
    is_global,
    is_same_mask,
    is_undecided,
    use_local_memory,
)
from napari_sam2.models.cropping import Corners
from napari_sam2.models.local_attention import LocalRegions, TokenRegion
from napari_sam2.models.memory_payload import MemoryPayload
from napari_sam2.models.network.sam2_network import STRIDE
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.propagation.session import Session, SessionSettings
from tests.models.networks import make_model

SIZE, FRAMES = 256, 5
# logits are up to 40, and what a batch changes in the last digit grows from frame to frame
TOLERANCE = 1e-2
WHOLE = Window.full_frame((SIZE, SIZE), SIZE)
REGION = TokenRegion(0, 8, 8).to_window(WHOLE)
PLACES = {1: (70, 180), 2: (200, 60), 3: (64, 64)}


CORNERS = ((60.0, 170.0), (80.0, 190.0))


def _payload(
    seen: Window, window: Window = REGION, corners: Corners | None = CORNERS
) -> MemoryPayload:
    """Its tokens say where they are on the whole grid."""
    grid = SIZE // STRIDE
    places = TokenRegion.of(window, WHOLE).token_indices(grid)
    return MemoryPayload(places[:, None].expand(-1, 64).float(), window, corners, None, seen)


def _recalls(
    *seen: tuple[int, bool, bool, Window], kept: Window = REGION
) -> tuple[MemoryReference, ...]:
    """Of frame, conditioning, present, window; what was said is kept of the whole grid, all others of `kept`."""
    memories = [
        Memory(
            frame, said, np.zeros(1), present, features=_payload(window, WHOLE if said else kept)
        )
        for frame, said, present, window in seen
    ]
    return tuple(MemoryReference(memory, 0 if memory.conditioning else 1, 1) for memory in memories)


@pytest.mark.parametrize(
    ("seen", "open_", "whole"),
    [
        pytest.param([(4, True, True, WHOLE)], True, False, id="first after a prompt"),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, WHOLE)],
            False,
            True,
            id="decided for the whole",
        ),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, REGION)],
            False,
            False,
            id="decided for Regions",
        ),
        pytest.param(
            [(0, True, True, WHOLE), (3, False, True, REGION), (4, True, True, WHOLE)],
            True,
            False,
            id="after a correction",
        ),
        pytest.param(
            [(0, True, True, WHOLE), (3, False, False, REGION), (4, False, True, WHOLE)],
            True,
            False,
            id="found again",
        ),
        pytest.param(
            [(0, True, True, WHOLE), (3, False, True, WHOLE), (4, False, True, WHOLE)],
            False,
            True,
            id="still the whole",
        ),
    ],
)
def test_what_was_decided_stands_in_the_memories(
    seen: Sequence[tuple[int, bool, bool, Window]], open_: bool, whole: bool
) -> None:
    query = Query(1, memory_references=_recalls(*seen))
    assert is_undecided(query, 5) is open_
    assert is_global(query, 5, WHOLE) is whole
    assert not is_undecided(
        replace(query, prompts=FramePrompts(points=((70.0, 180.0),), positive=(True,))), 5
    )


@pytest.mark.parametrize(
    ("seen", "kept", "narrow"),
    [
        pytest.param([(4, True, True, WHOLE)], REGION, False, id="first after a prompt"),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, WHOLE)],
            REGION,
            True,
            id="remembered by Regions, looked at by the whole",
        ),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, REGION)],
            REGION,
            True,
            id="remembered and looked at by Regions",
        ),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, WHOLE)],
            WHOLE,
            False,
            id="remembered by the whole",
        ),
        pytest.param(
            [(2, True, True, WHOLE), (3, False, True, WHOLE), (4, False, False, WHOLE)],
            REGION,
            False,
            id="lost",
        ),
        pytest.param(
            [(2, True, True, WHOLE), (3, False, False, WHOLE), (4, False, True, WHOLE)],
            REGION,
            False,
            id="found again",
        ),
    ],
)
def test_how_much_is_shown_stands_in_the_memories(
    seen: Sequence[tuple[int, bool, bool, Window]], kept: Window, narrow: bool
) -> None:
    assert (
        has_local_memory(Query(1, memory_references=_recalls(*seen, kept=kept)), 5, WHOLE) is narrow
    )


def test_a_narrowed_question_is_shown_what_is_around_the_object() -> None:
    shown = [_payload(WHOLE, WHOLE), _payload(WHOLE, WHOLE, None), _payload(WHOLE, REGION), None]
    recalls = tuple(
        MemoryReference(Memory(frame, False, np.zeros(1), features=each), 1, 1)
        for frame, each in enumerate(shown)
    )
    found = [
        cast(MemoryPayload | None, recall.memory.features)
        for recall in use_local_memory(
            Query(1, memory_references=recalls), WHOLE, LocalRegions(min_tokens=8)
        ).memory_references
    ]
    assert [each and each.window for each in found] == [
        REGION,
        WHOLE,
        REGION,
        None,
    ]  # one of nowhere has no Region
    assert found[0] is not None
    np.testing.assert_array_equal(
        found[0].tokens[:, 0], TokenRegion.of(REGION, WHOLE).token_indices(SIZE // STRIDE)
    )


def _segment(window: Window, box: tuple[int, int, int, int] | None) -> Segment:
    """An answer whose mask is the cells of 4 pixels between two corners of the frame (top, left, bottom, right)."""
    side = window.size // 4
    logits = np.full((side, side), -10.0 if box else ABSENT_LOGIT, dtype=np.float32)
    if box:
        top, left, bottom, right = (
            int(edge - start) // 4
            for edge, start in zip(box, (window.top, window.left) * 2, strict=True)
        )
        logits[max(0, top) : bottom, max(0, left) : right] = 10.0
    return Segment(1, 0, window, logits, 0.9, 5.0 if box else -5.0, np.zeros(1), Presence.TRACKED)


@pytest.mark.parametrize(
    ("seen", "frame", "trial"),
    [
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, REGION)], 5, True, id="second after a prompt"
        ),
        pytest.param([(2, True, True, WHOLE), (4, False, True, REGION)], 5, True, id="third"),
        pytest.param([(1, True, True, WHOLE), (4, False, True, REGION)], 5, False, id="fourth"),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, WHOLE)], 5, False, id="looked at by the whole"
        ),
        pytest.param([(4, True, True, WHOLE)], 5, False, id="first: undecided as it is"),
        pytest.param(
            [(1, True, True, WHOLE), (5, False, True, REGION), (7, True, True, WHOLE)],
            4,
            True,
            id="on the way back too",
        ),
        pytest.param(
            [(4, False, True, REGION)], 5, False, id="what was prompted is not shown any more"
        ),
    ],
)
def test_a_region_is_on_trial_near_a_prompt(
    seen: Sequence[tuple[int, bool, bool, Window]], frame: int, trial: bool
) -> None:
    query = Query(1, memory_references=_recalls(*seen))
    assert is_compared(query, frame, WHOLE) is trial
    assert not is_compared(
        replace(query, prompts=FramePrompts(points=((70.0, 180.0),), positive=(True,))),
        frame,
        WHOLE,
    )


@pytest.mark.parametrize(
    ("near", "whole", "expected"),
    [
        pytest.param((40, 160, 80, 200), (40, 160, 80, 200), True, id="the same"),
        pytest.param((40, 160, 80, 200), (40, 160, 80, 204), False, id="a tenth wider"),
        pytest.param((40, 160, 80, 200), (40, 20, 80, 60), False, id="elsewhere"),
        pytest.param((40, 132, 80, 200), (40, 100, 80, 200), False, id="cut by the Region"),
        pytest.param(None, (40, 160, 80, 200), False, id="not seen by the Region"),
        pytest.param((40, 160, 80, 200), None, False, id="seen by the Region alone"),
        pytest.param(None, None, False, id="not there: it is looked for by the whole grid"),
    ],
)
def test_two_looks_agree_where_their_masks_do(
    near: tuple[int, int, int, int] | None, whole: tuple[int, int, int, int] | None, expected: bool
) -> None:
    assert is_same_mask(_segment(REGION, near), _segment(WHOLE, whole)) is expected


@pytest.mark.parametrize(
    ("cells", "region", "narrow"), [(0, True, True), (1, True, False), (2, False, False)]
)
def test_narrow_memories_have_to_show_the_same_more_closely(
    cells: int, region: bool, narrow: bool
) -> None:
    """Masks of 100 cells in the Region, of which some are not seen."""
    full = _segment(WHOLE, (40, 160, 80, 200))
    for window, expected in ((REGION, region), (WHOLE, narrow)):
        less = _segment(window, (40, 160, 80, 200))
        less.logits[tuple(np.argwhere(less.logits > 0)[:cells].T)] = -10.0
        assert is_same_mask(less, full) is expected


@pytest.fixture(scope="module")
def whole() -> Sam2Predictor:
    return make_model(size=SIZE)


@pytest.fixture(scope="module")
def auto(whole: Sam2Predictor) -> Sam2Predictor:
    return _looking(whole, "auto")


class Eights(LocalRegions):
    """Regions of 8 tokens about the middle of whatever is seen: masks of random weights are everywhere."""

    def make_region(self, corners: Corners, whole: Window) -> Window:
        top, left = (
            int(np.clip(sum(each) / 2 // 16 - 4, 0, 8)) for each in zip(*corners, strict=True)
        )
        return TokenRegion(top, left, 8).to_window(whole)


class Wide(Sam2Predictor):
    """All is looked at by the whole grid, which is shown what is around the object alone."""

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        return super().segment(
            embedding, [use_local_memory(query, WHOLE, Eights()) for query in queries]
        )

    def _choose_window(self, embedding: Embedding, query: Query) -> Window:
        return embedding.window

    def _choose_memory_window(
        self, whole: Window, segment: Segment, corners: Corners | None
    ) -> Window:
        return (
            whole
            if segment.conditioning
            else super()._choose_memory_window(whole, segment, corners)
        )


def _looking(whole: Sam2Predictor, attention: Attention) -> Sam2Predictor:
    made = Sam2Predictor(whole.network, replace(whole.card, attention=attention))
    made.regions = Eights()
    return made


@pytest.fixture(scope="module")
def video() -> Video:
    return Stack(
        np.random.default_rng(0).random((FRAMES, SIZE, SIZE), dtype=np.float32), "tyx"
    ).as_video("t")


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say of which tracks a Region shows the same, and of which what is around them: looks of random weights agree on nothing."""

    def say(*, near: set[int], narrow: set[int]) -> None:
        def seen_the_same(one: Segment, other: Segment) -> bool:
            return (
                one.track in (narrow if one.window == other.window else near)
                and one.present
                and other.present
            )

        monkeypatch.setattr("napari_sam2.models.attention_selection.is_same_mask", seen_the_same)

    return say


def _disc(track: int, frame: int = 0) -> MaskPrompt:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    y, x = PLACES[track]
    return MaskPrompt(frame, track, (rows - y) ** 2 + (columns - x) ** 2 < 12**2)


def _answers(
    model: Sam2Predictor, video: Video, tracks: Sequence[int], frame: int = 0
) -> dict[tuple[int, int], Segment]:
    with Session(video, model) as session:
        session.prompt_many([_disc(track, frame) for track in tracks])
        session.run().finish()
        return _kept(session)


def _kept(session: Session) -> dict[tuple[int, int], Segment]:
    return {
        (segment.track, frame): segment
        for frame in range(FRAMES)
        for segment in session.segments(frame)
    }


def _check_equal(one: Segment, other: Segment, tolerance: float = 0.0) -> None:
    assert (one.window, one.presence) == (other.window, other.presence)
    np.testing.assert_allclose(one.logits, other.logits, rtol=0, atol=tolerance)


def test_a_track_is_looked_at_by_what_was_decided_for_it(
    auto: Sam2Predictor, whole: Sam2Predictor, video: Video, decided: Callable[..., None]
) -> None:
    """Track 1 by Regions throughout, 2 by the whole grid which is shown what is around it, 3 as if there were no Regions."""
    decided(near={1}, narrow={2})
    found = _answers(auto, video, (1, 2, 3))
    sizes = {
        track: [found[track, frame].window.size for frame in range(FRAMES)] for track in (1, 2, 3)
    }
    assert sizes == {1: [SIZE, 128, 128, 128, 128], 2: [SIZE] * FRAMES, 3: [SIZE] * FRAMES}
    wide = Wide(whole.network, replace(whole.card, attention="local"))
    wide.regions = Eights()
    for track, expected in ((2, wide), (3, whole)):
        alone = _answers(auto, video, (track,))
        for key, segment in _answers(expected, video, (track,)).items():
            _check_equal(alone[key], segment)
    assert not np.allclose(
        _answers(wide, video, (2,))[2, 2].logits,
        _answers(whole, video, (2,))[2, 2].logits,
        atol=TOLERANCE,
    )
    assert not np.allclose(
        found[1, 1].logits,
        _cut(_answers(whole, video, (1,))[1, 1], found[1, 1].window),
        atol=TOLERANCE,
    )


def test_a_region_that_shows_another_thing_later_is_left(
    auto: Sam2Predictor, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "napari_sam2.models.attention_selection.is_same_mask",
        lambda less, full: less.window != full.window and less.frame < 3,
    )
    found = _answers(auto, video, (1,))
    assert [found[1, frame].window.size for frame in range(FRAMES)] == [SIZE, 128, 128, SIZE, SIZE]


def _cut(segment: Segment, window: Window) -> np.ndarray:
    cells = TokenRegion.of(window, WHOLE)
    rows, columns = (
        slice(4 * start, 4 * (start + cells.side)) for start in (cells.top, cells.left)
    )
    return segment.logits[rows, columns]


def test_tracks_of_both_kinds_together_are_as_each_alone(
    auto: Sam2Predictor, video: Video, decided: Callable[..., None]
) -> None:
    decided(near={1}, narrow={2})
    together = _answers(auto, video, (1, 2, 3), frame=2)
    for track in (1, 2, 3):
        for key, segment in _answers(auto, video, (track,), frame=2).items():
            _check_equal(together[key], segment, TOLERANCE)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_killed_run_goes_on_to_the_same_bytes(
    auto: Sam2Predictor, video: Video, decided: Callable[..., None], tmp_path: Path, steps: int
) -> None:
    """Stopped before, at and after the frames on which it is decided, on both ways from frame 1."""
    decided(near={1}, narrow={2})
    expected = _answers(auto, video, (1, 2, 3), frame=1)
    with Session(video, auto, settings=SessionSettings(folder=tmp_path)) as session:
        session.prompt_many([_disc(track, 1) for track in (1, 2, 3)])
        stopped = session.run()
        for stepped in stopped:
            if stepped.position == steps:
                stopped.cancel()
        log = session.log
    with Session(video, auto, settings=SessionSettings(folder=tmp_path)) as session:
        session.resume(log)
        session.run().finish()
        found = _kept(session)
    assert found.keys() == expected.keys()
    for key, segment in expected.items():
        _check_equal(found[key], segment)


def test_both_are_looked_at_near_each_prompt_on_each_way(
    auto: Sam2Predictor, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "napari_sam2.models.attention_selection.is_same_mask",
        lambda near, whole: asked.append((near.track, near.frame)) is None,
    )
    with Session(video, auto) as session:
        session.prompt_many([_disc(1, 1), _disc(2, 1)])
        session.run().finish()
        assert sorted(asked) == [(track, frame) for track in (1, 2) for frame in (0, 2, 3, 4)], (
            "each frame that is near the prompt"
        )
        asked.clear()
        before = {segment.track: segment for segment in session.segments(3)}[1]
        middle = (before.window.top + 60.0, before.window.left + 60.0)
        assert (
            session.prompt(PointPrompt(3, 1, [middle], [False])).window == before.window
        )  # a click is answered at once
        assert not asked
        session.run().finish()
    assert [(track, frame) for track, frame in asked if frame in (2, 4)] == [(1, 4), (1, 2)]
    assert {track for track, _ in asked} == {1}


def test_a_correction_opens_the_question_again(
    auto: Sam2Predictor, video: Video, decided: Callable[..., None]
) -> None:
    """Of the corrected frame all is remembered, though its track was narrow, and what is decided then is another thing."""

    def narrow(session: Session) -> list[bool]:
        return [session.segments(frame)[0].local_memory for frame in range(FRAMES)]

    with Session(video, auto) as session:
        decided(near=set(), narrow={2})
        session.prompt_many([_disc(2)])
        session.run().finish()
        assert narrow(session) == [False, True, True, True, True]
        decided(near=set(), narrow=set())
        session.prompt(PointPrompt(3, 2, [(200.0, 60.0)], [True]))
        session.run().finish()
        assert narrow(session)[2:] == [False, False, False]
