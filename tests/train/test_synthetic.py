"""Synthetic scenes: truth is exact, seeds are reproducible, labelled cells are visible."""

import numpy as np
import pytest

from napari_sam2.train.synthetic.appearance import RENDERERS, RenderContext
from napari_sam2.train.synthetic.cells import (
    CellPopulation,
    SyntheticCells,
    add_divisions,
    add_motion,
    scatter_cells,
    slice_ellipsoids,
)
from napari_sam2.train.synthetic.field import compute_cell_field, compute_filament_field
from napari_sam2.train.synthetic.scenes import SCENE_PAINTERS, paint_scene


def make_cells(
    *rows: tuple[float, float, float, float], length: int = 1, straight: float = 0.0
) -> SyntheticCells:
    """Make resting cells, each (y, x, half axis along y, half axis along x)."""
    table = np.array(rows)
    still = np.repeat(table[:, None], length, axis=1)
    return SyntheticCells(
        still[..., :2],
        np.zeros((len(rows), length)),
        still[..., 2:],
        np.full(len(rows), straight),
        np.ones((len(rows), length)),
    )


def test_a_cell_is_an_exact_ellipse() -> None:
    field = compute_cell_field(make_cells((30, 20, 12, 7)), np.random.default_rng(0), size=64)
    rows, columns = np.indices((64, 64))
    assert np.array_equal(
        field.labels[0] == 1, ((rows - 30) / 12) ** 2 + ((columns - 20) / 7) ** 2 < 1
    )
    assert field.depth[0, 30, 20] == 7
    assert (field.depth[0][field.labels[0] == 0] <= 0).all()


def test_a_rod_has_a_straight_part() -> None:
    labels = compute_cell_field(
        make_cells((32, 32, 5, 5), straight=2.0), np.random.default_rng(0), size=64
    ).labels[0]
    rows, columns = np.argwhere(labels == 1).T
    assert np.ptp(rows) == pytest.approx(2 * (5 + 10), abs=2)
    assert np.ptp(columns) == pytest.approx(10, abs=2)


def test_touching_cells_have_the_border_in_the_middle() -> None:
    labels = compute_cell_field(
        make_cells((32, 24, 12, 12), (32, 40, 12, 12)), np.random.default_rng(0), size=64
    ).labels[0]
    assert (labels[32, 20:32] == 1).all()
    assert (labels[32, 33:44] == 2).all()


def test_a_high_limit_fills_the_frame() -> None:
    field = compute_cell_field(
        make_cells((16, 16, 10, 10), (16, 48, 10, 10), (48, 32, 10, 10)),
        np.random.default_rng(0),
        size=64,
        limit=6.0,
    )
    assert (field.labels > 0).all()


def test_rough_outlines_keep_about_their_area() -> None:
    smooth, rough = (
        compute_cell_field(
            make_cells((32, 32, 18, 18)), np.random.default_rng(3), size=64, roughness=roughness
        ).labels[0]
        for roughness in (0.0, 0.2)
    )
    assert 0.6 < (rough > 0).sum() / (smooth > 0).sum() < 1.7
    assert (rough != smooth).sum() > 30


def test_slices_of_an_ellipsoid_have_the_areas_of_its_formula() -> None:
    one = slice_ellipsoids(
        make_cells((32, 32, 20, 20), length=12), np.random.default_rng(0), half_height=5.0
    )
    areas = (compute_cell_field(one, np.random.default_rng(0), size=80).labels == 1).sum(
        axis=(1, 2)
    )
    expected = np.pi * np.nan_to_num(one.half_axes).prod(axis=-1)[0]
    assert np.allclose(areas, expected, rtol=0.05, atol=12)
    assert areas[0] > 0
    assert areas[-1] == 0


def test_a_dividing_cell_ends_when_its_daughters_begin() -> None:
    family = add_divisions(
        make_cells((32, 32, 12, 9), length=6), np.random.default_rng(1), dividing_share=1.0
    )
    labels = compute_cell_field(family, np.random.default_rng(0), size=64).labels
    present = np.array([[(plane == label).any() for plane in labels] for label in (1, 2, 3)])
    division = present[0].sum()
    assert 0 < division < 6
    assert present[0, :division].all()
    assert (present[1:] == ~present[0]).all()
    share = (labels[division] > 0).sum() / (labels[division - 1] > 0).sum()
    assert 0.6 < share < 1.3


def test_moving_cells_keep_their_numbers() -> None:
    still = scatter_cells(
        CellPopulation(8, spacing=1.5), np.random.default_rng(0), length=4, size=96
    )
    moved = add_motion(still, np.random.default_rng(0), speed_px=3.0)
    distance = np.hypot(*(moved.yx[:, 3] - moved.yx[:, 0]).T)
    assert 1 < np.median(distance) < 20
    field = compute_cell_field(moved, np.random.default_rng(0), size=96)
    for cell in range(len(moved)):
        y, x = np.rint(moved.yx[cell, 3]).astype(int)
        if 0 <= y < 96 and 0 <= x < 96:
            assert field.labels[3, y, x] == cell + 1


def test_filaments_have_their_thickness_and_later_ones_lie_in_front() -> None:
    line = np.linspace(10, 50, 81)
    across = np.stack([np.full_like(line, 30), line], axis=-1)
    field = compute_filament_field(
        np.stack([across, across[:, ::-1]])[:, None], np.array([3.0, 2.0]), size=64
    )
    assert (field.labels[0, :, 20] == 1).sum() == 7
    assert (field.labels[0, 20, :] == 2).sum() == 5
    assert field.labels[0, 30, 30] == 2


@pytest.mark.parametrize("name", SCENE_PAINTERS)
def test_a_scene_has_the_format_of_a_clip(name: str) -> None:
    for seed in range(6):
        frames, labels = paint_scene(name, np.random.default_rng(seed), length=4, size=96)
        again, _ = paint_scene(name, np.random.default_rng(seed), length=4, size=96)
        assert frames.shape == labels.shape == (4, 96, 96)
        assert (frames.dtype, labels.dtype) == (np.float32, np.int32)
        assert 0 <= frames.min() < 0.2
        assert 0.8 < frames.max() <= 1
        assert labels[0].any()
        assert np.array_equal(frames, again)


@pytest.mark.parametrize("name", SCENE_PAINTERS)
@pytest.mark.parametrize("size", [32, 200])
def test_scenes_can_be_small_or_large_and_of_one_frame(name: str, size: int) -> None:
    frames, labels = paint_scene(name, np.random.default_rng(0), length=1, size=size)
    assert frames.shape == (1, size, size)
    assert labels.any()


@pytest.mark.parametrize("name", RENDERERS)
def test_labelled_cells_are_visible(name: str) -> None:
    """Cells differ from the background in brightness or in slope, in nearly all scenes."""
    visible = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        field = compute_cell_field(make_cells((32, 40, 16, 20), (70, 60, 15, 15)), rng, size=96)
        image = RENDERERS[name](RenderContext(field, rng, 16.0))[0]
        slope = np.hypot(*np.gradient(image))
        edge, background = np.abs(field.depth[0]) < 2, field.depth[0] < -8
        contrast = (
            abs(image[field.depth[0] > 3].mean() - image[background].mean())
            / image[background].std()
        )
        visible += slope[edge].mean() > 1.3 * slope[background].mean() or contrast > 1
    assert visible >= 8
