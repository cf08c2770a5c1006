"""Painted scenes: the truth is exact, the same seed paints the same, and what is labelled can be seen."""

import numpy as np
import pytest

from napari_sam2.train.synthetic.appearance import LOOKS, Canvas
from napari_sam2.train.synthetic.cells import (
    Bodies,
    Kind,
    dividing,
    scattered,
    through_z,
    wandering,
)
from napari_sam2.train.synthetic.field import of_bodies, of_strands
from napari_sam2.train.synthetic.scenes import SCENES, paint


def bodies(
    *rows: tuple[float, float, float, float], length: int = 1, straight: float = 0.0
) -> Bodies:
    """Bodies at rest, each (y, x, half axis along y, half axis along x)."""
    table = np.array(rows)
    still = np.repeat(table[:, None], length, axis=1)
    return Bodies(
        still[..., :2],
        np.zeros((len(rows), length)),
        still[..., 2:],
        np.full(len(rows), straight),
        np.ones((len(rows), length)),
    )


def test_a_body_is_the_ellipse_it_is_said_to_be() -> None:
    field = of_bodies(bodies((30, 20, 12, 7)), np.random.default_rng(0), size=64)
    rows, columns = np.indices((64, 64))
    assert np.array_equal(
        field.labels[0] == 1, ((rows - 30) / 12) ** 2 + ((columns - 20) / 7) ** 2 < 1
    )
    assert field.depth[0, 30, 20] == 7
    assert (field.depth[0][field.labels[0] == 0] <= 0).all()


def test_a_rod_has_a_straight_part() -> None:
    labels = of_bodies(
        bodies((32, 32, 5, 5), straight=2.0), np.random.default_rng(0), size=64
    ).labels[0]
    rows, columns = np.argwhere(labels == 1).T
    assert np.ptp(rows) == pytest.approx(2 * (5 + 10), abs=2)
    assert np.ptp(columns) == pytest.approx(10, abs=2)


def test_bodies_that_meet_share_the_border_in_the_middle() -> None:
    labels = of_bodies(
        bodies((32, 24, 12, 12), (32, 40, 12, 12)), np.random.default_rng(0), size=64
    ).labels[0]
    assert (labels[32, 20:32] == 1).all()
    assert (labels[32, 33:44] == 2).all()


def test_far_reaching_bodies_fill_the_frame() -> None:
    field = of_bodies(
        bodies((16, 16, 10, 10), (16, 48, 10, 10), (48, 32, 10, 10)),
        np.random.default_rng(0),
        size=64,
        limit=6.0,
    )
    assert (field.labels > 0).all()


def test_rough_outlines_keep_about_their_area() -> None:
    smooth, rough = (
        of_bodies(
            bodies((32, 32, 18, 18)), np.random.default_rng(3), size=64, rough=roughness
        ).labels[0]
        for roughness in (0.0, 0.2)
    )
    assert 0.6 < (rough > 0).sum() / (smooth > 0).sum() < 1.7
    assert (rough != smooth).sum() > 30


def test_an_ellipsoid_in_slices_has_the_areas_of_its_formula() -> None:
    one = through_z(bodies((32, 32, 20, 20), length=12), np.random.default_rng(0), tall=5.0)
    areas = (of_bodies(one, np.random.default_rng(0), size=80).labels == 1).sum(axis=(1, 2))
    expected = np.pi * np.nan_to_num(one.half).prod(axis=-1)[0]
    assert np.allclose(areas, expected, rtol=0.05, atol=12)
    assert areas[0] > 0
    assert areas[-1] == 0


def test_a_dividing_body_ends_where_its_daughters_begin() -> None:
    three = dividing(bodies((32, 32, 12, 9), length=6), np.random.default_rng(1), share=1.0)
    labels = of_bodies(three, np.random.default_rng(0), size=64).labels
    there = np.array([[(plane == label).any() for plane in labels] for label in (1, 2, 3)])
    when = there[0].sum()
    assert 0 < when < 6
    assert there[0, :when].all()
    assert (there[1:] == ~there[0]).all()
    share = (labels[when] > 0).sum() / (labels[when - 1] > 0).sum()
    assert 0.6 < share < 1.3


def test_bodies_move_but_keep_their_numbers() -> None:
    still = scattered(Kind(8, spacing=1.5), np.random.default_rng(0), length=4, size=96)
    moved = wandering(still, np.random.default_rng(0), speed=3.0)
    way = np.hypot(*(moved.yx[:, 3] - moved.yx[:, 0]).T)
    assert 1 < np.median(way) < 20
    field = of_bodies(moved, np.random.default_rng(0), size=96)
    for body in range(len(moved)):
        y, x = np.rint(moved.yx[body, 3]).astype(int)
        if 0 <= y < 96 and 0 <= x < 96:
            assert field.labels[3, y, x] == body + 1


def test_a_strand_is_as_thick_as_said_and_the_later_one_lies_in_front() -> None:
    line = np.linspace(10, 50, 81)
    across = np.stack([np.full_like(line, 30), line], axis=-1)
    field = of_strands(np.stack([across, across[:, ::-1]])[:, None], np.array([3.0, 2.0]), size=64)
    assert (field.labels[0, :, 20] == 1).sum() == 7
    assert (field.labels[0, 20, :] == 2).sum() == 5
    assert field.labels[0, 30, 30] == 2


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_is_what_a_clip_wants(name: str) -> None:
    for seed in range(6):
        frames, labels = paint(name, np.random.default_rng(seed), length=4, size=96)
        again, _ = paint(name, np.random.default_rng(seed), length=4, size=96)
        assert frames.shape == labels.shape == (4, 96, 96)
        assert (frames.dtype, labels.dtype) == (np.float32, np.int32)
        assert 0 <= frames.min() < 0.2
        assert 0.8 < frames.max() <= 1
        assert labels[0].any()
        assert np.array_equal(frames, again)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("size", [32, 200])
def test_scenes_can_be_small_and_large_and_single(name: str, size: int) -> None:
    frames, labels = paint(name, np.random.default_rng(0), length=1, size=size)
    assert frames.shape == (1, size, size)
    assert labels.any()


@pytest.mark.parametrize("look", LOOKS)
def test_what_is_labelled_can_be_seen(look: str) -> None:
    """Pixels at the edge of bodies differ in brightness or in slope from those of the ground, in nearly all of the scenes."""
    seen = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        field = of_bodies(bodies((32, 40, 16, 20), (70, 60, 15, 15)), rng, size=96)
        image = LOOKS[look](Canvas(field, rng, 16.0))[0]
        slope = np.hypot(*np.gradient(image))
        edge, ground = np.abs(field.depth[0]) < 2, field.depth[0] < -8
        apart = abs(image[field.depth[0] > 3].mean() - image[ground].mean()) / image[ground].std()
        seen += slope[edge].mean() > 1.3 * slope[ground].mean() or apart > 1
    assert seen >= 8
