"""The choice between local and global attention, which is read off the memories alone."""

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
# Logits are up to 40, and batches change their last digits, which grows from frame to frame.
TOLERANCE = 1e-2
WHOLE = Window.full_frame((SIZE, SIZE), SIZE)
REGION = TokenRegion(0, 8, 8).to_window(WHOLE)
PLACES = {1: (70, 180), 2: (200, 60), 3: (64, 64)}


CORNERS = ((60.0, 170.0), (80.0, 190.0))


def _make_payload(
    seen: Window, window: Window = REGION, corners: Corners | None = CORNERS
) -> MemoryPayload:
    """The values of its tokens are their indices on the whole grid."""
    grid = SIZE // STRIDE
    places = TokenRegion.of(window, WHOLE).token_indices(grid)
    return MemoryPayload(places[:, None].expand(-1, 64).float(), window, corners, None, seen)


def _make_references(
    *seen: tuple[int, bool, bool, Window], memory_window: Window = REGION
) -> tuple[MemoryReference, ...]:
    """References to memories, each given by frame, conditioning, present and view window.

    Those of conditioning frames cover the whole grid, all others `memory_window`.
    """
    memories = [
        Memory(
            frame,
            conditioning,
            np.zeros(1),
            present,
            features=_make_payload(window, WHOLE if conditioning else memory_window),
        )
        for frame, conditioning, present, window in seen
    ]
    return tuple(MemoryReference(memory, 0 if memory.conditioning else 1, 1) for memory in memories)


@pytest.mark.parametrize(
    ("seen", "undecided", "whole"),
    [
        pytest.param([(4, True, True, WHOLE)], True, False, id="first after a prompt"),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, WHOLE)],
            False,
            True,
            id="global",
        ),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, REGION)],
            False,
            False,
            id="local",
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
            id="still global",
        ),
    ],
)
def test_the_decision_is_read_off_the_memories(
    seen: Sequence[tuple[int, bool, bool, Window]], undecided: bool, whole: bool
) -> None:
    query = Query(1, memory_references=_make_references(*seen))
    assert is_undecided(query, 5) is undecided
    assert is_global(query, 5, WHOLE) is whole
    assert not is_undecided(
        replace(query, prompts=FramePrompts(points=((70.0, 180.0),), positive=(True,))), 5
    )


@pytest.mark.parametrize(
    ("seen", "memory_window", "local_memory"),
    [
        pytest.param([(4, True, True, WHOLE)], REGION, False, id="first after a prompt"),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, WHOLE)],
            REGION,
            True,
            id="local memory, global view",
        ),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, REGION)],
            REGION,
            True,
            id="local memory, local view",
        ),
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, WHOLE)],
            WHOLE,
            False,
            id="global memory",
        ),
        pytest.param(
            [(2, True, True, WHOLE), (3, False, True, WHOLE), (4, False, False, WHOLE)],
            REGION,
            False,
            id="absent",
        ),
        pytest.param(
            [(2, True, True, WHOLE), (3, False, False, WHOLE), (4, False, True, WHOLE)],
            REGION,
            False,
            id="found again",
        ),
    ],
)
def test_local_memory_is_read_off_the_memories(
    seen: Sequence[tuple[int, bool, bool, Window]], memory_window: Window, local_memory: bool
) -> None:
    assert (
        has_local_memory(
            Query(1, memory_references=_make_references(*seen, memory_window=memory_window)),
            5,
            WHOLE,
        )
        is local_memory
    )


