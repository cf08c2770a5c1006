"""Tiles: their resolution and position for an object, and the model that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam2.core.errors import ModelError
from napari_sam2.core.inference_options import Attention
from napari_sam2.core.prompt import BoxPrompt, FramePrompts, PointPrompt
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame, Stack
from napari_sam2.core.window import Window
from napari_sam2.models.cropping import Corners
from napari_sam2.models.gpu_memory import BatchLimitedModel
from napari_sam2.models.load import load_model, reconfigure
from napari_sam2.models.local_attention import TokenRegion
from napari_sam2.models.memory_payload import MemoryPayload
from napari_sam2.models.network.sam2_network import STRIDE, Sam2Network
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.tile_grid import TileGrid, compute_pixel_ratio, is_within
from napari_sam2.models.tiled_model import TiledModel
from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.testing.contracts import ModelContract
from tests.models.networks import make_model, make_network

SHAPE = (2048, 1500)
TILES = TileGrid(SHAPE, Window.full_frame(SHAPE, 1024))


def _make_corners(y: float, x: float, width: float) -> Corners:
    return (y - width / 2, x - width / 2), (y + width / 2, x + width / 2)


@pytest.mark.parametrize(
    ("width", "pixel"),
    [(200, 2.0), (80, 2.0), (79, 1.0), (40, 1.0), (39, 0.5), (25, 0.5), (12, 0.25), (3, 0.25)],
    ids=lambda value: f"{value:g}",
)
def test_an_object_is_at_least_forty_input_pixels_wide_if_possible(
    width: float, pixel: float
) -> None:
    tile = TILES.choose_tile(_make_corners(1000, 700, width))
    assert compute_pixel_ratio(tile) == pixel
    assert (tile == TILES.whole) is (pixel == 2.0)


def test_a_large_object_uses_the_whole_frame() -> None:
    small = TileGrid((512, 512), Window.full_frame((512, 512), 1024))
    assert small.choose_tile(_make_corners(100, 100, 25)) == small.whole


def test_the_resolution_does_not_flicker_with_the_size() -> None:
    before = TILES.choose_tile(_make_corners(1000, 700, 41))
    assert compute_pixel_ratio(before) == 1.0
    assert compute_pixel_ratio(TILES.choose_tile(_make_corners(1000, 700, 39), before)) == 1.0
    assert compute_pixel_ratio(TILES.choose_tile(_make_corners(1000, 700, 20), before)) == 0.5


@pytest.mark.parametrize("pixel", [0.25, 0.5, 1.0])
def test_tiles_cover_the_frame_with_room_around_every_position(pixel: float) -> None:
    every = TILES.list_tiles(pixel)
    token = pixel * STRIDE
    assert all(each.top % token == 0 and each.left % token == 0 for each in every), "whole tokens"
    assert max(each.top + each.height for each in every) < SHAPE[0] + token, (
        "no further than needed"
    )
    rng = np.random.default_rng(0)
    room = 1024 * pixel / 8  # half of the overlap of neighbours
    for y, x in rng.uniform((0, 0), SHAPE, (200, 2)):
        tile = TILES.find_tile_at((y, x), pixel)
        assert tile in every
        for place, start, length in ((y, tile.top, SHAPE[0]), (x, tile.left, SHAPE[1])):
            assert (
                place - start >= min(room, place) - token
                and start + tile.height - place >= min(room, length - place) - token
            )


@pytest.mark.parametrize("pixel", [0.25, 0.5, 1.0])
def test_the_tile_of_a_region_contains_it(pixel: float) -> None:
    for tile in [*TILES.list_tiles(pixel)[::3], TILES.whole]:
        for cells in (
            TokenRegion(0, 0, 16),
            TokenRegion(12, 40, 16),
            TokenRegion(40, 40, 24),
            TokenRegion(0, 0, 64),
        ):
            region = cells.to_window(tile)
            found = TILES.find_tile_of(region)
            assert is_within(region, found)
            assert (
                TokenRegion.of(region, found).to_window(found) == pytest.approx(region)
                or found == region
            )


def test_the_pyramid_of_a_click_goes_from_fine_to_coarse() -> None:
    steps = TILES.make_tile_pyramid((1000.0, 700.0))
    assert [compute_pixel_ratio(each) for each in steps] == [0.25, 0.5, 1.0, 2.0]
    assert steps[-1] == TILES.whole


@lru_cache
def _make_weights() -> Sam2Network:
    return make_network(presence=20.0)


def _make_predictor(attention: Attention = "global", size: int = 128) -> Sam2Predictor:
    return Sam2Predictor(
        _make_weights(), replace(make_model().card, input_sizes=(size,), attention=attention)
    )


class TestTiledModel(ModelContract):
    """The contract of every model, with random weights."""

    tolerance = 2e-3

    def make_model(self) -> TiledModel:
        return TiledModel(_make_predictor())


class TestTiledModelWithLocalAttention(ModelContract):
    """The contract of every model, with regions of tiles."""

    tolerance = 2e-3

    def make_model(self) -> TiledModel:
        return TiledModel(_make_predictor("local"))


def _make_noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def _embed(model: TiledModel | Sam2Predictor, pixels: np.ndarray, frame: int = 0) -> Embedding:
    return model.embed([(Frame(frame, pixels), model.card.make_frame_window(pixels.shape))])[0]


def _make_reference(
    model: TiledModel | Sam2Predictor, embedding: Embedding, segment: Segment
) -> MemoryReference:
    (features,) = model.encode_memory(embedding, [segment])
    return MemoryReference(
        Memory(
            segment.frame, segment.conditioning, segment.pointer, segment.present, features=features
        ),
        0,
        1,
    )


def test_a_small_object_is_segmented_as_on_a_frame_of_its_tile() -> None:
    """A mask on a frame of 512 pixels and on its enlarged tile, then on the next frame."""
    model, alone = TiledModel(_make_predictor()), _make_predictor()
    frames = [_make_noise((512, 512), seed) for seed in range(2)]
    mask = np.zeros((512, 512), dtype=bool)
    mask[240:262, 250:272] = True
    tile = TileGrid((512, 512), model.card.make_frame_window((512, 512))).choose_tile(
        ((240.0, 250.0), (262.0, 272.0))
    )
    assert compute_pixel_ratio(tile) == 0.5
    answers = []
    enlarged = [tile.crop(frame) for frame in frames]
    for each, planes, prompt_kind in (
        (model, frames, mask),
        (alone, enlarged, tile.crop(mask.astype(np.float32)) >= 0.5),
    ):
        first, second = (_embed(each, plane, number) for number, plane in enumerate(planes))
        (prompted,) = each.segment(first, [Query(1, FramePrompts(mask=prompt_kind))])
        (carried,) = each.segment(
            second, [Query(1, memory_references=(_make_reference(each, first, prompted),))]
        )
        answers.append((prompted, carried))
    for one, other in zip(*answers, strict=True):
        assert one.window == tile
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-2)
        np.testing.assert_allclose(one.pointer, other.pointer, atol=1e-3)


def test_large_objects_are_segmented_as_without_tiles() -> None:
    model, alone = TiledModel(_make_predictor()), _make_predictor()
    for shape in ((96, 128), (400, 512)):
        frames = [_make_noise(shape, seed) for seed in range(2)]
        prompt_kind = FramePrompts(box=(10.0, 10.0, shape[0] - 10.0, shape[1] - 10.0))
        answers = []
        for each in (model, alone):
            first, second = (_embed(each, plane, number) for number, plane in enumerate(frames))
            (prompted,) = each.segment(first, [Query(1, prompt_kind)])
            (carried,) = each.segment(
                second, [Query(1, memory_references=(_make_reference(each, first, prompted),))]
            )
            answers.append([prompted, carried])
        for one, other in zip(*answers, strict=True):
            assert one.window == other.window == model.card.make_frame_window(shape)
            np.testing.assert_array_equal(one.logits, other.logits)


@pytest.mark.parametrize("attention", ["global", "local"])
def test_a_memory_keeps_its_position_on_the_frame_in_another_tile(attention: Attention) -> None:
    model = TiledModel(_make_predictor(attention, 512))
    tiles = TileGrid((2048, 2048), model.card.make_frame_window((2048, 2048)))
    one, other = tiles.find_tile_at((300.0, 300.0), 1.0), tiles.find_tile_at((300.0, 500.0), 1.0)
    assert one != other
    grid = 512 // STRIDE
    window = one if attention == "global" else TokenRegion(8, 16, 16).to_window(one)
    cells = TokenRegion.of(window, one)
    ys, xs = (axis.flatten() for axis in np.indices((cells.side, cells.side)))
    places = np.stack(
        [one.top + (cells.top + ys) * STRIDE, one.left + (cells.left + xs) * STRIDE], axis=1
    )
    tokens = np.repeat(places, 32, axis=1)  # the value of each token is its position
    corners = ((240.0, 380.0), (290.0, 430.0))
    payload = MemoryPayload(torch.from_numpy(tokens).float(), window, corners, None, window)
    brought = model.resample_reference(
        MemoryReference(Memory(0, True, np.zeros(1), features=payload), 0, 1), other
    ).memory.features
    now = TokenRegion.of(brought.window, other)
    assert is_within(brought.window, other) and (now.side == grid) is (attention == "global")
    found = brought.tokens.numpy().reshape(now.side, now.side, 64)
    for y in range(now.side):
        for x in range(now.side):
            where = (other.top + (now.top + y) * STRIDE, other.left + (now.left + x) * STRIDE)
            if (
                places[:, 0].min() <= where[0] <= places[:, 0].max()
                and places[:, 1].min() <= where[1] <= places[:, 1].max()
            ):
                np.testing.assert_allclose(found[y, x, [0, -1]], where, atol=0.1)


def _make_crossing_disc(frames: int = 14) -> tuple[Stack, list[tuple[float, float]]]:
    """A bright disc of 18 pixels that crosses a frame of 400 pixels, 6 pixels per frame."""
    rows, columns = np.indices((400, 400))
    rng, planes, places = np.random.default_rng(0), [], []
    for frame in range(frames):
        y, x = 150 + 2 * frame, 60 + 6 * frame
        disc = np.clip(9.5 - np.hypot(rows - y, columns - x), 0, 1)
        planes.append(disc + 0.05 * rng.standard_normal(disc.shape))
        places.append((float(y), float(x)))
    return Stack(np.array(planes, dtype=np.float32), "tyx"), places


@pytest.mark.parametrize("attention", ["global", "local", "auto"])
@pytest.mark.parametrize("prompt_kind", ["box", "click"])
def test_a_track_moves_from_tile_to_tile(attention: Attention, prompt_kind: str) -> None:
    """The trained weights of the embedded model on whole frames, as in SAM 2."""
    nano = load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    card = replace(nano.card, object_crops=False, input_sizes=(256,), attention=attention)
    stack, places = _make_crossing_disc()
    (y, x), rows = places[0], np.indices((400, 400))
    prompt = (
        BoxPrompt(0, 1, (y - 9, x - 9, y + 9, x + 9))
        if prompt_kind == "box"
        else PointPrompt(0, 1, [(y, x)], [True])
    )
    with Session(stack.as_video("t"), TiledModel(Sam2Predictor(nano.network, card))) as session:
        session.prompt(prompt)
        session.propagate(progress=False)
        tiles = {session.get_segments(frame)[0].window.left // 16 for frame in range(len(places))}
        for frame, (y, x) in enumerate(places):
            disc, found = (
                np.hypot(rows[0] - y, rows[1] - x) <= 9,
                session.compute_label_plane(frame) == 1,
            )
            assert (disc & found).sum() / (disc | found).sum() > 0.5, f"lost on frame {frame}"
    assert len(tiles) > 1, "more than one tile"


class RecordingPredictor(Sam2Predictor):
    """It records the windows that it encodes."""

    def __init__(self, attention: Attention = "global") -> None:
        model = _make_predictor(attention)
        super().__init__(model.network, model.card)
        self.encoded: list[tuple[int, Window]] = []

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        self.encoded += [(frame.index, window) for frame, window in views]
        return super().embed(views)


KEEPING = {
    "in memory": SessionSettings(),
    "in hardly any memory": SessionSettings(embedding_bytes=1),
    "on disk": SessionSettings(embedding_disk_bytes=8 * 2**30),
    "on disk, in hardly any memory": SessionSettings(
        embedding_disk_bytes=8 * 2**30, embedding_bytes=1
    ),
}


def _propagate_and_correct(
    inner: Sam2Predictor, folder: Path, how: str
) -> tuple[list[np.ndarray], int]:
    """Propagate two objects and correct one.

    Returns the final planes, and how many windows were encoded before the correction.
    """
    stack, places = _make_crossing_disc(5)
    with Session(
        stack.as_video("t"), TiledModel(inner), settings=replace(KEEPING[how], folder=folder)
    ) as session:
        for track, (y, x) in enumerate((places[0], (300.0, 300.0)), start=1):
            session.prompt(BoxPrompt(0, track, (y - 9, x - 9, y + 9, x + 9)))
        session.propagate(progress=False)
        before = len(inner.encoded) if isinstance(inner, RecordingPredictor) else 0
        (y, x) = places[2]
        session.prompt(BoxPrompt(2, 1, (y - 8, x - 9, y + 9, x + 10)))
        session.propagate(progress=False)
        return [session.compute_label_plane(frame) for frame in range(5)], before


@pytest.mark.parametrize("attention", ["global", "auto"])
def test_a_correction_encodes_no_tile_again_with_any_cache(
    attention: Attention, tmp_path: Path
) -> None:
    planes = {}
    for how in KEEPING:
        inner = RecordingPredictor(attention)
        (tmp_path / how).mkdir()
        planes[how], before = _propagate_and_correct(inner, tmp_path / how, how)
        again = len(inner.encoded) - len(set(inner.encoded))
        assert before > 5 and (again == 0) is (how != "in hardly any memory"), (
            f"{how}: {again} of {len(inner.encoded)} encoded again"
        )
    for how in KEEPING:
        np.testing.assert_array_equal(planes["in memory"], planes[how], err_msg=how)


def test_a_reopened_session_gives_the_same(tmp_path: Path) -> None:
    """Pixels and the features of tiles are read from disk; nothing is encoded."""
    planes = []
    for _ in range(2):
        inner = RecordingPredictor("auto")
        planes.append(_propagate_and_correct(inner, tmp_path, "on disk")[0])
        (tmp_path / "trail.sqlite").unlink()
    np.testing.assert_array_equal(planes[0], planes[1])
    assert inner.encoded == []


def test_without_a_session_the_embedding_of_a_frame_keeps_its_tiles() -> None:
    inner = RecordingPredictor()
    model = TiledModel(inner)
    embedding = _embed(model, _make_noise((512, 512)))
    for _ in range(2):
        model.encode_memory(
            embedding,
            model.segment(embedding, [Query(1, FramePrompts(box=(240.0, 250.0, 262.0, 272.0)))]),
        )
    assert len(inner.encoded) == 1
    model.segment(
        replace(embedding, get_or_make_part=None),
        [Query(1, FramePrompts(box=(240.0, 250.0, 262.0, 272.0)))],
    )
    assert len(inner.encoded) == 2


def test_a_batch_limited_model_passes_tiles_on(tmp_path: Path) -> None:
    """It wraps models on a GPU."""
    inner = RecordingPredictor()
    stack, places = _make_crossing_disc(3)
    for _ in range(2):
        model = BatchLimitedModel(TiledModel(inner))
        with Session(
            stack.as_video("t"),
            model,
            settings=SessionSettings(folder=tmp_path, embedding_disk_bytes=8 * 2**30),
        ) as session:
            session.prompt(PointPrompt(0, 1, [places[0]], [True]))
            session.propagate(progress=False)
        (tmp_path / "trail.sqlite").unlink()
    assert len(inner.encoded) == len(set(inner.encoded)) > 3


def test_another_attention_keeps_the_tiles() -> None:
    model = reconfigure(TiledModel(_make_predictor()), "local")
    assert isinstance(model, TiledModel) and (model.card.windows, model.card.attention) == (
        "tiles",
        "local",
    )
    assert model.inner.regions is not None
    whole = reconfigure(model, windows="whole")
    assert isinstance(whole, Sam2Predictor) and (whole.card.windows, whole.card.attention) == (
        "whole",
        "local",
    )
    assert isinstance(reconfigure(whole, windows="tiles"), TiledModel)


def test_unknown_windows_are_refused() -> None:
    with pytest.raises(ModelError, match="windows 'pyramid': expected one of"):
        load_model("nano", device="cpu", windows="pyramid")  # type: ignore[arg-type]
    assert load_model("nano", device="cpu", windows="tiles").card.windows == "whole", (
        "it follows: it needs none"
    )
