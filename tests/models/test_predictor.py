"""SAM 2 as a VideoModel: batches, prompts, rules and errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.sam2_constants import ABSENT_LOGIT
from napari_sam2.core.stack import Frame
from napari_sam2.core.track import Presence
from napari_sam2.models import predictor
from napari_sam2.models.answers import UNCERTAIN_IOU
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.query_batch import resample_mask
from napari_sam2.testing.contracts import ModelContract
from tests.models.networks import VARIANTS, make_model

SIZE = 64
# Of logits of up to 40: sums in another order.
TOLERANCE = 1e-4

CLICK = FramePrompts(points=((20.0, 30.0),), positive=(True,))
CLICKS = FramePrompts(points=((20.0, 30.0), (50.0, 9.0)), positive=(True, False))
BOX = FramePrompts(box=(10.0, 10.0, 40.0, 44.0))
BOX_AND_CLICK = FramePrompts(
    points=((20.0, 30.0),), positive=(False,), box=(10.0, 10.0, 40.0, 44.0)
)


def _make_disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 < radius**2)


@pytest.fixture(scope="module")
def model() -> Sam2Predictor:
    return make_model(size=SIZE)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [
        Frame(index, np.random.default_rng(index).random((SIZE, SIZE), dtype=np.float32))
        for index in range(3)
    ]


@pytest.fixture(scope="module")
def embeddings(model: Sam2Predictor, frames: list[Frame]) -> list[Embedding]:
    return model.embed([(frame, model.card.make_frame_window(frame.shape)) for frame in frames])


def _make_reference(
    model: Sam2Predictor,
    embedding: Embedding,
    prompts: FramePrompts,
    slot: int | None = 0,
    age: int | None = 1,
) -> MemoryReference:
    (segment,) = model.segment(embedding, [Query(1, prompts)])
    (features,) = model.encode_memory(embedding, [segment])
    return MemoryReference(
        Memory(embedding.frame, True, segment.pointer, features=features), slot, age
    )


def _make_mixed_queries(model: Sam2Predictor, embedding: Embedding) -> list[Query]:
    """Twenty queries of every kind, shuffled."""
    references = [_make_reference(model, embedding, prompts) for prompts in (CLICK, BOX, CLICKS)]
    logits = np.random.default_rng(0).normal(size=(SIZE // 4, SIZE // 4)).astype(np.float32) * 50
    kinds = [
        Query(1, CLICK),
        Query(1, memory_references=(references[0],)),
        Query(1, BOX),
        Query(1, memory_references=(references[1], replace(references[0], slot=1))),
        Query(1, CLICKS, logits=logits),
        Query(1, FramePrompts(mask=_make_disc(30, 30, 12))),
        Query(1, BOX_AND_CLICK),
        Query(1, memory_references=(replace(references[2], age=None),)),
        Query(1, CLICKS, (references[1],), logits),
        Query(
            1,
            memory_references=(references[2], replace(references[0], slot=None, age=9)),
            video_length=12,
        ),
    ]
    return [
        replace(kinds[index % 10], track=index + 1)
        for index in np.random.default_rng(1).permutation(20)
    ]


def _check_equal(one: Segment, other: Segment) -> None:
    assert (one.track, one.presence, len(one.alternatives)) == (
        other.track,
        other.presence,
        len(other.alternatives),
    )
    np.testing.assert_allclose(one.logits, other.logits, atol=TOLERANCE)
    np.testing.assert_allclose(one.pointer, other.pointer, atol=TOLERANCE)
    assert (one.iou, one.presence_score) == pytest.approx(
        (other.iou, other.presence_score), abs=TOLERANCE
    )


@pytest.mark.parametrize("tokens", [1, 100, 10_000])
def test_tracks_in_batches_are_as_one_at_a_time(
    model: Sam2Predictor, embeddings: list[Embedding], tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any size of the batches."""
    queries = _make_mixed_queries(model, embeddings[0])
    alone = [model.segment(embeddings[1], [query])[0] for query in queries]
    memories = [model.encode_memory(embeddings[1], [segment])[0][0] for segment in alone]
    monkeypatch.setitem(predictor._BATCH_TOKENS, "cpu", tokens)
    together = model.segment(embeddings[1], queries)
    for one, other in zip(together, alone, strict=True):
        _check_equal(one, other)
    for (one, *_), other in zip(
        model.encode_memory(embeddings[1], together), memories, strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-2)  # bfloat16