def test_local_memory_is_cut_to_the_region_around_the_object() -> None:
    shown = [
        _make_payload(WHOLE, WHOLE),
        _make_payload(WHOLE, WHOLE, None),
        _make_payload(WHOLE, REGION),
        None,
    ]
    references = tuple(
        MemoryReference(Memory(frame, False, np.zeros(1), features=each), 1, 1)
        for frame, each in enumerate(shown)
    )
    found = [
        cast(MemoryPayload | None, reference.memory.features)
        for reference in use_local_memory(
            Query(1, memory_references=references), WHOLE, LocalRegions(min_tokens=8)
        ).memory_references
    ]
    assert [each and each.window for each in found] == [
        REGION,
        WHOLE,
        REGION,
        None,
    ]  # the memory of an absent object has no region
    assert found[0] is not None
    np.testing.assert_array_equal(
        found[0].tokens[:, 0], TokenRegion.of(REGION, WHOLE).token_indices(SIZE // STRIDE)
    )


def _make_segment(window: Window, box: tuple[int, int, int, int] | None) -> Segment:
    """An answer whose mask is a box (top, left, bottom, right) in pixels, or absent if None."""
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
    ("seen", "frame", "compared"),
    [
        pytest.param(
            [(3, True, True, WHOLE), (4, False, True, REGION)], 5, True, id="second after a prompt"
        ),
        pytest.param([(2, True, True, WHOLE), (4, False, True, REGION)], 5, True, id="third"),
        pytest.param([(1, True, True, WHOLE), (4, False, True, REGION)], 5, False, id="fourth"),
        pytest.param([(3, True, True, WHOLE), (4, False, True, WHOLE)], 5, False, id="global view"),
        pytest.param([(4, True, True, WHOLE)], 5, False, id="first: undecided"),
        pytest.param(
            [(1, True, True, WHOLE), (5, False, True, REGION), (7, True, True, WHOLE)],
            4,
            True,
            id="backward too",
        ),
        pytest.param([(4, False, True, REGION)], 5, False, id="no prompted memory"),
    ],
)
def test_local_masks_are_compared_near_a_prompt(
    seen: Sequence[tuple[int, bool, bool, Window]], frame: int, compared: bool
) -> None:
    query = Query(1, memory_references=_make_references(*seen))
    assert is_compared(query, frame, WHOLE) is compared
    assert not is_compared(
        replace(query, prompts=FramePrompts(points=((70.0, 180.0),), positive=(True,))),
        frame,
        WHOLE,
    )


@pytest.mark.parametrize(
    ("local", "whole", "expected"),
    [
        pytest.param((40, 160, 80, 200), (40, 160, 80, 200), True, id="the same"),
        pytest.param((40, 160, 80, 200), (40, 160, 80, 204), False, id="a tenth wider"),
        pytest.param((40, 160, 80, 200), (40, 20, 80, 60), False, id="elsewhere"),
        pytest.param((40, 132, 80, 200), (40, 100, 80, 200), False, id="cut by the region"),
        pytest.param(None, (40, 160, 80, 200), False, id="absent in the region"),
        pytest.param((40, 160, 80, 200), None, False, id="absent in the whole"),
        pytest.param(None, None, False, id="absent in both"),
    ],
)
def test_two_answers_are_the_same_if_their_masks_agree(
    local: tuple[int, int, int, int] | None, whole: tuple[int, int, int, int] | None, expected: bool
) -> None:
    assert is_same_mask(_make_segment(REGION, local), _make_segment(WHOLE, whole)) is expected


@pytest.mark.parametrize(
    ("cells", "region", "local_memory"), [(0, True, True), (1, True, False), (2, False, False)]
)
def test_local_memory_has_the_stricter_limit(cells: int, region: bool, local_memory: bool) -> None:
    """Masks of 100 cells in the region, of which some are missing."""
    full = _make_segment(WHOLE, (40, 160, 80, 200))
    for window, expected in ((REGION, region), (WHOLE, local_memory)):
        less = _make_segment(window, (40, 160, 80, 200))
        less.logits[tuple(np.argwhere(less.logits > 0)[:cells].T)] = -10.0
        assert is_same_mask(less, full) is expected


@pytest.fixture(scope="module")
def whole() -> Sam2Predictor:
    return make_model(size=SIZE)


@pytest.fixture(scope="module")
def auto(whole: Sam2Predictor) -> Sam2Predictor:
    return _with_attention(whole, "auto")


