"""Following: each track in a Window of its own, wherever it is and however large the frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

from napari_sam2.core.card import ModelCard
from napari_sam2.core.contrast import Contrast
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

CARRYING = replace(SMALL_CONV, propagated_mask=True, refinement=True)
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
def _weights() -> Sam2Network:
    return make_network(CARRYING, presence=20.0)


@pytest.fixture(scope="module")
def made() -> ObjectCropModel:
    return ObjectCropModel(_weights(), CARD)


class TestFollowing(ModelContract):
    """The contract of every model; random weights."""

    tolerance = 2e-3

    def make_model(self) -> ObjectCropModel:
        return ObjectCropModel(_weights(), CARD)


def _noise(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_the_answer_does_not_depend_on_what_lies_far_away(made: ObjectCropModel) -> None:
    """A box in a part of a frame, and in the frame that it is a part of."""
    large = _noise((512, 640))
    box = FramePrompts(box=(200.0, 304.0, 231.0, 335.0))
    (embedding,) = made.embed([(Frame(0, large), made.card.frame_window(large.shape))])
    (whole,) = made.segment(embedding, [Query(1, box)])
    far = large.copy()
    far[:100], far[:, 500:] = 1, 0
    (embedding,) = made.embed([(Frame(0, far), made.card.frame_window(far.shape))])
    (other,) = made.segment(embedding, [Query(1, box)])
    assert whole.window == other.window and whole.window.height < 128
    np.testing.assert_array_equal(whole.logits, other.logits)


@pytest.mark.parametrize("said", ["box", "box and click"])
def test_a_frame_turned_by_half_a_circle_gives_the_mask_turned(
    made: ObjectCropModel, said: str
) -> None:
    """What is prompted is looked at both ways up: neither is preferred.

    (Of a size at which Windows turn with their frame.)
    """
    pixels = _noise((144, 144))
    told = {
        "box": FramePrompts(box=(44.5, 44.5, 74.5, 74.5)),
        "box and click": FramePrompts(
            box=(44.5, 44.5, 74.5, 74.5), points=((50.0, 60.0),), positive=(False,)
        ),
    }[said]
    points = tuple((143 - y, 143 - x) for y, x in told.points)
    box = (
        None
        if told.box is None
        else (143 - told.box[2], 143 - told.box[3], 143 - told.box[0], 143 - told.box[1])
    )
    planes = []
    for shown, each in (
        (pixels, told),
        (pixels[::-1, ::-1].copy(), FramePrompts(points=points, positive=told.positive, box=box)),
    ):
        (embedding,) = made.embed([(Frame(0, shown), made.card.frame_window(shown.shape))])
        (segment,) = made.segment(embedding, [Query(1, each)])
        planes.append(segment.window.paste(segment.logits, slice(0, 144), slice(0, 144)))
    np.testing.assert_allclose(planes[1][::-1, ::-1], planes[0], atol=2e-3)


@pytest.mark.parametrize("said", ["box", "mask", "click"])
def test_each_track_has_its_own_window(made: ObjectCropModel, said: str) -> None:
    pixels, masks = _noise((300, 300)), np.zeros((2, 300, 300), dtype=bool)
    masks[0, 20:40, 30:50], masks[1, 150:250, 140:260] = True, True
    told = {
        "box": [
            FramePrompts(box=(19.5, 29.5, 39.5, 49.5)),
            FramePrompts(box=(149.5, 139.5, 249.5, 259.5)),
        ],
        "mask": [FramePrompts(mask=mask) for mask in masks],
        "click": [
            FramePrompts(points=((30.0, 40.0),), positive=(True,)),
            FramePrompts(points=((200.0, 200.0),), positive=(True,)),
        ],
    }[said]
    (embedding,) = made.embed([(Frame(0, pixels), made.card.frame_window(pixels.shape))])
    small, large = made.segment(
        embedding, [Query(track, each) for track, each in enumerate(told, start=1)]
    )
    assert small.window.top <= 30 <= small.window.top + small.window.height
    assert large.window.top <= 200 <= large.window.top + large.window.height
    if said != "click":
        assert small.window.height < large.window.height


def test_a_correction_is_asked_where_the_answer_was(made: ObjectCropModel) -> None:
    video = Video.of(
        Stack(_noise((256, 256))[None].repeat(4, axis=0), "tyx"), contrast=Contrast(0, 1)
    )
    with Session(video, made, settings=SessionSettings(patience=None)) as session:
        first = session.prompt(BoxPrompt(1, 1, (100, 100, 130, 130)))
        near = session.prompt(PointPrompt(1, 1, [(110, 110)], [True]))
        assert near.window == first.window
        session.run().finish()
        before = session.segments(2)[0]
        again = session.prompt(PointPrompt(2, 1, [(112, 112)], [False]))
        assert again.window == before.window


def test_a_track_is_followed_across_the_frame(made: ObjectCropModel) -> None:
    """With a mask given on each frame the windows are where the masks are, and memories are brought along."""
    frames = _noise((200, 400))[None].repeat(6, axis=0)
    video = Video.of(Stack(frames, "tyx"), contrast=Contrast(0, 1))
    with Session(video, made, settings=SessionSettings(patience=None)) as session:
        for frame, left in ((0, 20), (4, 220)):
            mask = np.zeros((200, 400), dtype=bool)
            mask[80:110, left : left + 30] = True
            session.prompt(MaskPrompt(frame, 1, mask))
        session.run().finish()
        windows = {frame: session.segments(frame)[0].window for frame in range(6)}
    assert windows[0].left < 60 < 160 < windows[4].left


def test_a_frame_that_was_walked_over_holds_its_pixels_alone(made: ObjectCropModel) -> None:
    """Else frames that are kept within a budget of bytes would grow beyond it."""
    pixels = _noise((256, 256))
    (embedding,) = made.embed([(Frame(0, pixels), made.card.frame_window(pixels.shape))])
    answers = made.segment(embedding, [Query(1, FramePrompts(box=(50.0, 60.0, 80.0, 99.0)))])
    assert made.nbytes(embedding.features) > pixels.nbytes
    made.encode_memory(embedding, answers)
    assert made.nbytes(embedding.features) == pixels.nbytes


def test_a_frame_kept_on_disk_answers_as_before(made: ObjectCropModel) -> None:
    pixels = _noise((150, 200)).astype(np.float16).astype(np.float32)  # kept in half precision
    (embedding,) = made.embed([(Frame(0, pixels), made.card.frame_window(pixels.shape))])
    back = replace(embedding, features=made.from_arrays(made.to_arrays(embedding.features)))
    query = Query(1, FramePrompts(box=(50.0, 60.0, 80.0, 99.0)))
    np.testing.assert_array_equal(
        made.segment(back, [query])[0].logits, made.segment(embedding, [query])[0].logits
    )


def test_answers_that_are_the_same_from_near_and_from_far_agree() -> None:
    """A disc of 20 pixels seen through three windows, and a fourth in which the answer grew with the window."""
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
    made: ObjectCropModel,
) -> None:
    """To the last bit: what is resumed must end as what was not interrupted."""
    pixels = _noise((256, 256))
    windows = [Window(10.0 * number, 5.0, 96.0, 96.0, 128) for number in range(5)]

    @torch.inference_mode()
    def encoded(asked: list[Window]) -> list[torch.Tensor]:
        (embedding,) = made.embed([(Frame(0, pixels), made.card.frame_window(pixels.shape))])
        return [level[0] for level in made._get_features(embedding, asked)]

    for one, other in zip(*map_threads(encoded, [windows[:1], windows]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_tracks_shared_by_cores_are_answered_as_by_one(made: ObjectCropModel, threads: int) -> None:
    """Within rounding: batches of other sizes are summed up in another order."""
    pixels = _noise((256, 256))
    queries = [
        Query(track, FramePrompts(box=(10.0, 20.0 * track, 40.0, 20.0 * track + 30)))
        for track in range(1, 8)
    ]
    (embedding,) = made.embed([(Frame(0, pixels), made.card.frame_window(pixels.shape))])
    together = made.segment(embedding, queries)
    assert [each.track for each in together] == list(range(1, 8))
    for query, answer, memory in zip(
        queries, together, made.encode_memory(embedding, together), strict=True
    ):
        (alone,) = made.segment(embedding, [query])
        np.testing.assert_allclose(alone.logits, answer.logits, atol=2e-3)
        torch.testing.assert_close(
            made.encode_memory(embedding, [alone])[0].tokens, memory.tokens, atol=2e-2, rtol=2e-2
        )