def test_frames_in_batches_are_as_one_at_a_time(
    model: Sam2Predictor, frames: list[Frame], embeddings: list[Embedding]
) -> None:
    for frame, embedding in zip(frames, embeddings, strict=True):
        (alone,) = model.embed([(frame, embedding.window)])
        for one, other in zip(alone.features, embedding.features, strict=True):
            torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("prompts", "offered"),
    [(CLICK, 3), (CLICKS, 0), (BOX, 0), (BOX_AND_CLICK, 0)],
    ids=["one click", "two clicks", "box", "box and click"],
)
def test_three_masks_are_offered_for_one_click(
    model: Sam2Predictor, embeddings: list[Embedding], prompts: FramePrompts, offered: int
) -> None:
    (segment,) = model.segment(embeddings[0], [Query(1, prompts)])
    assert len(segment.alternatives) == offered
    if offered:
        ious = [each.iou for each in segment.alternatives]
        assert ious == sorted(ious, reverse=True) and segment.iou == ious[0]
        np.testing.assert_array_equal(segment.logits, segment.alternatives[0].logits)


def test_a_box_differs_from_two_clicks(model: Sam2Predictor, embeddings: list[Embedding]) -> None:
    corners = FramePrompts(points=(BOX.box[:2], BOX.box[2:]), positive=(True, True))  # type: ignore[index]
    box, clicks = model.segment(embeddings[0], [Query(1, BOX), Query(2, corners)])
    assert np.abs(box.logits - clicks.logits).max() > 0.01


