"""Two thousand frames: memory does not grow with the stack."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.core.stack import Stack, Video
from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.testing.toy import ToyModel

_FRAMES, _SIDE, _RADIUS = 2000, 32, 5
_GROWTH = 300_000  # bytes over 1,500 frames: less than one plane of floats for every ten of them


class _MovingDisc:
    """A moving disc, drawn on demand, so that the stack itself takes no memory."""

    shape, dtype = (_FRAMES, _SIDE, _SIDE), np.dtype(np.uint16)

    def __getitem__(self, index: Any) -> np.ndarray:
        frames, *inside = index if isinstance(index, tuple) else (index,)
        chosen = np.arange(_FRAMES)[frames]
        planes = np.stack([_draw_disc(int(frame)) for frame in np.atleast_1d(chosen)])
        planes = planes[(slice(None), *inside)]
        return planes if np.ndim(chosen) else planes[0]


def _draw_disc(frame: int) -> np.ndarray:
    rows, columns = np.indices((_SIDE, _SIDE))
    y, x = _compute_centre(frame)
    return ((rows - y) ** 2 + (columns - x) ** 2 <= _RADIUS**2).astype(np.uint16) * 50_000


def _compute_centre(frame: int) -> tuple[float, float]:
    return 15.5 + 8 * np.sin(frame / 40), 15.5 + 8 * np.cos(frame / 40)


@pytest.mark.slow
def test_memory_is_constant_over_two_thousand_frames() -> None:
    video = Video.of(Stack(_MovingDisc(), "tyx"), contrast=Contrast(0, 50_000))
    model = ToyModel()
    with Session(video, model, settings=SessionSettings(embedding_bytes=1 << 20)) as session:
        session.prompt(PointPrompt(0, 1, [_compute_centre(0)], [True]))
        tracemalloc.start()
        try:
            held = {}
            for stepped in session.run():
                model.calls.clear()  # the toy model records its calls
                if stepped.step.frame in (500, _FRAMES - 1):
                    gc.collect()
                    held[stepped.step.frame] = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        for frame in (1, 777, _FRAMES - 1):
            np.testing.assert_array_equal(
                session.compute_label_plane(frame) > 0, _draw_disc(frame) > 0
            )
    assert held[_FRAMES - 1] - held[500] < _GROWTH, held
