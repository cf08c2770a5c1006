"""The position of a query's object, from the best source that the query has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Memory, MemoryReference, Query
from napari_sam2.core.window import Window
from napari_sam2.models.memory_payload import MemoryPayload
from napari_sam2.models.object_location import ObjectLocation, locate_object

WINDOW = Window(0.0, 0.0, 64.0, 64.0, 64)
BOX = FramePrompts(box=(9.5, 9.5, 19.5, 29.5))
CLICK = FramePrompts(points=((39.5, 39.5),), positive=(True,))
BOX_AND_CLICK = FramePrompts(box=(9.5, 9.5, 19.5, 29.5), points=((39.5, 39.5),), positive=(True,))
MASK = FramePrompts(mask=np.pad(np.ones((10, 20), dtype=bool), ((10, 44), (10, 34))))
CORNERS = ((10.0, 10.0), (20.0, 30.0))
MEMORY_CORNERS = ((1.0, 2.0), (3.0, 4.0))


def _make_reference(
    frame: int, corners: tuple[tuple[float, float], tuple[float, float]] | None = MEMORY_CORNERS
) -> MemoryReference:
    payload = MemoryPayload(torch.zeros(16, 64), WINDOW, corners, None, WINDOW)
    return MemoryReference(Memory(frame, False, np.zeros(1), features=payload), 1, 1)


def _make_logits(*, present: bool = True) -> np.ndarray:
    """(64, 64) logits whose object has CORNERS."""
    logits = np.full((64, 64), -5.0, dtype=np.float32)
    if present:
        logits[10:20, 10:30] = 5.0
    return logits


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(Query(1, MASK), ObjectLocation("prompt", CORNERS), id="mask"),
        pytest.param(Query(1, BOX), ObjectLocation("prompt", CORNERS), id="box"),
        pytest.param(
            Query(1, BOX_AND_CLICK),
            ObjectLocation("prompt", ((10.0, 10.0), (40.0, 40.0))),
            id="box and click",
        ),
        pytest.param(Query(1, CLICK), None, id="click"),
        pytest.param(
            Query(1, CLICK, logits=_make_logits(), window=WINDOW),
            ObjectLocation("answer", ((10.0, 10.0), (40.0, 40.0)), WINDOW),
            id="correction",
        ),
        pytest.param(
            Query(1, CLICK, logits=_make_logits(present=False), window=WINDOW),
            ObjectLocation("answer", None, WINDOW),
            id="correction of an absent object",
        ),
        pytest.param(Query(1, CLICK, (_make_reference(4),)), None, id="click with memory"),
        pytest.param(
            Query(1, memory_references=(_make_reference(1, CORNERS), _make_reference(4))),
            ObjectLocation("memory", MEMORY_CORNERS, WINDOW),
            id="nearest memory",
        ),
        pytest.param(
            Query(1, memory_references=(_make_reference(4, None),)),
            ObjectLocation("memory", None, WINDOW),
            id="absent on the last frame",
        ),
        pytest.param(Query(1), None, id="nothing"),
    ],
)
def test_the_best_source_gives_the_position(query: Query, expected: ObjectLocation | None) -> None:
    assert locate_object(query, frame=5) == expected
