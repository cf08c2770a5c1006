"""The toy model: its masks, what they depend on, and its recorded calls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_sam2.core.errors import ModelError
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.sam2_constants import ABSENT_LOGIT
from napari_sam2.core.stack import Frame
from napari_sam2.core.track import Presence
from napari_sam2.core.window import Window
from napari_sam2.testing.toy import ShownMemory, ToyModel

SHAPE = (32, 32)
WHOLE = Window.full_frame(SHAPE, 32)
LEFT, RIGHT = np.s_[8:16, 4:12], np.s_[8:16, 12:20]  # two squares that touch


def picture(**levels: float) -> np.ndarray:
    pixels = np.zeros(SHAPE, dtype=np.float32)
    pixels[LEFT], pixels[RIGHT] = levels.get("left", 0.8), levels.get("right", 1.0)
    return pixels


def mask_of(*places: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    for place in places:
        mask[place] = True
    return mask


def embedded(pixels: np.ndarray, frame: int = 5, model: ToyModel | None = None) -> Embedding:
    return (model or ToyModel()).embed([(Frame(frame, pixels), WHOLE)])[0]


def asked(query: Query, pixels: np.ndarray | None = None) -> Segment:
    return ToyModel().segment(embedded(picture() if pixels is None else pixels), [query])[0]


def memory(
    mask: np.ndarray, *, frame: int = 4, level: float = 0.8, conditioning: bool = False
) -> Memory:
    pointer = np.array([level, mask.sum(), 0, 0], dtype=np.float32)
    return Memory(
        frame, conditioning, pointer, features=(np.where(mask, 10, -10).astype(np.float32),)
    )


def click(*yx: tuple[float, float], positive: tuple[bool, ...] | None = None) -> FramePrompts:
    return FramePrompts(points=yx, positive=positive or (True,) * len(yx))


HALF = mask_of(np.s_[8:12, 4:12])

ANSWERS = {
    "click on one of two that touch": (Query(1, click((10, 6))), mask_of(LEFT)),
    "click on background": (Query(1, click((25, 25))), mask_of()),
    "click beside the frame's edge": (Query(1, click((-0.4, 31.4))), mask_of()),
    "clicks on both": (Query(1, click((10, 6), (10, 15))), mask_of(LEFT, RIGHT)),
    "negative click carves": (Query(1, click((9, 8), (14, 8), positive=(True, False))), HALF),
    "negative click alone": (Query(1, click((9, 8), positive=(False,))), mask_of()),
    "negative click on a neighbour": (
        Query(1, click((9, 8), (10, 15), positive=(True, False))),
        mask_of(LEFT),
    ),
    "box around one": (Query(1, FramePrompts(box=(8, 4, 15, 11))), mask_of(LEFT)),
    "box that takes in some of the neighbour": (
        Query(1, FramePrompts(box=(7, 3, 17, 14))),
        mask_of(LEFT),
    ),
    "box on background": (Query(1, FramePrompts(box=(20, 20, 30, 30))), mask_of()),
    "mask that follows nothing in the image": (
        Query(1, FramePrompts(mask=mask_of(np.s_[20:30, 3:9]))),
        mask_of(np.s_[20:30, 3:9]),
    ),
}


@pytest.mark.parametrize(("query", "expected"), ANSWERS.values(), ids=ANSWERS.keys())
def test_prompt_gives_the_mask(query: Query, expected: np.ndarray) -> None:
    segment = asked(query)
    np.testing.assert_array_equal(segment.logits > 0, expected)
    assert segment.presence is Presence.PROMPTED
    assert segment.present == bool(expected.any())


NEAR, FAR, MISSED = mask_of(LEFT), mask_of(RIGHT), mask_of(np.s_[24:28, 24:28])

RECALLS = {
    "follows its grey value": ((MemoryReference(memory(NEAR), 1, 1),), mask_of(LEFT)),
    "takes the neighbour along without a pointer": (
        (MemoryReference(memory(NEAR), 1, None),),
        mask_of(LEFT, RIGHT),
    ),
    "has no place without a mask": ((MemoryReference(memory(NEAR), None, 1),), mask_of()),
    "is absent where nothing overlaps": ((MemoryReference(memory(MISSED), 1, 1),), mask_of()),
    "is absent where its grey value is gone": (
        (MemoryReference(memory(NEAR, level=0.9), 1, 1),),
        mask_of(),
    ),
    "trusts the nearest slot": (
        (
            MemoryReference(memory(NEAR, frame=3), 2, 2),
            MemoryReference(memory(FAR, level=1.0), 1, 1),
        ),
        mask_of(RIGHT),
    ),
    "goes elsewhere when the slots are exchanged": (
        (
            MemoryReference(memory(NEAR, frame=3), 1, 1),
            MemoryReference(memory(FAR, level=1.0), 2, 2),
        ),
        mask_of(LEFT),
    ),
    "falls back on an older one": (
        (MemoryReference(memory(NEAR, frame=1), 4, 4), MemoryReference(memory(MISSED), 1, 1)),
        mask_of(LEFT),
    ),
    "takes a conditioning frame for as far as it is": (
        (
            MemoryReference(memory(NEAR, frame=0, conditioning=True), 0, 5),
            MemoryReference(memory(FAR, level=1.0), 1, 1),
        ),
        mask_of(RIGHT),
    ),
}


@pytest.mark.parametrize(("recalls", "expected"), RECALLS.values(), ids=RECALLS.keys())
def test_tracked_object(recalls: tuple[MemoryReference, ...], expected: np.ndarray) -> None:
    segment = asked(Query(1, memory_references=recalls))
    np.testing.assert_array_equal(segment.logits > 0, expected)
    assert segment.presence is (Presence.TRACKED if expected.any() else Presence.ABSENT)


def test_absent_object_has_absent_logits() -> None:
    segment = asked(Query(1, memory_references=(MemoryReference(memory(MISSED), 1, 1),)))
    assert (segment.logits == ABSENT_LOGIT).all()
    assert not segment.present and segment.iou == 0


LOGITS = np.where(HALF, 5.0, -5.0).astype(np.float32)
WITH_MEMORY = (MemoryReference(memory(NEAR, conditioning=True), 0, 1),)

CORRECTIONS = {
    "adds to the previous answer": (
        Query(1, click((10, 15)), logits=LOGITS),
        HALF | mask_of(RIGHT),
    ),
    "adds to the memory where no answer is given": (
        Query(1, click((10, 15)), WITH_MEMORY),
        mask_of(LEFT, RIGHT),
    ),
    "takes from the previous answer": (
        Query(1, click((10, 8), positive=(False,)), WITH_MEMORY, LOGITS),
        mask_of(),
    ),
    "prefers the previous answer to the memory": (
        Query(1, click((10, 15)), WITH_MEMORY, LOGITS),
        HALF | mask_of(RIGHT),
    ),
    "knows nothing but the click without both": (Query(1, click((10, 15))), mask_of(RIGHT)),
}


@pytest.mark.parametrize(("query", "expected"), CORRECTIONS.values(), ids=CORRECTIONS.keys())
def test_correction(query: Query, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(asked(query).logits > 0, expected)


def test_predicted_iou_depends_on_the_query() -> None:
    queries = {
        "click": Query(1, click((10, 6))),
        "click, logits": Query(1, click((10, 6)), logits=LOGITS),
        "click, logits, conditioning": Query(1, click((10, 6)), WITH_MEMORY, LOGITS),
        "tracked, 1 back": Query(1, memory_references=(MemoryReference(memory(NEAR), 1, 1),)),
        "tracked, 4 back": Query(
            1, memory_references=(MemoryReference(memory(NEAR, frame=1), 4, 4),)
        ),
        "tracked, conditioned": Query(1, memory_references=WITH_MEMORY),
    }
    found = {name: round(asked(query).iou, 3) for name, query in queries.items()}
    assert found == {
        "click": 0.94,
        "click, logits": 0.96,
        "click, logits, conditioning": 0.98,
        "tracked, 1 back": 0.89,
        "tracked, 4 back": 0.86,
        "tracked, conditioned": 0.91,
    }


def test_logits_are_strongest_at_the_click() -> None:
    logits = asked(Query(1, click((10, 6)))).logits
    assert np.unravel_index(logits.argmax(), logits.shape) == (10, 6)
    assert len(np.unique(logits[LEFT])) > 10


def test_memory_is_binary_if_conditioning_and_soft_if_tracked() -> None:
    model = ToyModel()
    embedding = embedded(picture(), model=model)
    (segment,) = model.segment(embedding, [Query(1, click((10, 6)))])
    (hard,), (soft,) = model.encode_memory(
        embedding, [segment, replace(segment, presence=Presence.TRACKED)]
    )
    assert set(np.unique(hard)) == {-10, 10}
    assert soft.min() > -10 and soft.max() < 10
    np.testing.assert_array_equal(soft > 0, hard > 0)


def test_single_click_offers_the_connected_bright_region_as_an_alternative() -> None:
    first, second = asked(Query(1, click((10, 6)))).alternatives
    np.testing.assert_array_equal(first.logits > 0, mask_of(LEFT))
    np.testing.assert_array_equal(second.logits > 0, mask_of(LEFT, RIGHT))
    assert first.iou > second.iou


def test_features_survive_half_precision() -> None:
    model = ToyModel()
    features = embedded(
        np.linspace(0, 1, 1024, dtype=np.float32).reshape(SHAPE), model=model
    ).features
    back = model.from_arrays(
        [each.astype(np.float16).astype(np.float32) for each in model.to_arrays(features)]
    )
    np.testing.assert_array_equal(back[0], features[0])


@pytest.mark.parametrize(
    "window",
    [Window(4, 0, 16, 24, 64), Window(-4, -4, 40, 40, 128), Window.full_frame(SHAPE, 96)],
    ids=str,
)
def test_click_in_any_window_gives_the_object(window: Window) -> None:
    model = ToyModel()
    (embedding,) = model.embed([(Frame(0, picture()), window)])
    (segment,) = model.segment(embedding, [Query(1, click((10, 6)))])
    found = window.paste(segment.logits, slice(4, 20), slice(0, 24)) > 0
    np.testing.assert_array_equal(found, mask_of(LEFT)[4:20, 0:24])


def test_stride_makes_logits_coarser() -> None:
    model = ToyModel(stride=4)
    (embedding,) = model.embed([(Frame(0, picture()), WHOLE)])
    (segment,) = model.segment(embedding, [Query(1, click((10, 6)))])
    assert segment.logits.shape == (8, 8)
    np.testing.assert_array_equal(np.argwhere(segment.logits > 0), [[2, 1], [2, 2], [3, 1], [3, 2]])


def test_calls_are_recorded() -> None:
    model = ToyModel()
    views = [(Frame(index, picture()), WHOLE) for index in (4, 5)]
    _, embedding = model.embed(views)
    segments = model.segment(
        embedding,
        [Query(1, memory_references=WITH_MEMORY), Query(7, click((10, 6)), logits=40 * LOGITS)],
    )
    model.encode_memory(embedding, segments)
    embed, segment, memory = model.calls
    assert (embed.kind, embed.frames, model.embedded_frames) == ("embed", (4, 5), [4, 5])
    assert (segment.kind, segment.frame, segment.tracks, segment.max_logits) == (
        "segment",
        5,
        (1, 7),
        (None, 200.0),
    )
    assert segment.shown_memories == ((ShownMemory(4, 0, 1, True),), ())
    assert (memory.kind, memory.frame, memory.tracks, memory.conditioning) == (
        "encode_memory",
        5,
        (1, 7),
        (False, True),
    )
    assert (model.get_segmented_frames(7), model.get_segmented_frames(2)) == ([5], [])


def test_other_settings_give_another_hash() -> None:
    assert (
        len(
            {
                ToyModel().card.sha256,
                ToyModel(stride=2).card.sha256,
                ToyModel(tolerance=0.1).card.sha256,
            }
        )
        == 3
    )
    assert ToyModel().card == ToyModel().card


FORGOTTEN = memory(NEAR).without_features()
SMALL = memory(np.ones((4, 4), dtype=bool))

REFUSED = {
    "nothing said and nothing recalled": (Query(3), "neither a prompt nor a memory"),
    "a mask shown without its features": (
        Query(3, memory_references=(MemoryReference(FORGOTTEN, 1, 1),)),
        "has no features",
    ),
    "a memory of another grid": (
        Query(3, memory_references=(MemoryReference(SMALL, 1, 1),)),
        r"\(4, 4\)",
    ),
    "logits of another grid": (
        Query(3, click((1, 1)), logits=np.zeros((8, 8), dtype=np.float32)),
        r"\(8, 8\)",
    ),
}


@pytest.mark.parametrize(("query", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_query_is_refused(query: Query, text: str) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        asked(query)
    assert caught.value.track == 3


def test_memory_is_not_encoded_with_another_frame() -> None:
    model = ToyModel()
    (segment,) = model.segment(embedded(picture()), [Query(1, click((10, 6)))])
    with pytest.raises(ModelError, match="the embedding it came from"):
        model.encode_memory(embedded(picture(), frame=6), [segment])
