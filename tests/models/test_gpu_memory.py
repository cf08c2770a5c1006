"""A GPU whose memory does not hold all that is asked: smaller parts, said once; and one clear line where not even one fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from napari_sam2.core.errors import DeviceMemoryError
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding, Query, Segment
from napari_sam2.models.gpu_memory import BatchLimitedModel
from napari_sam2.propagation.session import Session
from napari_sam2.testing.contracts.model import ModelContract
from napari_sam2.testing.scenes import Scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel


class Small(ToyModel):
    """A toy model on a GPU that holds `room` things at once; it notes how many were asked each time."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.asked: list[int] = []

    def embed(self, views: Any) -> list[Embedding]:
        self._hold(views)
        return super().embed(views)

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        self._hold(queries)
        return super().segment(embedding, queries)

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        self._hold(segments)
        return super().encode_memory(embedding, segments)

    def _hold(self, things: Sequence[Any]) -> None:
        self.asked.append(len(things))
        if len(things) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class TestFittingKeepsTheContract(ModelContract):
    def make_model(self) -> VideoModel:
        return BatchLimitedModel(Small(1))

    def make_scene(self) -> Scene:
        return make_drifting_scene()


def carried(scene: Scene, model: VideoModel) -> np.ndarray:
    """(frames, H, W) labels."""
    with Session(scene.video, model) as session:
        session.replay(scene.make_log())
        session.run().finish()
        return np.stack([session.label_plane(frame) for frame in range(len(scene.video))])


@pytest.mark.parametrize("room", [1, 2, 3, 5, 100])
def test_what_does_not_fit_at_once_is_asked_in_parts_with_the_same_answers(room: int) -> None:
    scene = make_drifting_scene(count=9, shape=(96, 96), frames=4)
    small = Small(room)
    model = BatchLimitedModel(small)
    np.testing.assert_array_equal(carried(scene, model), scene.labels)
    assert len(model.notices) == (1 if room < 9 else 0)


def test_once_it_did_not_fit_as_much_is_not_asked_again() -> None:
    small = Small(2)
    model = BatchLimitedModel(small)
    scene = make_drifting_scene(count=9, shape=(96, 96), frames=4)
    carried(scene, model)
    assert sum(count > 2 for count in small.asked) == 4  # 9 and 4, of segments and of memories


def test_where_not_even_one_fits_one_line_says_what_to_do() -> None:
    scene = make_drifting_scene()
    with (
        Session(scene.video, BatchLimitedModel(Small(0))) as session,
        pytest.raises(DeviceMemoryError) as caught,
    ):
        session.replay(scene.make_log())
    assert "\n" not in str(caught.value)
    assert "choose a smaller model or the processor" in str(caught.value)


def test_other_errors_are_left_as_they_are() -> None:
    class Broken(ToyModel):
        def embed(self, views: Any) -> list[Embedding]:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        BatchLimitedModel(Broken()).embed([1, 2])  # type: ignore[list-item]
