"""Overlaps: label planes from logits."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.result import Segment
from napari_sam2.core.sam2_constants import ABSENT_LOGIT
from napari_sam2.core.window import Window
from napari_sam2.propagation.overlaps import compose_label_plane


def _make_segment(
    track: int,
    logits: np.ndarray,
    shape: tuple[int, int],
    *,
    score: float = 1.0,
    keep_aspect: bool = False,
) -> Segment:
    window = Window.full_frame(shape, 4 * len(logits), keep_aspect=keep_aspect)
    return Segment(track, 0, window, logits.astype(np.float32), 0.9, score, np.zeros(1, np.float32))


def test_strongest_logit_wins_each_pixel_in_any_order() -> None:
    weak, strong = np.full((8, 8), -5.0), np.full((8, 8), -5.0)
    weak[:, :5], strong[:, 3:] = 2, 4
    segments = [_make_segment(1, weak, (8, 8)), _make_segment(2, strong, (8, 8))]
    plane = compose_label_plane(segments, (8, 8))
    np.testing.assert_array_equal(plane, compose_label_plane(segments[::-1], (8, 8)))
    np.testing.assert_array_equal(
        plane, np.where(np.arange(8) < 3, 1, 2)[None, :].repeat(8, axis=0)
    )


def test_tie_goes_to_the_lower_id() -> None:
    same = np.full((4, 4), 3.0)
    assert (
        compose_label_plane(
            [_make_segment(9, same, (4, 4)), _make_segment(2, same, (4, 4))], (4, 4)
        )
        == 2
    ).all()


def test_absent_objects_write_nothing() -> None:
    absent = _make_segment(1, np.full((4, 4), ABSENT_LOGIT), (16, 16), score=-1)
    denied = _make_segment(2, np.full((4, 4), 5.0), (16, 16), score=-1)
    assert not compose_label_plane([absent, denied], (16, 16)).any()


@pytest.mark.parametrize(
    ("track", "dtype"), [(65535, np.uint16), (65536, np.uint32)], ids=["uint16", "uint32"]
)
def test_dtype_holds_the_largest_id(track: int, dtype: type) -> None:
    plane = compose_label_plane([_make_segment(track, np.full((4, 4), 1.0), (4, 4))], (4, 4))
    assert plane.dtype == dtype
    assert (plane == track).all()


@pytest.mark.parametrize("keep_aspect", [False, True], ids=["stretched", "padded"])
@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (333, 200)], ids=str)
def test_cropped_resampling_equals_full_resampling(
    shape: tuple[int, int], keep_aspect: bool
) -> None:
    """The crop around an object gives the same pixels as torch's bilinear interpolation."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    grid = rng.normal(-4, 3, (32, 32)).astype(np.float32)
    plane = compose_label_plane([_make_segment(1, grid, shape, keep_aspect=keep_aspect)], shape)
    side = (max(shape), max(shape)) if keep_aspect else shape
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None], size=side, mode="bilinear", align_corners=False
    )[0, 0]
    top, left = ((side[0] - shape[0]) // 2, (side[1] - shape[1]) // 2)
    expected = whole[top : top + shape[0], left : left + shape[1]].numpy()
    differs = (plane > 0) != (expected > 0)
    assert not differs[np.abs(expected) > 1e-4].any()


def test_drawn_mask_keeps_its_pixels() -> None:
    drawn = np.zeros((32, 32), dtype=bool)
    drawn[3:9, 5] = drawn[3, 5:12] = True  # thinner than a cell of the grid
    coarse = _make_segment(1, np.full((4, 4), -2.0), (32, 32))
    stronger = np.full((4, 4), -20.0)
    stronger[0, 0] = 20
    plane = compose_label_plane(
        [coarse, _make_segment(2, stronger, (32, 32))], (32, 32), drawn_masks={1: drawn}
    )
    np.testing.assert_array_equal(plane == 1, drawn & (plane != 2))
    assert (plane == 2).any()
