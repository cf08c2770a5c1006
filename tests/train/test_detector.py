"""The detector's targets, scenes, pool and loss, each at the size of a toy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam2.core.protocols import OBJECT_MAPS, SIZE_OCTAVES
from napari_sam2.detection.maps.instances import resize_labels, segment_maps
from napari_sam2.detection.maps.sizes import measure_sizes
from napari_sam2.models.network.detector import DetectorNetwork
from napari_sam2.train.average import WeightAverage
from napari_sam2.train.detector.augment import augment_grey, draw_cloud
from napari_sam2.train.detector.images import AnnotatedImage, ImageCrops, relabel
from napari_sam2.train.detector.layouts import LAYOUTS, Layout
from napari_sam2.train.detector.loss import compute_losses
from napari_sam2.train.detector.pool import CropPool, pack_samples, unpack_batch
from napari_sam2.train.detector.scenes import draw_empty_scene, draw_scene
from napari_sam2.train.detector.sections import draw_section
from napari_sam2.train.detector.targets import compute_targets
from napari_sam2.train.detector.training import build_network, save_half
from napari_sam2.train.detector.validation import count_matches

SIDE = 96


def draw_discs() -> np.ndarray:
    """Two discs that touch, of 30 and 20 px."""
    y, x = np.indices((SIDE, SIDE))
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[np.hypot(y - 40, x - 30) < 15] = 1
    labels[(np.hypot(y - 40, x - 54) < 10) & (labels == 0)] = 2
    return labels


def test_targets_are_one_in_the_middle_and_nothing_outside() -> None:
    labels = draw_discs()
    targets = compute_targets(labels)
    assert np.array_equal(targets.foreground, labels > 0)
    assert targets.boundary[40, 30] > 0.9 and targets.boundary[labels == 0].max() == 0
    assert targets.centre[40, 30] < 0.15 and targets.centre[labels == 0].min() == 1
    for number in (1, 2):
        diameter = 2 * np.sqrt((labels == number).sum() / np.pi)
        size = targets.size[labels == number]
        assert size == pytest.approx(np.log2(diameter) / SIZE_OCTAVES, abs=0.01)
    assert targets.size_counts.sum() == (labels > 0).sum()


def test_the_size_of_a_rod_lies_between_its_width_and_that_of_a_disc() -> None:
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[40:49, 10:74] = 1  # 9 px wide, a disc of its area is 27 px
    assert measure_sizes(labels) == pytest.approx([np.sqrt(9 * 27.1)], rel=0.02)
    assert len(measure_sizes(np.zeros((8, 8), np.int32))) == 0


def test_size_does_not_count_where_an_object_is_cut() -> None:
    targets = compute_targets(draw_discs()[:, :40])
    assert not targets.size_counts.any()


@pytest.mark.parametrize("labels", [np.zeros((32, 32), np.int32), np.ones((32, 32), np.int32)])
def test_targets_of_empty_and_full_planes_are_finite(labels: np.ndarray) -> None:
    targets = compute_targets(labels)
    for plane in (targets.boundary, targets.centre, targets.size):
        assert np.isfinite(plane).all() and plane.min() >= 0 and plane.max() <= 1


def test_ideal_maps_come_back_as_the_labels() -> None:
    labels = draw_discs()
    targets = compute_targets(labels)
    maps = np.stack([targets.foreground, targets.boundary, targets.centre, targets.size])
    found = segment_maps(maps.astype(np.float32))
    assert list(count_matches(labels, found)) == [2, 2, 2]


@pytest.mark.parametrize("layout", list(LAYOUTS), ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("diameter", [5.0, 20.0, 70.0])
def test_every_layout_gives_labels_of_about_the_size(layout: Layout, diameter: float) -> None:
    rng = np.random.default_rng(3)
    planes = [layout(SIDE, diameter, rng) for _ in range(6)]
    assert all(plane.shape == (SIDE, SIDE) and plane.min() >= 0 for plane in planes)
    areas = np.concatenate([np.bincount(relabel(plane).ravel())[1:] for plane in planes])
    if areas.size:
        assert 0.25 * diameter < 2 * np.sqrt(np.median(areas) / np.pi) < 3 * diameter


def test_scenes_are_the_same_for_the_same_seed() -> None:
    scenes = [draw_scene(SIDE, np.random.default_rng(5)) for _ in range(2)]
    assert np.array_equal(scenes[0][0], scenes[1][0])
    assert np.array_equal(scenes[0][1], scenes[1][1])


def test_scenes_are_in_range_and_their_labels_without_gaps() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        grey, labels = draw_scene(SIDE, rng)
        assert grey.dtype == np.float32 and np.isfinite(grey).all()
        assert grey.min() >= 0 and grey.max() <= 1
        assert set(np.unique(labels)) == set(range(labels.max() + 1)) or labels.all()


def test_empty_scenes_hold_no_object() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        grey, labels = draw_empty_scene(SIDE, rng)
        assert not labels.any() and np.isfinite(grey).all()


def test_a_section_is_lighter_inside_its_bodies() -> None:
    rng = np.random.default_rng(4)
    drawn = [draw_section(SIDE, 20.0, rng) for _ in range(8)]
    differences = [i[n > 0].mean() - i[n == 0].mean() for i, n in drawn if n.any()]
    assert np.mean(differences) > 0


def test_crops_show_objects_of_the_sizes_that_are_trained() -> None:
    labels = draw_discs()
    image = (200 * (labels > 0)).astype(np.uint8)
    annotated = AnnotatedImage(image, labels.astype(np.uint16), "nuclei fluorescence", "a")
    crops = ImageCrops([annotated], 64)
    rng = np.random.default_rng(0)
    for _ in range(20):
        grey, found = crops.draw(rng)
        assert grey.shape == found.shape == (64, 64)
        if found.any():
            assert grey[found > 0].mean() > grey[found == 0].mean() or (found > 0).all()


def test_a_pool_replaces_crops_and_draws_batches() -> None:
    drawn = []

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(1)
        return draw_scene(64, rng)

    pool = CropPool(draw, side=64, capacity=6, rng=np.random.default_rng(0))
    pool.fill(4)
    assert len(drawn) == 4
    pool.refresh(0.5)
    pool.refresh(0.5)
    assert len(drawn) == 5
    batch = pool.draw_batch(3, 32)
    assert batch.grey.shape == (3, 1, 32, 32)
    assert batch.targets.shape == (3, len(OBJECT_MAPS), 32, 32) and batch.counts.shape == (
        3,
        2,
        32,
        32,
    )


def test_the_loss_is_least_for_what_is_asked() -> None:
    batch = unpack_batch(pack_samples([(np.zeros((SIDE, SIDE), np.float32), draw_discs())]))
    ideal = torch.logit(batch.targets.clamp(1e-4, 1 - 1e-4))
    right = compute_losses(ideal, batch)
    wrong = compute_losses(torch.zeros_like(ideal), batch)
    assert float(right["loss"]) < 0.01 < float(wrong["loss"])
    assert all(float(right[name]) <= float(wrong[name]) for name in right)


def test_augmenting_keeps_the_range() -> None:
    rng = np.random.default_rng(0)
    plane = rng.random((48, 48), np.float32)
    for _ in range(60):
        changed = augment_grey(plane, rng)
        assert changed.dtype == np.float32 and changed.min() >= 0 and changed.max() <= 1


@pytest.mark.parametrize("grain", [1.5, 6.0, 200.0])
def test_clouds_have_deviation_one(grain: float) -> None:
    cloud = draw_cloud((40, 60), np.random.default_rng(0), grain)
    assert cloud.shape == (40, 60) and cloud.std() == pytest.approx(1, abs=1e-3)


def test_labels_are_resized_by_the_nearest_pixel() -> None:
    labels = np.array([[1, 2], [3, 4]], np.int32)
    assert np.array_equal(resize_labels(labels, (4, 4))[::2, ::2], labels)


def test_weights_survive_their_file_in_half_precision(tmp_path: Path) -> None:
    network = build_network()
    average = WeightAverage(dict(network.named_parameters()), 0.9)
    save_half(average.state_dict(), tmp_path / "weights.safetensors")
    assert (tmp_path / "weights.safetensors").stat().st_size < 12e6
    assert isinstance(build_network(average.state_dict()), DetectorNetwork)
    assert network.eval()(torch.zeros(1, 1, 64, 32)).shape == (1, len(OBJECT_MAPS), 64, 32)
