"""A GPU whose memory is too small for all items gets smaller batches, and one notice."""

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


class SmallGpuModel(ToyModel):
    """A toy model on a GPU that holds `room` items; it records the size of each batch."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.batch_sizes: list[int] = []

    def embed(self, views: Any) -> list[Embedding]:
        self._record(views)
        return super().embed(views)

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        self._record(queries)
        return super().segment(embedding, queries)

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        self._record(segments)
        return super().encode_memory(embedding, segments)

    def _record(self, items: Sequence[Any]) -> None:
        self.batch_sizes.append(len(items))
        if len(items) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class TestBatchLimitedModel(ModelContract):
    def make_model(self) -> VideoModel:
        return BatchLimitedModel(SmallGpuModel(1))

    def make_scene(self) -> Scene:
        return make_drifting_scene()


def propagate_labels(scene: Scene, model: VideoModel) -> np.ndarray:
    """(frames, H, W) labels."""
    with Session(scene.video, model) as session:
        session.replay(scene.make_log())
        session.run().finish()
        return np.stack([session.compute_label_plane(frame) for frame in range(len(scene.video))])


@pytest.mark.parametrize("room", [1, 2, 3, 5, 100])
def test_smaller_batches_give_the_same_answers(room: int) -> None:
    scene = make_drifting_scene(count=9, shape=(96, 96), frames=4)
    small = SmallGpuModel(room)
    model = BatchLimitedModel(small)
    np.testing.assert_array_equal(propagate_labels(scene, model), scene.labels)
    assert len(model.notices) == (1 if room < 9 else 0)


def test_a_batch_size_that_did_not_fit_is_not_tried_again() -> None:
    small = SmallGpuModel(2)
    model = BatchLimitedModel(small)
    scene = make_drifting_scene(count=9, shape=(96, 96), frames=4)
    propagate_labels(scene, model)
    assert (
        sum(count > 2 for count in small.batch_sizes) == 4
    )  # 9 and 4, of segments and of memories


def test_error_tells_what_to_do_if_one_item_does_not_fit() -> None:
    scene = make_drifting_scene()
    with (
        Session(scene.video, BatchLimitedModel(SmallGpuModel(0))) as session,
        pytest.raises(DeviceMemoryError) as caught,
    ):
        session.replay(scene.make_log())
    assert "\n" not in str(caught.value)
    assert "choose a smaller model or the processor" in str(caught.value)


def test_other_errors_are_passed_on() -> None:
    class Broken(ToyModel):
        def embed(self, views: Any) -> list[Embedding]:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        BatchLimitedModel(Broken()).embed([1, 2])  # type: ignore[list-item]
