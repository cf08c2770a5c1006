"""A model that reads each track through a window of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from napari_sam2.core.card import ModelCard
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import BoxPrompt, FramePrompts, MaskPrompt, PointPrompt
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.stack import Frame, Stack, Video
from napari_sam2.core.window import Window
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.object_crops import ObjectCropModel
from napari_sam2.models.object_location import compute_scale_agreements
from napari_sam2.models.parallel import map_threads
from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.testing.contracts import ModelContract
from tests.models.networks import SMALL_CONV, make_network

PROPAGATING = replace(SMALL_CONV, propagated_mask=True, refinement=True)
CARD = ModelCard(
    "small",
    sha256="0" * 64,
    input_sizes=(128,),
    keep_aspect=True,
    object_crops=True,
    memory_slots=3,
    pointers=4,
)


@lru_cache
def _make_weights() -> Sam2Network:
    return make_network(PROPAGATING, presence=20.0)


@pytest.fixture(scope="module")
def model() -> ObjectCropModel:
    return ObjectCropModel(_make_weights(), CARD)


class TestObjectCropModel(ModelContract):
    """The contract of every model, with random weights."""

    tolerance = 2e-3

    def make_model(self) -> ObjectCropModel:
        return ObjectCropModel(_make_weights(), CARD)


def _make_noise(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_the_answer_does_not_depend_on_distant_pixels(model: ObjectCropModel) -> None:
    """A box in a frame, and in a part of that frame."""
    large = _make_noise((512, 640))
    box = FramePrompts(box=(200.0, 304.0, 231.0, 335.0))
    (embedding,) = model.embed([(Frame(0, large), model.card.make_frame_window(large.shape))])
    (whole,) = model.segment(embedding, [Query(1, box)])
    far = large.copy()
    far[:100], far[:, 500:] = 1, 0
    (embedding,) = model.embed([(Frame(0, far), model.card.make_frame_window(far.shape))])
    (other,) = model.segment(embedding, [Query(1, box)])
    assert whole.window == other.window and whole.window.height < 128
    np.testing.assert_array_equal(whole.logits, other.logits)


@pytest.mark.parametrize("prompt_kind", ["box", "box and click"])
def test_a_frame_turned_by_180_degrees_gives_the_mask_turned(
    model: ObjectCropModel, prompt_kind: str
) -> None:
    """The frame has a size at which windows turn with it."""
    pixels = _make_noise((144, 144))
    prompts = {
        "box": FramePrompts(box=(44.5, 44.5, 74.5, 74.5)),
        "box and click": FramePrompts(
            box=(44.5, 44.5, 74.5, 74.5), points=((50.0, 60.0),), positive=(False,)
        ),
    }[prompt_kind]
    points = tuple((143 - y, 143 - x) for y, x in prompts.points)
    box = (
        None
        if prompts.box is None
        else (
            143 - prompts.box[2],
            143 - prompts.box[3],
            143 - prompts.box[0],
            143 - prompts.box[1],
        )
    )
    planes = []
    for shown, each in (
        (pixels, prompts),
        (
            pixels[::-1, ::-1].copy(),
            FramePrompts(points=points, positive=prompts.positive, box=box),
        ),
    ):
        (embedding,) = model.embed([(Frame(0, shown), model.card.make_frame_window(shown.shape))])
        (segment,) = model.segment(embedding, [Query(1, each)])
        planes.append(segment.window.paste(segment.logits, slice(0, 144), slice(0, 144)))
    np.testing.assert_allclose(planes[1][::-1, ::-1], planes[0], atol=2e-3)


@pytest.mark.parametrize("prompt_kind", ["box", "mask", "click"])
def test_each_track_has_its_own_window(model: ObjectCropModel, prompt_kind: str) -> None:
    pixels, masks = _make_noise((300, 300)), np.zeros((2, 300, 300), dtype=bool)
    masks[0, 20:40, 30:50], masks[1, 150:250, 140:260] = True, True
    prompts = {
        "box": [
            FramePrompts(box=(19.5, 29.5, 39.5, 49.5)),
            FramePrompts(box=(149.5, 139.5, 249.5, 259.5)),
        ],
        "mask": [FramePrompts(mask=mask) for mask in masks],
        "click": [
            FramePrompts(points=((30.0, 40.0),), positive=(True,)),
            FramePrompts(points=((200.0, 200.0),), positive=(True,)),
        ],
    }[prompt_kind]
    (embedding,) = model.embed([(Frame(0, pixels), model.card.make_frame_window(pixels.shape))])
    small, large = model.segment(
        embedding, [Query(track, each) for track, each in enumerate(prompts, start=1)]
    )
    assert small.window.top <= 30 <= small.window.top + small.window.height
    assert large.window.top <= 200 <= large.window.top + large.window.height
    if prompt_kind != "click":
        assert small.window.height < large.window.height


def test_a_correction_reads_the_window_of_the_previous_answer(model: ObjectCropModel) -> None:
    video = Video.of(
        Stack(_make_noise((256, 256))[None].repeat(4, axis=0), "tyx"), contrast=Contrast(0, 1)
    )
    with Session(video, model, settings=SessionSettings(patience=None)) as session:
        first = session.prompt(BoxPrompt(1, 1, (100, 100, 130, 130)))
        answer = session.prompt(PointPrompt(1, 1, [(110, 110)], [True]))
        assert answer.window == first.window
        session.run().finish()
        before = session.get_segments(2)[0]
        again = session.prompt(PointPrompt(2, 1, [(112, 112)], [False]))
        assert again.window == before.window


def test_the_window_moves_with_its_track(model: ObjectCropModel) -> None:
    """Masks on each frame move the windows, and memories are resampled to them."""
    frames = _make_noise((200, 400))[None].repeat(6, axis=0)
    video = Video.of(Stack(frames, "tyx"), contrast=Contrast(0, 1))
    with Session(video, model, settings=SessionSettings(patience=None)) as session:
        for frame, left in ((0, 20), (4, 220)):
            mask = np.zeros((200, 400), dtype=bool)
            mask[80:110, left : left + 30] = True
            session.prompt(MaskPrompt(frame, 1, mask))
        session.run().finish()
        windows = {frame: session.get_segments(frame)[0].window for frame in range(6)}
    assert windows[0].left < 60 < 160 < windows[4].left


def test_a_propagated_frame_keeps_only_its_pixels(model: ObjectCropModel) -> None:
    """Otherwise cached frames would grow beyond their limit of bytes."""
    pixels = _make_noise((256, 256))
    (embedding,) = model.embed([(Frame(0, pixels), model.card.make_frame_window(pixels.shape))])
    answers = model.segment(embedding, [Query(1, FramePrompts(box=(50.0, 60.0, 80.0, 99.0)))])
    assert model.nbytes(embedding.features) > pixels.nbytes
    model.encode_memory(embedding, answers)
    assert model.nbytes(embedding.features) == pixels.nbytes


def test_a_frame_from_disk_gives_the_same_answer(model: ObjectCropModel) -> None:
    pixels = (
        _make_noise((150, 200)).astype(np.float16).astype(np.float32)
    )  # stored in half precision
    (embedding,) = model.embed([(Frame(0, pixels), model.card.make_frame_window(pixels.shape))])
    back = replace(embedding, features=model.from_arrays(model.to_arrays(embedding.features)))
    query = Query(1, FramePrompts(box=(50.0, 60.0, 80.0, 99.0)))
    np.testing.assert_array_equal(
        model.segment(back, [query])[0].logits, model.segment(embedding, [query])[0].logits
    )


def test_equal_answers_at_several_scales_agree() -> None:
    """A disc of 20 pixels through three windows, and a fourth whose answer grew with it."""
    answers = []
    for side in (40.0, 60.0, 90.0, 135.0):
        window = Window(100 - side / 2, 100 - side / 2, side, side, 128)
        line = (np.arange(32) + 0.5) / 32 * side - side / 2
        radius = 10 if side < 100 else side / 3
        logits = np.where(line[:, None] ** 2 + line**2 < radius**2, 5.0, -5.0).astype(np.float32)
        answers.append(Segment(1, 0, window, logits, 0.9, 5.0, np.zeros(8, dtype=np.float32)))
    first, second, third, fourth = compute_scale_agreements(answers)
    assert min(first, second, third) > 0.7 and fourth < 0.2


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_features_do_not_depend_on_how_many_windows_are_encoded_together(
    model: ObjectCropModel,
) -> None:
    """To the last bit: a resumed run must end as an uninterrupted one."""
    pixels = _make_noise((256, 256))
    windows = [Window(10.0 * number, 5.0, 96.0, 96.0, 128) for number in range(5)]

    @torch.inference_mode()
    def encode(asked: list[Window]) -> list[torch.Tensor]:
        (embedding,) = model.embed([(Frame(0, pixels), model.card.make_frame_window(pixels.shape))])
        return [level[0] for level in model.get_features(embedding, asked)]

    for one, other in zip(*map_threads(encode, [windows[:1], windows]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_several_threads_give_the_answers_of_one(model: ObjectCropModel, threads: int) -> None:
    """Within rounding: batches of other sizes are summed in another order."""
    pixels = _make_noise((256, 256))
    queries = [
        Query(track, FramePrompts(box=(10.0, 20.0 * track, 40.0, 20.0 * track + 30)))
        for track in range(1, 8)
    ]
    (embedding,) = model.embed([(Frame(0, pixels), model.card.make_frame_window(pixels.shape))])
    together = model.segment(embedding, queries)
    assert [each.track for each in together] == list(range(1, 8))
    memories: Any = model.encode_memory(embedding, together)
    for query, answer, memory in zip(queries, together, memories, strict=True):
        (alone,) = model.segment(embedding, [query])
        np.testing.assert_allclose(alone.logits, answer.logits, atol=2e-3)
        memory_alone: Any = model.encode_memory(embedding, [alone])[0]
        torch.testing.assert_close(memory_alone.tokens, memory.tokens, atol=2e-2, rtol=2e-2)


def test_a_query_without_prompts_and_memories_is_refused(model: ObjectCropModel) -> None:
    (embedding,) = model.embed(
        [(Frame(0, _make_noise((96, 96))), model.card.make_frame_window((96, 96)))]
    )
    with pytest.raises(PromptError, match="neither prompts nor memories"):
        model.segment(embedding, [Query(1)])
