"""Window: conversion between pixels and model coordinates.

Truth from torch's interpolation and from exact pictures.
"""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.card import ModelCard
from napari_sam2.core.window import Window

_SHAPES = [(40, 60), (61, 33), (128, 128), (300, 500)]


@pytest.mark.parametrize("keep_aspect", [False, True], ids=["stretched", "padded"])
@pytest.mark.parametrize("shape", _SHAPES, ids=str)
def test_conversion_round_trip(shape: tuple[int, int], keep_aspect: bool) -> None:
    window = Window.full_frame(shape, 96, keep_aspect=keep_aspect)
    points = np.random.default_rng(0).uniform(0, min(shape), (50, 2))
    np.testing.assert_allclose(window.to_frame(window.to_model(points)), points, atol=1e-9)


def test_pixel_centres_map_to_pixel_centres() -> None:
    doubled = Window.full_frame((10, 20), 20)
    np.testing.assert_allclose(doubled.to_model(np.array([0.0, 0.0])), [0.5, 0.0])
    np.testing.assert_allclose(doubled.to_model(np.array([9.0, 19.0])), [18.5, 19.0])


@pytest.mark.parametrize("shape", _SHAPES, ids=str)
def test_crop_equals_torch_bilinear_with_antialias(
    shape: tuple[int, int],
) -> None:
    torch = pytest.importorskip("torch")
    plane = np.random.default_rng(0).random(shape).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(plane)[None, None],
        size=(96, 96),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0, 0].numpy()
    got = Window.full_frame(shape, 96).crop(plane)
    margin = 4  # torch cuts its filter at the edge, we repeat the edge
    np.testing.assert_allclose(
        got[margin:-margin, margin:-margin], expected[margin:-margin, margin:-margin], atol=1e-5
    )


def test_frame_of_the_input_size_is_unchanged() -> None:
    plane = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    np.testing.assert_array_equal(Window.full_frame((32, 32), 32).crop(plane), plane)


def test_edge_is_repeated_beyond_the_frame() -> None:
    plane = np.tile(np.arange(8, dtype=np.float32), (4, 1))
    padded = Window.full_frame((4, 8), 8, keep_aspect=True).crop(plane)
    np.testing.assert_allclose(padded, np.tile(np.arange(8), (8, 1)))


@pytest.mark.parametrize("keep_aspect", [False, True], ids=["stretched", "padded"])
def test_object_keeps_its_position(keep_aspect: bool) -> None:
    plane = np.zeros((100, 60), dtype=np.float32)
    plane[20:40, 30:50] = 1
    window = Window.full_frame(plane.shape, 128, keep_aspect=keep_aspect)
    rows, columns = window.find_positive_region(window.crop(plane) - 0.5, plane.shape)
    assert rows.start <= 20 and rows.stop >= 40 and columns.start <= 30 and columns.stop >= 50
    back = window.paste(window.crop(plane) - 0.5, slice(0, 100), slice(0, 60)) > 0
    assert (back != (plane > 0)).sum() <= 40  # half a pixel along the border at most


def test_empty_grid_has_an_empty_region() -> None:
    assert Window.full_frame((50, 50), 64).find_positive_region(
        np.full((16, 16), -1.0), (50, 50)
    ) == (
        slice(0, 0),
        slice(0, 0),
    )


@pytest.mark.parametrize(
    ("longest", "size"), [(50, 128), (128, 128), (129, 256), (256, 256), (2000, 256)]
)
def test_frame_window_uses_the_smallest_sufficient_input(longest: int, size: int) -> None:
    card = ModelCard("some", input_sizes=(128, 256))
    assert card.make_frame_window((longest, 10)).size == size