def test_previous_logits_are_clamped_to_32(
    model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    logits = np.random.default_rng(0).normal(size=(SIZE // 4, SIZE // 4)).astype(np.float32) * 100
    queries = [
        Query(1, CLICKS, logits=each) for each in (logits, logits.clip(-32, 32), logits.clip(-8, 8))
    ]
    given, clamped, other = (
        model.segment(embeddings[0], [query])[0] for query in queries
    )  # one query at a time, because threads split batches differently
    np.testing.assert_array_equal(given.logits, clamped.logits)
    assert np.abs(given.logits - other.logits).max() > 0.01


def test_a_mask_is_its_own_answer(model: Sam2Predictor, embeddings: list[Embedding]) -> None:
    mask = _make_disc(30, 30, 12)
    segment, other = model.segment(
        embeddings[0],
        [Query(1, FramePrompts(mask=mask)), Query(2, FramePrompts(mask=_make_disc(10, 50, 6)))],
    )
    painted = segment.window.paste(segment.logits, slice(0, SIZE), slice(0, SIZE)) > 0
    assert (painted & mask).sum() / (painted | mask).sum() > 0.9
    assert (segment.iou, segment.presence, segment.presence_score) == (1.0, Presence.PROMPTED, 10.0)
    assert np.abs(segment.pointer - other.pointer).max() > 0.01


def test_a_mask_thinner_than_the_input_does_not_vanish(model: Sam2Predictor) -> None:
    pixels = np.random.default_rng(0).random((640, 640), dtype=np.float32)
    mask = np.zeros((640, 640), dtype=bool)
    mask[300:303, 200:203] = True
    (embedding,) = model.embed([(Frame(0, pixels), model.card.make_frame_window(pixels.shape))])
    assert resample_mask(FramePrompts(mask=mask), embedding.window).sum() >= 1
    (segment,) = model.segment(embedding, [Query(1, FramePrompts(mask=mask))])
    assert segment.present


@pytest.mark.parametrize("presence", [Presence.PROMPTED, Presence.LOCKED])
def test_conditioning_masks_enter_memory_binarised(
    model: Sam2Predictor, embeddings: list[Embedding], presence: Presence
) -> None:
    (segment,) = model.segment(embeddings[0], [Query(1, CLICK)])
    faint = replace(segment, logits=np.sign(segment.logits) * 0.01, presence=presence)
    conditioning, tracked = (
        model.encode_memory(
            embeddings[0],
            [
                replace(faint, presence=each),
                replace(segment, logits=faint.logits * 1000, presence=each),
            ],
        )
        for each in (presence, Presence.TRACKED)
    )
    torch.testing.assert_close(conditioning[0][0], conditioning[1][0])
    assert (tracked[0][0] - tracked[1][0]).abs().max() > 0.05


@pytest.mark.parametrize(("variant", "differs"), [("2.1", True), ("2.0", False)])
def test_absence_marks_the_memory_in_sam_2_1_only(
    embeddings: list[Embedding], variant: str, differs: bool
) -> None:
    model = make_model(VARIANTS[variant], size=SIZE)
    (segment,) = model.segment(embeddings[0], [Query(1, CLICK)])
    one, other = model.encode_memory(
        embeddings[0], [replace(segment, presence_score=score) for score in (5.0, -5.0)]
    )
    assert bool((one[0] - other[0]).abs().max() > 0.05) == differs


def test_an_absent_object_has_no_mask_and_the_absent_pointer(embeddings: list[Embedding]) -> None:
    model = make_model(size=SIZE, presence=-40.0)
    reference = _make_reference(model, embeddings[0], CLICK)
    for query, presence in (
        (Query(1, CLICK), Presence.PROMPTED),
        (Query(1, memory_references=(reference,)), Presence.ABSENT),
    ):
        (segment,) = model.segment(embeddings[0], [query])
        assert segment.presence is presence and not segment.present and segment.alternatives == ()
        assert (segment.logits == ABSENT_LOGIT).all()
        np.testing.assert_allclose(
            segment.pointer, model.network.no_object_pointer[0].detach().numpy()
        )


@pytest.mark.parametrize(
    ("bias", "presence"), [(-9.0, Presence.UNCERTAIN), (9.0, Presence.TRACKED)]
)
def test_low_predicted_iou_is_uncertain(
    embeddings: list[Embedding], bias: float, presence: Presence
) -> None:
    model = make_model(size=SIZE)
    with torch.no_grad():
        model.network.mask_decoder.iou_prediction_head.proj_out.bias.fill_(bias)
    (segment,) = model.segment(
        embeddings[1], [Query(1, memory_references=(_make_reference(model, embeddings[0], CLICK),))]
    )
    assert segment.presence is presence and (segment.iou < UNCERTAIN_IOU) == (
        presence is Presence.UNCERTAIN
    )


def test_ages_are_relative_to_a_short_video(
    model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    reference = _make_reference(model, embeddings[0], CLICK, age=3)
    short, long, longer = model.segment(
        embeddings[1],
        [Query(1, memory_references=(reference,), video_length=length) for length in (6, 16, None)],
    )
    assert np.abs(short.logits - long.logits).max() > 1e-4
    np.testing.assert_array_equal(long.logits, longer.logits)


def test_a_query_without_prompts_and_memories_is_refused(
    model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    with pytest.raises(PromptError, match="track 7: the query has neither prompts nor memories"):
        model.segment(embeddings[0], [Query(7)])


def test_a_memory_without_features_is_refused(
    model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    reference = _make_reference(model, embeddings[0], CLICK)
    dropped = replace(reference, memory=reference.memory.without_features())
    with pytest.raises(
        PromptError,
        match="track 3: slot 0 refers to the memory of frame 0, whose features were dropped",
    ):
        model.segment(embeddings[1], [Query(3, memory_references=(dropped,))])
    assert (
        model.segment(embeddings[1], [Query(3, memory_references=(replace(dropped, slot=None),))])[
            0
        ].track
        == 3
    )


def test_bytes_of_features_are_those_of_their_numbers(
    model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    cells = (SIZE // 4) ** 2
    assert model.nbytes(embeddings[0].features) == 4 * cells * (16 + 32 / 4 + 128 / 16)
    (features,) = model.encode_memory(
        embeddings[0], model.segment(embeddings[0], [Query(1, CLICK)])
    )
    assert model.nbytes(features) == 2 * (SIZE // 16) ** 2 * 64


class TestContract(ModelContract):
    def make_model(self) -> Sam2Predictor:
        return make_model(size=128)