class RegionsOfEight(LocalRegions):
    """Regions of 8 tokens around the centre: masks of random weights cover the whole frame."""

    def make_region(self, corners: Corners, whole: Window) -> Window:
        top, left = (
            int(np.clip(sum(each) / 2 // 16 - 4, 0, 8)) for each in zip(*corners, strict=True)
        )
        return TokenRegion(top, left, 8).to_window(whole)


class GlobalViewModel(Sam2Predictor):
    """Reads the whole grid and attends to local memories on every frame."""

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        return super().segment(
            embedding, [use_local_memory(query, WHOLE, RegionsOfEight()) for query in queries]
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


def _with_attention(whole: Sam2Predictor, attention: Attention) -> Sam2Predictor:
    made = Sam2Predictor(whole.network, replace(whole.card, attention=attention))
    made.regions = RegionsOfEight()
    return made


@pytest.fixture(scope="module")
def video() -> Video:
    return Stack(
        np.random.default_rng(0).random((FRAMES, SIZE, SIZE), dtype=np.float32), "tyx"
    ).as_video("t")


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the tracks whose masks count as the same: those of random weights never are."""

    def set_tracks(*, local: set[int], local_memory: set[int]) -> None:
        def is_same(one: Segment, other: Segment) -> bool:
            return (
                one.track in (local_memory if one.window == other.window else local)
                and one.present
                and other.present
            )

        monkeypatch.setattr("napari_sam2.models.attention_selection.is_same_mask", is_same)

    return set_tracks


def _make_disc(track: int, frame: int = 0) -> MaskPrompt:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    y, x = PLACES[track]
    return MaskPrompt(frame, track, (rows - y) ** 2 + (columns - x) ** 2 < 12**2)


def _propagate(
    model: Sam2Predictor, video: Video, tracks: Sequence[int], frame: int = 0
) -> dict[tuple[int, int], Segment]:
    with Session(video, model) as session:
        session.prompt_many([_make_disc(track, frame) for track in tracks])
        session.run().finish()
        return _get_segments(session)


def _get_segments(session: Session) -> dict[tuple[int, int], Segment]:
    return {
        (segment.track, frame): segment
        for frame in range(FRAMES)
        for segment in session.get_segments(frame)
    }


def _check_equal(one: Segment, other: Segment, tolerance: float = 0.0) -> None:
    assert (one.window, one.presence) == (other.window, other.presence)
    np.testing.assert_allclose(one.logits, other.logits, rtol=0, atol=tolerance)


def test_each_track_keeps_its_attention(
    auto: Sam2Predictor, whole: Sam2Predictor, video: Video, decided: Callable[..., None]
) -> None:
    """Track 1 reads regions, track 2 the whole grid with local memory, track 3 everything."""
    decided(local={1}, local_memory={2})
    found = _propagate(auto, video, (1, 2, 3))
    sizes = {
        track: [found[track, frame].window.size for frame in range(FRAMES)] for track in (1, 2, 3)
    }
    assert sizes == {1: [SIZE, 128, 128, 128, 128], 2: [SIZE] * FRAMES, 3: [SIZE] * FRAMES}
    wide = GlobalViewModel(whole.network, replace(whole.card, attention="local"))
    wide.regions = RegionsOfEight()
    for track, expected in ((2, wide), (3, whole)):
        alone = _propagate(auto, video, (track,))
        for key, segment in _propagate(expected, video, (track,)).items():
            _check_equal(alone[key], segment)
    assert not np.allclose(
        _propagate(wide, video, (2,))[2, 2].logits,
        _propagate(whole, video, (2,))[2, 2].logits,
        atol=TOLERANCE,
    )
    assert not np.allclose(
        found[1, 1].logits,
        _cut(_propagate(whole, video, (1,))[1, 1], found[1, 1].window),
        atol=TOLERANCE,
    )


def test_a_track_whose_masks_differ_later_becomes_global(
    auto: Sam2Predictor, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "napari_sam2.models.attention_selection.is_same_mask",
        lambda less, full: less.window != full.window and less.frame < 3,
    )
    found = _propagate(auto, video, (1,))
    assert [found[1, frame].window.size for frame in range(FRAMES)] == [SIZE, 128, 128, SIZE, SIZE]


def _cut(segment: Segment, window: Window) -> np.ndarray:
    cells = TokenRegion.of(window, WHOLE)
    rows, columns = (
        slice(4 * start, 4 * (start + cells.side)) for start in (cells.top, cells.left)
    )
    return segment.logits[rows, columns]


def test_tracks_of_all_kinds_together_are_as_each_alone(
    auto: Sam2Predictor, video: Video, decided: Callable[..., None]
) -> None:
    decided(local={1}, local_memory={2})
    together = _propagate(auto, video, (1, 2, 3), frame=2)
    for track in (1, 2, 3):
        for key, segment in _propagate(auto, video, (track,), frame=2).items():
            _check_equal(together[key], segment, TOLERANCE)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_killed_run_resumes_to_the_same_bytes(
    auto: Sam2Predictor, video: Video, decided: Callable[..., None], tmp_path: Path, steps: int
) -> None:
    """Stopped before, on and after the deciding frames, in both directions from frame 1."""
    decided(local={1}, local_memory={2})
    expected = _propagate(auto, video, (1, 2, 3), frame=1)
    with Session(video, auto, settings=SessionSettings(folder=tmp_path)) as session:
        session.prompt_many([_make_disc(track, 1) for track in (1, 2, 3)])
        stopped = session.run()
        for stepped in stopped:
            if stepped.position == steps:
                stopped.cancel()
        log = session.log
    with Session(video, auto, settings=SessionSettings(folder=tmp_path)) as session:
        session.resume(log)
        session.run().finish()
        found = _get_segments(session)
    assert found.keys() == expected.keys()
    for key, segment in expected.items():
        _check_equal(found[key], segment)


def test_masks_are_compared_near_each_prompt_in_each_direction(
    auto: Sam2Predictor, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared_keys: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "napari_sam2.models.attention_selection.is_same_mask",
        lambda local, whole: compared_keys.append((local.track, local.frame)) is None,
    )
    with Session(video, auto) as session:
        session.prompt_many([_make_disc(1, 1), _make_disc(2, 1)])
        session.run().finish()
        assert sorted(compared_keys) == [
            (track, frame) for track in (1, 2) for frame in (0, 2, 3, 4)
        ], "each frame local the prompt"
        compared_keys.clear()
        before = {segment.track: segment for segment in session.get_segments(3)}[1]
        middle = (before.window.top + 60.0, before.window.left + 60.0)
        assert (
            session.prompt(PointPrompt(3, 1, [middle], [False])).window == before.window
        )  # a click is answered without a comparison
        assert not compared_keys
        session.run().finish()
    assert [(track, frame) for track, frame in compared_keys if frame in (2, 4)] == [(1, 4), (1, 2)]
    assert {track for track, _ in compared_keys} == {1}


def test_a_correction_asks_for_a_new_decision(
    auto: Sam2Predictor, video: Video, decided: Callable[..., None]
) -> None:
    """A corrected frame keeps its global memory, and then another attention is chosen."""

    def local_memory(session: Session) -> list[bool]:
        return [session.get_segments(frame)[0].local_memory for frame in range(FRAMES)]

    with Session(video, auto) as session:
        decided(local=set(), local_memory={2})
        session.prompt_many([_make_disc(2)])
        session.run().finish()
        assert local_memory(session) == [False, True, True, True, True]
        decided(local=set(), local_memory=set())
        session.prompt(PointPrompt(3, 2, [(200.0, 60.0)], [True]))
        session.run().finish()
        assert local_memory(session)[2:] == [False, False, False]
