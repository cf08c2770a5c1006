"""ActiveTracks: when a correction stops propagating."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.plan import Propagation, PropagationRange, Step
from napari_sam2.core.result import Segment
from napari_sam2.core.window import Window
from napari_sam2.propagation.active_tracks import UNCHANGED_FRAMES, ActiveTracks, is_similar

WINDOW = Window(0.0, 0.0, 64.0, 64.0, 64)


def _make_segment(
    left: int, *, width: int = 20, window: Window = WINDOW, score: float = 5.0
) -> Segment:
    """20 rows of columns from `left`, in data pixels of a window with cells of one pixel."""
    logits = np.full((64, 64), -8.0, dtype=np.float32)
    logits[20:40, left - int(window.left) : left - int(window.left) + width] = 8.0
    return Segment(1, 9, window, logits, 0.9, score, np.zeros(4, dtype=np.float32))


OLD = _make_segment(20)
ELSEWHERE = Window(0.0, 8.0, 64.0, 64.0, 64)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param(_make_segment(20), True, id="the same"),
        pytest.param(_make_segment(21), True, id="shifted by one of twenty"),
        pytest.param(_make_segment(24), False, id="shifted by four"),
        pytest.param(_make_segment(20, width=14), False, id="cut by a third"),
        pytest.param(_make_segment(20, window=ELSEWHERE), True, id="seen through another window"),
        pytest.param(_make_segment(20, score=-1.0), False, id="gone"),
    ],
)
def test_masks_agree_by_their_pixels_on_the_frame(new: Segment, expected: bool) -> None:
    assert is_similar(OLD, new) is expected
    assert is_similar(new, OLD) is expected


@pytest.mark.parametrize(("turned", "frames"), [(True, UNCHANGED_FRAMES), (False, 8)])
def test_reversed_propagation_stops_on_similar_masks(turned: bool, frames: int) -> None:
    """A slightly shifted mask is expected from the other direction, and else a change."""
    walkers = ActiveTracks(
        Propagation((PropagationRange(1, 9, 1, stop_when_unchanged=True),)), patience=None
    )
    steps = 0
    for frame in range(8, 0, -1):
        step = Step(frame, False, (1,))
        walkers.start(step)
        if walkers.get_tracks(step):
            walkers.update(step, _make_segment(21), OLD, reversed_direction=turned)
            steps += 1
    assert steps == frames
