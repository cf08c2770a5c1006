"""Windows around objects, and planes resampled from one window to another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam2.core.window import Window
from napari_sam2.models.cropping import (
    find_logit_corners,
    make_crop_window,
    make_window_pyramid,
    resample,
)

SIZE = 128
FRAME = (400, 600)


@pytest.mark.parametrize("width", [8, 13, 20, 33, 70, 120])
@pytest.mark.parametrize(
    "yx", [(200.0, 300.0), (5.0, 5.0), (397.0, 590.0)], ids=["middle", "corner", "other corner"]
)
def test_an_object_of_any_size_has_a_similar_size_in_its_window(
    width: float, yx: tuple[float, float]
) -> None:
    low, high = np.array(yx) - width / 2, np.array(yx) + width / 2
    window = make_crop_window((tuple(low.tolist()), tuple(high.tolist())), FRAME, SIZE)
    assert window.height == window.width and window.size == SIZE
    assert 30 <= width * SIZE / window.height <= 43
    assert (
        window.top >= 0
        and window.top + window.height <= FRAME[0]
        and window.left >= 0
        and window.left + window.width <= FRAME[1]
    )
    inside = np.clip(yx, 0, FRAME)
    assert (
        window.top <= inside[0] <= window.top + window.height
        and window.left <= inside[1] <= window.left + window.width
    )


def test_an_object_as_large_as_the_frame_has_room_around_it() -> None:
    assert make_crop_window(((0, 0), (400, 600)), FRAME, SIZE) == Window(
        -250.0, -150.0, 900.0, 900.0, SIZE
    )


def test_small_changes_of_an_object_keep_its_window() -> None:
    windows = {
        make_crop_window(((100, 200), (100 + width, 200 + width)), (1000, 1000), SIZE)
        for width in np.linspace(25, 30, 21)
    }
    assert len(windows) <= 3


def test_the_pyramid_ends_with_room_around_the_whole_frame() -> None:
    steps = make_window_pyramid((20.0, 500.0), FRAME, SIZE)
    sides = [window.height for window in steps]
    assert sides == [40, 60, 90, 135, 202.5, 303.75, 455.625, 600, 900, 1350]
    assert all(
        window.left <= 500 <= window.left + window.width and window.top <= 20 for window in steps
    )


def test_the_corners_of_a_mask_are_those_of_its_cells() -> None:
    logits = np.full((32, 32), -5.0, dtype=np.float32)
    logits[8:16, 4:20] = 5
    assert find_logit_corners(logits, Window(100.0, 200.0, 64.0, 64.0, SIZE)) == (
        (116.0, 208.0),
        (132.0, 240.0),
    )
    assert find_logit_corners(logits - 10, Window(0, 0, 64, 64, SIZE)) is None


def test_specks_do_not_move_the_corners() -> None:
    logits = np.full((32, 32), -5.0, dtype=np.float32)
    logits[4:28, 10:28] = 5
    corners = find_logit_corners(logits, Window(0.0, 0.0, 64.0, 64.0, SIZE))
    logits[30, 0] = 5
    assert find_logit_corners(logits, Window(0.0, 0.0, 64.0, 64.0, SIZE)) == corners


@pytest.mark.parametrize(
    "target",
    [Window(8, 24, 64, 64, SIZE), Window(0, 16, 96, 96, SIZE), Window(20.5, 30.25, 40, 40, SIZE)],
)
def test_a_resampled_plane_keeps_its_position(target: Window) -> None:
    """Interpolation leaves a linear slope as it is, so its values are positions."""
    source = Window(0.0, 16.0, 80.0, 80.0, SIZE)

    def slope(window: Window) -> torch.Tensor:
        y, x = (window.to_frame(np.stack([np.arange(32.0), np.arange(32.0)], axis=1) * 4 + 1.5)).T
        return torch.from_numpy((2 * y[:, None] + x[None, :]).astype(np.float32))[None, None]

    found = resample(slope(source), [source], [target])[0, 0]
    y, x = target.to_frame(np.stack([np.arange(32.0), np.arange(32.0)], axis=1) * 4 + 1.5).T
    within = ((y > 2) & (y < 78))[:, None] & ((x > 18) & (x < 94))[None]
    assert within.sum() > 100
    np.testing.assert_allclose(found[within], slope(target)[0, 0][within], atol=1e-3)


def test_resampling_to_the_same_window_changes_nothing() -> None:
    planes, window = torch.rand(2, 3, 8, 8), Window(0, 0, 50, 50, SIZE)
    assert resample(planes, [window] * 2, [window] * 2) is planes
