"""Local attention: where regions lie, that values keep their positions, and when none is used."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from napari_sam2.core.errors import ModelError
from napari_sam2.core.inference_options import Attention
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.cropping import Corners
from napari_sam2.models.load import load_model
from napari_sam2.models.local_attention import LocalRegions, TokenRegion, resample_region
from napari_sam2.models.memory_payload import MemoryPayload
from napari_sam2.models.network.sam2_network import MemoryInputs, TokenSelection
from napari_sam2.models.predictor import Sam2Predictor
from tests.models.networks import make_model

SIZE, GRID = 256, 16
WHOLE = Window.full_frame((SIZE, SIZE), SIZE)
LARGE = Window.full_frame(
    (512, 1024), 1024
)  # 64 tokens of 16 input pixels, which are 8 × 16 pixels of the frame
TOLERANCE = 1e-4


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        pytest.param(
            ((200.0, 500.0), (220.0, 530.0)),
            TokenRegion(20, 24, 16),
            id="small object in the middle",
        ),
        pytest.param(
            ((201.0, 503.0), (221.0, 534.0)), TokenRegion(20, 24, 16), id="moved a little"
        ),
        pytest.param(((0.0, 1000.0), (10.0, 1024.0)), TokenRegion(0, 48, 16), id="in a corner"),
        pytest.param(((200.0, 400.0), (280.0, 560.0)), TokenRegion(18, 18, 24), id="larger object"),
        pytest.param(
            ((200.0, 100.0), (220.0, 500.0)),
            TokenRegion(0, 0, 64),
            id="whole grid",
        ),
    ],
)
def test_a_region_lies_around_its_object(corners: Corners, expected: TokenRegion) -> None:
    region = LocalRegions().make_region(corners, LARGE)
    assert TokenRegion.of(region, LARGE) == expected
    assert (region == LARGE) == (expected.side == 64)
    assert (region.top, region.left, region.height, region.width) == (
        expected.top * 8,
        expected.left * 16,
        expected.side * 8,
        expected.side * 16,
    )


@pytest.mark.parametrize(("top", "left", "shared"), [(4, 4, 64), (6, 3, 42), (0, 12, 0)])
def test_a_plane_is_cut_and_filled_not_resampled(top: int, left: int, shared: int) -> None:
    plane = torch.arange(1, 32 * 32 + 1).view(32, 32).float()
    source, target = (
        TokenRegion(4, 4, 8).to_window(WHOLE),
        TokenRegion(top, left, 8 if top < 12 and left < 12 else 4).to_window(WHOLE),
    )
    found = resample_region(plane, source, target, WHOLE, fill=-10.0)
    assert int((found != -10).sum()) == shared * 16
    over = torch.full((64, 64), -10.0)
    over[16:48, 16:48] = plane
    torch.testing.assert_close(
        found, TokenRegion.of(target, WHOLE).cut_features(over, GRID), rtol=0, atol=0
    )


@pytest.fixture(scope="module")
def model() -> Sam2Predictor:
    return make_model(size=SIZE)


@pytest.fixture(scope="module")
def local_model(model: Sam2Predictor) -> Sam2Predictor:
    other = Sam2Predictor(model.network, replace(model.card, attention="local"))
    other.regions = LocalRegions(min_tokens=8, margin_tokens=1.0)
    return other


@pytest.fixture(scope="module")
def embeddings(model: Sam2Predictor) -> list[Embedding]:
    frames = [
        Frame(index, np.random.default_rng(index).random((SIZE, SIZE), dtype=np.float32))
        for index in range(2)
    ]
    return model.embed([(frame, WHOLE) for frame in frames])


def _make_disc(y: float, x: float) -> FramePrompts:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return FramePrompts(mask=(rows - y) ** 2 + (columns - x) ** 2 < 12**2)


def _make_reference(
    model: Sam2Predictor, embedding: Embedding, prompts: FramePrompts, *, present: bool = True
) -> MemoryReference:
    (segment,) = model.segment(embedding, [Query(1, prompts)])
    if not present:
        segment = replace(segment, presence_score=-5.0)
    (features,) = model.encode_memory(embedding, [segment])
    return MemoryReference(
        Memory(embedding.frame, True, segment.pointer, present, features=features), 0, 1
    )


@torch.inference_mode()
def test_selecting_all_tokens_is_the_whole_grid(
    model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    network, features, count = model.network, embeddings[0].features, 3
    generator = torch.Generator().manual_seed(0)
    memory, pointers = (
        torch.randn(1, count, GRID**2, 64, generator=generator),
        torch.randn(1, 2, network.configuration.hidden, generator=generator),
    )
    slots, ages = torch.tensor([[0, 1, 2]]), torch.tensor([[0.2, 0.4]])
    every = torch.arange(GRID**2)
    whole = network.condition_on_memory(features[2], MemoryInputs(memory, slots, pointers, ages))
    order = torch.randperm(
        count * GRID**2, generator=generator
    )  # memory tokens have positions, so their order does not matter
    cells = every.repeat(count)[order][None, :, None]
    tokens, each = (
        memory.flatten(1, 2)[:, order, None],
        slots.repeat_interleave(GRID**2, dim=1)[:, order],
    )
    selection = TokenSelection(every[None], GRID)
    same = network.condition_on_memory(
        features[2], MemoryInputs(tokens, each, pointers, ages, cells), selection
    )
    torch.testing.assert_close(same, whole, rtol=0, atol=TOLERANCE)
    points, labels = torch.tensor([[[0.3, 0.4]]]), torch.ones(1, 1, dtype=torch.long)
    masks = [
        network.decode(features, whole, points, labels, selection=each).masks
        for each in (None, selection)
    ]
    torch.testing.assert_close(masks[1], masks[0], rtol=0, atol=TOLERANCE)


@torch.inference_mode()
def test_a_region_keeps_its_position_on_the_grid(
    model: Sam2Predictor, local_model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    """The same tokens and memories elsewhere on the grid give another answer."""
    region = TokenRegion(4, 8, 8)
    fine, middle, coarse = local_model.get_features(embeddings[0], [region.to_window(WHOLE)])
    for level, stride in ((fine, 4), (middle, 2), (coarse, 1)):
        assert level.shape[-1] == 8 * stride
    torch.testing.assert_close(
        coarse[0], embeddings[0].features[2][0, :, 4:12, 8:16], rtol=0, atol=0
    )
    whole = model.network.get_position_encodings(GRID, torch.device("cpu"))
    part = whole.select(region.token_indices(GRID)[None])
    torch.testing.assert_close(part.decoder[0], whole.decoder[0, :, 4:12, 8:16], rtol=0, atol=0)
    torch.testing.assert_close(part.rotation[0, 9], whole.rotation[5 * GRID + 9], rtol=0, atol=0)


def _segment_one(local_model: Sam2Predictor, embeddings: list[Embedding], query: Query) -> Segment:
    (segment,) = local_model.segment(embeddings[1], [query])
    cells = TokenRegion.of(segment.window, WHOLE)
    assert segment.logits.shape == (cells.side * 4, cells.side * 4)
    return segment


def test_the_whole_grid_is_read_if_a_region_is_not_enough(
    local_model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    small, lost = (
        _make_reference(local_model, embeddings[0], _make_disc(70, 180)),
        _make_reference(local_model, embeddings[0], _make_disc(70, 180), present=False),
    )
    large = _make_reference(
        local_model, embeddings[0], FramePrompts(mask=np.ones((SIZE, SIZE), dtype=bool))
    )
    click = FramePrompts(points=((70.0, 180.0),), positive=(True,))
    propagated = _segment_one(local_model, embeddings, Query(1, memory_references=(small,)))
    assert TokenRegion.of(propagated.window, WHOLE) == TokenRegion(0, 8, 8)
    cases = {
        "lost": Query(1, memory_references=(lost,)),
        "large": Query(1, memory_references=(large,)),
        "clicked": Query(1, click),
        "clicked again": Query(1, click, (small,)),
    }
    for name, query in cases.items():
        assert _segment_one(local_model, embeddings, query).window == WHOLE, name
    inside = Query(1, click, (small,), propagated.logits.clip(-32, 32), propagated.window)
    assert _segment_one(local_model, embeddings, inside).window == propagated.window
    outside = replace(inside, prompts=FramePrompts(points=((200.0, 20.0),), positive=(False,)))
    assert _segment_one(local_model, embeddings, outside).window == WHOLE


def test_the_memory_of_a_small_object_is_its_surroundings(
    local_model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    for prompts, cells in (
        (_make_disc(70, 180), 8**2),
        (_make_disc(200, 20), 8**2),
        (FramePrompts(mask=np.ones((SIZE, SIZE), dtype=bool)), GRID**2),
    ):
        payload = _make_reference(local_model, embeddings[0], prompts).memory.features
        assert isinstance(payload, MemoryPayload) and payload.tokens.shape == (cells, 64)


def test_tracks_of_all_kinds_together_are_as_each_alone(
    local_model: Sam2Predictor, model: Sam2Predictor, embeddings: list[Embedding]
) -> None:
    """Several regions, a memory of the whole grid, an absent object, and a click."""
    first = embeddings[0]
    references = [
        _make_reference(local_model, first, _make_disc(70, 180)),
        _make_reference(local_model, first, _make_disc(200, 40)),
        _make_reference(local_model, first, _make_disc(9, 9), present=False),
    ]
    whole = _make_reference(model, first, _make_disc(120, 120))
    both = (
        references[0],
        replace(whole, slot=2, age=2, memory=replace(whole.memory, frame=-1, conditioning=False)),
    )
    queries = [
        Query(1, memory_references=(references[0],)),
        Query(2, FramePrompts(points=((9.0, 9.0),), positive=(True,))),
        Query(3, memory_references=both),
    ]
    queries += [
        Query(4 + index, memory_references=(reference,))
        for index, reference in enumerate(references[1:])
    ]
    for query, together in zip(queries, local_model.segment(embeddings[1], queries), strict=True):
        (alone,) = local_model.segment(embeddings[1], [query])
        assert together.window == alone.window
        np.testing.assert_allclose(together.logits, alone.logits, rtol=0, atol=TOLERANCE)


def test_a_model_that_crops_objects_ignores_the_attention() -> None:
    """Its results are the same and resumable with any attention."""
    assert {
        load_model("nano", device="cpu", attention=each).card.attention
        for each in get_args(Attention)
    } == {"global"}


def test_an_unknown_attention_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'far'.*expected one of"):
        load_model("nano", device="cpu", attention="far")  # type: ignore[arg-type]
