"""Blocks, tiles, intensities and instances of a detector's maps, with maps that are exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from napari_sam2.core.protocols import SIZE_OCTAVES
from napari_sam2.detection.maps import blocks, instances, planes, volumes
from napari_sam2.detection.maps.intensities import PreparedPlane, StackRange, prepare_plane
from napari_sam2.detection.maps.size_search import estimate_diameter

RNG = np.random.default_rng(0)


class ExactMaps:
    """Maps of bright discs on black, as a perfect network would draw them."""

    sha256 = "0" * 64

    def __init__(self) -> None:
        self.largest = 0

    def predict(self, given: np.ndarray) -> np.ndarray:
        self.largest = max(self.largest, given[0].size)
        return np.stack([self._draw(plane) for plane in given]).astype(np.float32)

    def _draw(self, plane: np.ndarray) -> np.ndarray:
        inside = plane > 0.5
        labels, count = ndi.label(inside)
        depth = ndi.distance_transform_edt(np.pad(inside, 1, mode="edge"))[1:-1, 1:-1]
        numbers = np.arange(count + 1)
        deepest = np.maximum(np.asarray(ndi.maximum(depth, labels, numbers)), 1e-6)
        sizes = np.maximum(2 * np.sqrt(np.bincount(labels.ravel()) / np.pi), 1)
        boundary = np.where(inside, depth / deepest[labels], 0)
        size = np.where(inside, np.log2(sizes)[labels] / SIZE_OCTAVES, 0)
        return np.stack([inside, boundary, 1 - boundary, size])


def draw_discs(shape: tuple[int, ...], step: int, radius: float) -> np.ndarray:
    """(Y, X) or (Z, Y, X) image of discs (balls) in rows, half a step from the edges."""
    away = [(np.arange(length) % step - step // 2) ** 2 for length in shape]
    return (sum(np.ix_(*away)) <= radius**2).astype(np.float32)


@pytest.mark.parametrize("shape", [(100,), (64, 200), (7, 300, 1)])
def test_cores_of_blocks_cover_everything_once(shape: tuple[int, ...]) -> None:
    seen = np.zeros(shape, int)
    for block in blocks.divide_into_blocks(shape, 64, 16):
        seen[block.core] += 1
        for core, outer in zip(block.core, block.outer, strict=True):
            assert outer.start <= core.start < core.stop <= outer.stop
    assert (seen == 1).all()


def test_objects_on_the_seams_of_blocks_are_counted_once() -> None:
    truth = ndi.label(draw_discs((300, 310), 23, 8))[0].astype(np.int32)
    whole = blocks.BlockLabels(truth.shape)
    for block in blocks.divide_into_blocks(truth.shape, 64, 32):
        part = ndi.label(truth[block.outer] > 0)[0].astype(np.int32)
        whole.add(part, block)
    assert whole.count == truth.max()
    np.testing.assert_array_equal(whole.labels > 0, truth > 0)


@pytest.mark.parametrize("shape", [(900, 40), (1500, 1000), (1, 2000)])
def test_tiles_fade_into_each_other(shape: tuple[int, int]) -> None:
    class Ramp:
        sha256 = ""

        def predict(self, given: np.ndarray) -> np.ndarray:
            return np.repeat(given[:, None], 4, axis=1)

    plane = RNG.random(shape, np.float32)
    steps = planes.Steps(planes.predict_plane(Ramp(), plane))
    assert len(list(steps)) == planes.count_tiles(shape)
    np.testing.assert_allclose(steps.result[2], plane, atol=1e-6)


@pytest.mark.parametrize("size", [(120, 90), (50, 60), (61, 200)])
def test_a_region_is_resampled_as_the_whole(size: tuple[int, int]) -> None:
    plane = RNG.random((100, 120), np.float32)
    whole = planes.resample(plane, size)
    assert whole.shape == size
    region = (slice(10, 37), slice(5, 48))
    np.testing.assert_allclose(planes.resample(plane, size, region), whole[region], atol=1e-5)
    np.testing.assert_array_equal(planes.resample(plane, plane.shape), plane)


def test_a_large_plane_gives_what_its_parts_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "_BLOCK", 200)
    monkeypatch.setattr(instances, "_MARGIN", 64)
    monkeypatch.setattr(planes, "_TILE", 128)
    image, model = draw_discs((700, 500), 40, 12), ExactMaps()
    steps = planes.Steps(instances.segment_plane(model, PreparedPlane(image), 24.0))
    done = list(steps)
    assert done[-1] == (len(done), len(done)) and len(done) > 20
    assert model.largest <= (128 + 2 * 64) ** 2
    found = steps.result
    assert found.labels.max() == len(found.sureness) == ndi.label(image)[1]
    assert found.sureness.min() > 0.7
    assert ((found.foreground > 127) == (image > 0.5)).mean() > 0.98


def test_a_plane_that_is_closed_computes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "_TILE", 64)
    calls = []

    class Counting(ExactMaps):
        def predict(self, given: np.ndarray) -> np.ndarray:
            calls.append(1)
            return super().predict(given)

    image = draw_discs((300, 300), 40, 12)
    steps = instances.segment_plane(Counting(), PreparedPlane(image), 24.0)
    next(steps)
    steps.close()
    assert len(calls) == 1


@pytest.mark.parametrize(("ratio", "radius"), [(1.0, 12), (2.0, 13), (3.0, 14)])
def test_balls_of_a_volume_are_one_object_each(
    ratio: float, radius: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cubes = draw_discs((40, 80, 120), 40, radius)
    volume = cubes[:: round(ratio)]
    for block_voxels in (volumes._BLOCK_VOXELS, 10_000):
        monkeypatch.setattr(volumes, "_BLOCK_VOXELS", block_voxels)
        monkeypatch.setattr(volumes, "_BLOCK", 64)
        steps = volumes.segment_volume(
            ExactMaps(),
            lambda frame: PreparedPlane(volume[frame]),
            volume.shape,  # type: ignore[arg-type]
            depth_ratio=ratio,
            diameter=2.0 * radius,
        )
        found = planes.Steps(steps).finish()
        assert len(found.sureness) == 6
        middle = found.draw_plane(len(volume) // 2)
        assert middle.shape == (80, 120) and len(np.unique(middle)) == 7


@pytest.mark.parametrize("size", [12.0, 24.0, 50.0])
def test_the_size_of_objects_is_found(size: float) -> None:
    image = draw_discs((400, 400), round(1.8 * size), size / 2)
    found = estimate_diameter(ExactMaps(), [image, image[:, ::-1]])
    assert found == pytest.approx(size, rel=0.25)
    assert estimate_diameter(ExactMaps(), [np.zeros((200, 200), np.float32)]) is None
    assert estimate_diameter(ExactMaps(), []) is None


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_a_constant_plane_is_nothing(value: float) -> None:
    assert prepare_plane(np.full((40, 50), value)) is None


def test_padding_becomes_the_rim_of_the_field_of_view() -> None:
    y, x = np.mgrid[:200, :200]
    outside = (y - 100) ** 2 + (x - 100) ** 2 > 90**2
    image = RNG.normal(100, 5, (200, 200)) + 80 * draw_discs((200, 200), 40, 10)
    image[outside] = 0
    plane = prepare_plane(image)
    assert plane is not None and plane.field is not None
    np.testing.assert_array_equal(plane.field, ~outside)
    assert np.ptp(plane.pixels[outside]) == 0
    assert abs(plane.pixels[0, 0] - np.median(plane.pixels[~outside])) < 0.15


@pytest.mark.parametrize("background", [0.0, 20.0, 255.0])
def test_objects_on_an_even_background_are_no_field_of_view(background: float) -> None:
    image = np.where(draw_discs((200, 200), 40, 12) > 0, 150.0, background)
    plane = prepare_plane(image)
    assert plane is not None and plane.field is None


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [0.0, 255.0])
def test_dead_lines_are_mended(axis: int, value: float) -> None:
    image = RNG.normal(100, 5, (120, 130)) + 80 * draw_discs((120, 130), 40, 10)
    clean = prepare_plane(image)
    broken = np.moveaxis(image.copy(), axis, 0)
    broken[[30, 77]] = value
    mended = prepare_plane(np.moveaxis(broken, 0, axis))
    assert clean is not None and mended is not None
    assert np.abs(clean.pixels - mended.pixels).max() < 0.6
    assert np.abs(clean.pixels - mended.pixels).mean() < 0.05


def test_an_empty_plane_beside_full_ones_stays_dark() -> None:
    full = RNG.normal(100, 2, (100, 100)) + 500 * draw_discs((100, 100), 30, 8)
    empty = RNG.normal(100, 2, (100, 100))
    plane = prepare_plane(empty, StackRange.of([full, full, empty]))
    assert plane is not None and plane.pixels.std() < 0.05


def test_noise_is_told_from_objects() -> None:
    truth = ndi.label(draw_discs((200, 200), 40, 9))[0].astype(np.int32)
    pixels = RNG.normal(0, 0.1, truth.shape).astype(np.float32)
    assert instances.find_noise(truth, pixels, 0.1, 1.0).all()
    seen = pixels + 0.15 * (truth > 0)
    assert not instances.find_noise(truth, seen, 0.1, 1.0).any()
    kept = instances.remove_objects(truth, np.arange(truth.max()) % 2 == 0)
    assert kept.max() == truth.max() // 2


def test_an_unsure_object_is_less_sure() -> None:
    image = draw_discs((100, 100), 50, 12)
    maps = ExactMaps().predict(image[None])[0]
    labels = instances.segment_maps(maps)
    clear = instances.measure_sureness(maps, labels)
    pale, odd = maps.copy(), maps.copy()
    pale[0] *= 0.6
    odd[3] = np.where(image > 0, np.log2(60) / SIZE_OCTAVES, 0)
    for other in (pale, odd):
        assert (instances.measure_sureness(other, labels) < clear - 0.2).all()
    assert len(instances.measure_sureness(maps, np.zeros_like(labels))) == 0
