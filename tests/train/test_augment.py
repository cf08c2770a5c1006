"""Augmentation: labels follow the pixels, and only noise differs between frames."""

from dataclasses import replace

import numpy as np
import pytest

from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.augment import Augmentation
from napari_sam2.train.data.clip import Clip


def clip_of(labels: np.ndarray) -> Clip:
    return Clip(
        np.where(labels > 0, 0.8, 0.2).astype(np.float32), labels.astype(np.int32), "two squares"
    )


@pytest.fixture
def clip() -> Clip:
    """Three equal frames with a large square and a small one off the middle."""
    labels = np.zeros((3, 32, 32), dtype=np.int32)
    labels[:, 4:16, 6:20] = 1
    labels[:, 22:26, 3:9] = 2
    return clip_of(labels)


@pytest.mark.parametrize("change", ["flip", "turn", "zoom"])
def test_labels_follow_the_pixels(clip: Clip, change: str) -> None:
    augment = replace(Augmentation.identity(), **{change: 1.0})
    changed = False
    for seed in range(20):
        after = augment(clip, np.random.default_rng(seed))
        assert ((after.frames > 0.5) != (after.labels > 0)).mean() < 0.02
        assert after.frames.shape == clip.frames.shape
        assert set(np.unique(after.labels)) <= {0, 1, 2}
        assert after.labels[0].any()
        changed |= not np.array_equal(after.labels, clip.labels)
    assert changed


def test_inversion_and_identity_are_exact(clip: Clip) -> None:
    rng = np.random.default_rng(0)
    assert np.array_equal(Augmentation.identity()(clip, rng).frames, clip.frames)
    assert np.allclose(
        replace(Augmentation.identity(), invert=1.0)(clip, rng).frames, 1 - clip.frames
    )


@pytest.mark.parametrize(
    "change", ["flip", "turn", "zoom", "invert", "gamma", "contrast", "shade", "blur"]
)
def test_all_frames_are_changed_in_the_same_way(clip: Clip, change: str) -> None:
    after = replace(Augmentation.identity(), **{change: 1.0})(clip, np.random.default_rng(3))
    assert np.array_equal(after.frames[0], after.frames[2])
    assert np.array_equal(after.labels[0], after.labels[2])


@pytest.mark.parametrize("change", ["gauss", "poisson"])
def test_noise_differs_from_frame_to_frame_and_stays_within_range(clip: Clip, change: str) -> None:
    after = replace(Augmentation.identity(), **{change: 1.0})(clip, np.random.default_rng(3))
    assert not np.allclose(after.frames[0], after.frames[1])
    assert after.frames.min() >= 0
    assert after.frames.max() <= 1
    assert np.array_equal(after.labels, clip.labels)


def test_photon_noise_grows_with_the_light() -> None:
    flat = Clip(
        np.repeat(np.linspace(0.1, 0.9, 64, dtype=np.float32)[None, None], 64, axis=1),
        np.ones((1, 64, 64), np.int32),
    )
    after = replace(Augmentation.identity(), poisson=1.0)(flat, np.random.default_rng(0))
    spread = (after.frames - flat.frames)[0].std(axis=0)
    assert spread[40:56].mean() > 1.5 * spread[:12].mean()


def test_everything_at_once_keeps_the_range_and_the_type(clip: Clip) -> None:
    for seed in range(50):
        after = Augmentation()(clip, np.random.default_rng(seed))
        assert after.frames.dtype == np.float32
        assert after.labels.dtype == np.int32
        assert np.isfinite(after.frames).all()
        assert after.frames.min() >= 0
        assert after.frames.max() <= 1
        assert after.frames.flags["C_CONTIGUOUS"]


def test_the_given_clip_is_not_changed(clip: Clip) -> None:
    before = clip.frames.copy()
    Augmentation()(clip, np.random.default_rng(0))
    assert np.array_equal(clip.frames, before)


def test_frames_that_are_not_square_are_refused() -> None:
    with pytest.raises(LabelsError, match="square"):
        Augmentation()(
            Clip(np.zeros((1, 4, 6), np.float32), np.zeros((1, 4, 6), np.int32), "wide"),
            np.random.default_rng(0),
        )
