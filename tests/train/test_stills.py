"""Views and motion: what is seen where, image and labels always together."""

import numpy as np
import pytest

from napari_sam2.train.data.clip_view import ClipView, sample_labels, sample_pixels
from napari_sam2.train.data.stills import Motion, animate_still

STILL = Motion(drift=0, turn_deg=0, zoom=0, bend=0, leaving=0, flicker=0, defocus_px=0)


def disc(shape: tuple[int, int], yx: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.indices(shape)
    return ((rows - yx[0]) ** 2 + (columns - yx[1]) ** 2 <= radius**2).astype(np.int32)


def test_view_of_step_one_is_the_plane_itself() -> None:
    plane = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    places = ClipView((19.5, 24.5), 1.0, 20).compute_positions()[None]
    assert np.allclose(sample_pixels(plane, places, 1.0)[0], plane[10:30, 15:35])


@pytest.mark.parametrize("step", [0.5, 1.0, 1.5, 2.0, 3.3])
def test_a_ramp_stays_the_same_ramp_at_any_magnification(step: float) -> None:
    rows, columns = np.indices((200, 200), dtype=np.float32)
    places = ClipView((99.5, 99.5), step, 32).compute_positions()[None]
    assert np.allclose(
        sample_pixels(rows + 2 * columns, places, step), places[:, 0] + 2 * places[:, 1], atol=0.02
    )


def test_fine_stripes_average_out_where_the_view_shrinks_them() -> None:
    stripes = np.tile(np.array([0.0, 1.0], dtype=np.float32), (128, 64))
    places = ClipView((63.5, 63.5), 4.0, 32).compute_positions()[None]
    assert np.abs(sample_pixels(stripes, places, 4.0) - 0.5).max() < 0.01


def test_beyond_the_plane_the_edge_is_repeated_and_nothing_labelled() -> None:
    plane, labels = np.full((10, 10), 0.7, dtype=np.float32), np.ones((10, 10), dtype=np.int32)
    places = ClipView((4.5, 4.5), 1.0, 20).compute_positions()[None]
    assert np.allclose(sample_pixels(plane, places, 1.0), 0.7)
    seen = sample_labels(labels, places)[0]
    assert seen.sum() == 100
    assert seen[5:15, 5:15].all()


@pytest.mark.parametrize(
    ("shape", "radius"),
    [((300, 300), 1.0), ((300, 300), 12.0), ((900, 700), 200.0), ((40, 30), 5.0)],
    ids=["a dot", "a nucleus", "larger than the view", "an image smaller than the view"],
)
def test_a_drawn_view_shows_an_object_neither_tiny_nor_filling_it(
    shape: tuple[int, int], radius: float
) -> None:
    labels = disc(shape, (shape[0] * 0.4, shape[1] * 0.6), radius)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        view = ClipView.sample(labels, rng, size=64, scales=(0.6, 1.8))
        extent = (2 * radius + 1) / view.step
        assert 7 <= extent <= 0.81 * 64
        assert sample_labels(labels, view.compute_positions()[None]).any()


def test_image_and_labels_move_together() -> None:
    labels = disc((160, 160), (80, 70), 22)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        view = ClipView((80.0, 75.0), 1.0, 96)
        frames, seen = animate_still(
            labels.astype(np.float32),
            labels,
            view,
            rng,
            length=4,
            motion=Motion(flicker=0, defocus_px=0),
        )
        wrong = (frames > 0.5) != (seen > 0)
        assert wrong.mean() < 0.005
        assert frames.dtype == np.float32
        assert seen.dtype == np.int32


def test_without_motion_all_frames_are_the_view() -> None:
    plane = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    frames, _ = animate_still(
        plane,
        disc((64, 64), (32, 32), 9),
        ClipView((31.5, 31.5), 1.0, 64),
        np.random.default_rng(0),
        length=3,
        motion=STILL,
    )
    assert np.allclose(frames, plane)


def test_motion_moves_an_object_by_more_than_a_pixel_and_deforms_it() -> None:
    labels = disc((160, 160), (80, 80), 15)
    shifts, areas = [], []
    for seed in range(20):
        _, seen = animate_still(
            labels.astype(float),
            labels,
            ClipView((80.0, 80.0), 1.0, 128),
            np.random.default_rng(seed),
            length=3,
            motion=Motion(leaving=0),
        )
        middles = [np.argwhere(frame).mean(axis=0) for frame in seen]
        shifts.append(np.hypot(*(middles[2] - middles[0])))
        areas.append((seen[0] > 0).sum())
    assert 1 < np.median(shifts) < 15
    assert np.std(areas) > 5


def test_objects_leave_the_view_and_come_back() -> None:
    labels = disc((300, 300), (150, 150), 10)
    returned = 0
    for seed in range(40):
        _, seen = animate_still(
            labels.astype(float),
            labels,
            ClipView((150.0, 150.0), 1.0, 64),
            np.random.default_rng(seed),
            length=4,
            motion=Motion(leaving=1),
        )
        present = seen.any(axis=(1, 2))
        assert present[0]
        returned += bool(present[-1] and not present.all())
    assert returned > 10


def test_a_moving_view_stays_near_the_plane() -> None:
    view = ClipView((32.0, 200.0), 1.0, 64)
    for seed in range(30):
        places = Motion(leaving=1, turn_deg=0, zoom=0, bend=0).sample_positions(
            view, np.random.default_rng(seed), length=5, shape=(256, 256)
        )
        assert places.min() > -0.15 * 64
        assert places.max() < 255 + 0.15 * 64


def test_the_same_generator_state_gives_the_same_clip() -> None:
    labels = disc((100, 100), (50, 50), 12)
    clips = [
        animate_still(
            labels.astype(float),
            labels,
            ClipView((50.0, 50.0), 1.0, 64),
            np.random.default_rng(5),
            length=3,
            motion=Motion(),
        )
        for _ in range(2)
    ]
    assert np.array_equal(clips[0][0], clips[1][0])
    assert np.array_equal(clips[0][1], clips[1][1])
