"""Features of objects, compared with scikit-image, formulas and simulated images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.measure import pearson_corr_coeff, regionprops

from napari_sam2.core.errors import MeasurementError
from napari_sam2.core.track import Track
from napari_sam2.measurement import (
    MeasurementOptions,
    SpotOptions,
    measure_objects,
    measure_track_spots,
    measure_tracks,
)
from napari_sam2.measurement.features.shape import SKIMAGE_LENGTHS
from tests.measurement.conftest import MakeVideo, draw_square


def make_blobs(seed: int = 0, shape: tuple[int, int] = (120, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Labels of irregular objects and 16-bit pixels."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.random(shape), 4)
    labels = ndimage.label(smooth > np.quantile(smooth, 0.7))[0].astype(np.uint16) * 7
    return labels, random.integers(0, 65536, shape).astype(np.uint16)


def test_intensities_and_shapes_equal_those_of_scikit_image(make_video: MakeVideo) -> None:
    labels, pixels = make_blobs()
    table = measure_objects(make_video(pixels[None]), labels).set_index("track")
    theirs = regionprops(labels, pixels.astype(np.float64))
    assert table.index.tolist() == [region.label for region in theirs]
    for region in theirs:
        row, values = table.loc[region.label], region.image_intensity[region.image]
        assert (row["mean_c0"], row["min_c0"], row["max_c0"]) == (
            region.intensity_mean,
            region.intensity_min,
            region.intensity_max,
        )
        assert (row["sum_c0"], row["std_c0"], row["area_px"]) == (
            values.sum(),
            region.intensity_std,
            region.area,
        )
        assert (
            row[["q05_c0", "q25_c0", "median_c0", "q75_c0", "q95_c0"]].tolist()
            == np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
        )
        assert [row[f"{name}_px"] for name in SKIMAGE_LENGTHS] == [
            region[name] for name in SKIMAGE_LENGTHS.values()
        ]
        assert (row["solidity"], row["eccentricity"], row["orientation_rad"]) == (
            region.solidity,
            region.eccentricity,
            region.orientation,
        )


def test_global_background_is_the_median_outside_all_objects(make_video: MakeVideo) -> None:
    labels, pixels = make_blobs(1)
    row = measure_objects(make_video(pixels[None]), labels).iloc[0]
    base = np.median(pixels[labels == 0])
    assert (row["background_global_c0"], row["corrected_sum_global_c0"]) == (
        base,
        row["sum_c0"] - row["area_px"] * base,
    )


def test_parts_holes_and_edges(make_video: MakeVideo) -> None:
    labels = np.zeros((30, 40), np.uint8)
    draw_square(draw_square(labels, 1, 2, 2, 7), 0, 4, 4, 2)
    draw_square(draw_square(labels, 2, 15, 5, 3), 2, 18, 8, 3)  # two squares that touch at a corner
    draw_square(draw_square(labels, 3, 15, 20, 3), 3, 15, 30, 3)
    draw_square(labels, 4, 27, 0, 3)
    table = measure_objects(make_video(np.zeros((1, 30, 40), np.uint8)), labels).set_index("track")
    assert table["holes"].tolist() == [1, 0, 0, 0]
    assert table["parts"].tolist() == [1, 1, 2, 1]
    assert table["on_edge"].tolist() == [False, False, False, True]


def test_circularity_of_a_disc_is_about_one_and_of_a_bar_less(make_video: MakeVideo) -> None:
    y, x = np.mgrid[:100, :200]
    labels = ((y - 50) ** 2 + (x - 50) ** 2 <= 900).astype(np.uint8)
    labels[40:50, 110:190] = 2
    disc, bar = measure_objects(make_video(np.zeros((1, 100, 200), np.uint8)), labels)[
        "circularity"
    ]
    assert disc == pytest.approx(1.0, abs=0.1)
    assert bar == pytest.approx(4 * np.pi * 800 / 180**2, rel=0.15)


@pytest.mark.parametrize(
    ("dtype", "level", "given"),
    [(np.uint16, 65535, {}), (np.uint8, 255, {}), (np.uint16, 4095, {0: 4095})],
    ids=str,
)
def test_saturated_pixels_are_counted_and_flagged(
    make_video: MakeVideo, dtype: Any, level: int, given: dict[int, float]
) -> None:
    labels = draw_square(draw_square(np.zeros((20, 40), np.uint8), 1, 5, 5, 6), 2, 5, 25, 6)
    pixels = np.full((1, 20, 40), 100, dtype)
    pixels[0, 6:8, 6:9] = level
    video = make_video(pixels)
    table = measure_objects(video, labels, options=MeasurementOptions(saturation=given))
    assert table["saturated_px_c0"].tolist() == [6, 0]
    assert table["saturated_c0"].tolist() == [True, False]
    assert measure_tracks(table, video)["saturated_px_c0"].tolist() == [6, 0]


def test_floats_have_no_saturation(make_video: MakeVideo) -> None:
    table = measure_objects(
        make_video(np.full((1, 9, 9), 1e9, np.float32)), np.ones((9, 9), np.uint8)
    )
    assert table[["saturated_px_c0", "saturated_c0"]].isna().all(axis=None)


def make_spots(
    counts: list[int], *, seed: int, noise: float, depth: int = 1, height: float = 400.0
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Pixels, labels and true intensity of discs, or cylinders, with these numbers of spots."""
    random = np.random.default_rng(seed)
    shape = (depth, 90, 90 * len(counts))
    z, y, x = np.indices(shape)
    image, labels, light = np.full(shape, 200.0), np.zeros(shape, np.uint16), []
    for number, count in enumerate(counts):
        middle = np.array([depth // 2, 45, 45 + 90 * number])
        labels[(y - middle[1]) ** 2 + (x - middle[2]) ** 2 <= 36**2] = number + 1
        places: list[np.ndarray] = []
        while len(places) < count:
            place = middle + random.uniform(-1, 1, 3) * [max(0, depth // 2 - 5), 30, 30]
            inside = np.hypot(*(place - middle)[1:]) < 29
            if inside and all(np.linalg.norm(place - other) > 9 for other in places):
                places.append(place)
        image[labels == number + 1] += 800
        spread = 2 * 1.5**2
        for place in places:
            image += height * np.exp(
                -((z - place[0]) ** 2 * (depth > 1) + (y - place[1]) ** 2 + (x - place[2]) ** 2)
                / spread
            )
        one = 2 * np.pi * 1.5**2 * (1 if depth == 1 else np.sqrt(2 * np.pi) * 1.5)
        light.append(count * height * one)
    return np.clip(random.normal(image, noise), 0, 65535).astype(np.uint16), labels, light


@pytest.mark.parametrize(
    "noise", [0.0, 10.0, 40.0], ids=["no noise", "little noise", "a tenth of a spot"]
)
def test_spots_of_simulated_images_are_counted_within_five_percent(
    make_video: MakeVideo, noise: float
) -> None:
    counts = [0, 1, 5, 12, 20]
    found, expected = np.zeros(len(counts)), np.zeros(len(counts))
    for seed in range(4):
        pixels, labels, _ = make_spots(counts, seed=seed, noise=noise)
        found += measure_objects(make_video(pixels), labels)["spots_c0"].to_numpy(dtype=float)
        expected += counts
    assert found[0] == 0
    assert np.abs(found.sum() - expected.sum()) <= 0.05 * expected.sum()
    assert (np.abs(found - expected) <= 0.05 * expected + 1).all()


def test_intensity_of_simulated_spots_is_within_five_percent(make_video: MakeVideo) -> None:
    pixels, labels, light = make_spots([5, 12, 20], seed=9, noise=5.0)
    np.testing.assert_allclose(
        measure_objects(make_video(pixels), labels)["spots_sum_c0"], light, rtol=0.05
    )


def test_spots_of_a_z_stack_count_once_over_all_slices(make_video: MakeVideo) -> None:
    counts = [0, 4, 12]
    pixels, labels, light = make_spots(counts, seed=2, noise=10.0, depth=24)
    video = make_video(pixels, "zyx")
    table = measure_objects(video, labels)
    rows = measure_tracks(table, video, spots=measure_track_spots(video, labels, table)).set_index(
        "track"
    )
    assert rows["spots_c0"].tolist() == counts
    np.testing.assert_allclose(rows["spots_sum_c0"].iloc[1:], light[1:], rtol=0.05)
    assert table.groupby("track")["spots_c0"].sum().loc[3] > counts[2]


def test_edge_of_a_bright_object_is_not_a_spot(make_video: MakeVideo) -> None:
    labels = draw_square(np.zeros((60, 60), np.uint8), 1, 20, 20, 20)
    pixels = np.random.default_rng(1).normal(np.where(labels, 5000, 100), 20).astype(np.uint16)
    assert measure_objects(make_video(pixels[None]), labels)["spots_c0"].tolist() == [0]


def test_columns_that_are_not_measured_are_empty(make_video: MakeVideo) -> None:
    labels, pixels = make_blobs(2)
    video = make_video(pixels[None])
    bare = measure_objects(
        video,
        labels,
        options=MeasurementOptions(
            shape=False, spots=None, cytoplasm_px=None, colocalisation=False
        ),
    )
    assert list(bare.columns) == list(measure_objects(video, labels).columns)
    assert (
        bare[["spots_c0", "spots_sum_c0", "solidity", "on_edge", "nucleus_cytoplasm_c0"]]
        .isna()
        .all(axis=None)
    )


@pytest.mark.parametrize("field", ["sigma_px", "sigma_z", "min_snr"])
def test_invalid_spot_options_raise(field: str) -> None:
    with pytest.raises(MeasurementError, match=field):
        SpotOptions(**{field: 0.0})


def make_nucleus_and_cell() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, x = np.mgrid[:60, :60]
    away = np.hypot(y - 30, x - 30)
    nucleus, cell = (away <= 10).astype(np.uint8), (away <= 20).astype(np.uint8) * 4
    return nucleus, cell, np.select([away <= 10, away <= 20], [900, 300], 100).astype(np.uint16)


@pytest.mark.parametrize("by", ["ring", "cells"])
def test_nucleus_to_cytoplasm_ratio_is_above_the_background(make_video: MakeVideo, by: str) -> None:
    nucleus, cell, pixels = make_nucleus_and_cell()
    row = measure_objects(
        make_video(pixels[None]),
        nucleus,
        options=MeasurementOptions(cells=cell if by == "cells" else None),
    ).iloc[0]
    assert row["cytoplasm_mean_c0"] == 300
    assert row["nucleus_cytoplasm_c0"] == 800 / 200


def test_nucleus_outside_every_cell_has_no_cytoplasm(make_video: MakeVideo) -> None:
    nucleus, cell, pixels = make_nucleus_and_cell()
    row = measure_objects(
        make_video(pixels[None]),
        nucleus,
        options=MeasurementOptions(cells=np.where(nucleus, 0, cell)),
    ).iloc[0]
    assert row[["cytoplasm_mean_c0", "nucleus_cytoplasm_c0"]].isna().all()


def test_pearson_equals_that_of_scikit_image(make_video: MakeVideo) -> None:
    labels, first = make_blobs(3)
    second = (first // 2 + np.random.default_rng(3).integers(0, 9000, first.shape)).astype(
        np.uint16
    )
    table = measure_objects(make_video(np.stack([first, second])[None], "tcyx"), labels)
    expected = [pearson_corr_coeff(first, second, labels == track)[0] for track in table["track"]]
    np.testing.assert_allclose(table["pearson_c0_c1"], expected, rtol=1e-9)


def test_manders_is_the_intensity_where_the_other_channel_has_a_signal(
    make_video: MakeVideo,
) -> None:
    labels = draw_square(np.zeros((40, 40), np.uint8), 1, 10, 10, 20)
    pixels = np.full((2, 40, 40), 100, np.uint16)
    pixels[0, 10:20, 10:30], pixels[1, 10:15, 10:30] = 600, 1100
    row = measure_objects(make_video(pixels[None], "tcyx"), labels).iloc[0]
    assert (row["manders1_c0_c1"], row["manders2_c0_c1"]) == (0.5, 1.0)


def test_three_channels_have_three_pairs(make_video: MakeVideo) -> None:
    table = measure_objects(
        make_video(
            np.random.default_rng(0).integers(0, 99, (1, 3, 20, 20)).astype(np.uint8), "tcyx"
        ),
        np.ones((20, 20), np.uint8),
    )
    assert [name for name in table.columns if name.startswith("pearson")] == [
        "pearson_c0_c1",
        "pearson_c0_c2",
        "pearson_c1_c2",
    ]


def test_origin_and_fate_of_tracks(make_video: MakeVideo) -> None:
    labels = np.zeros((5, 40, 60), np.uint8)
    for frame, label, top, left in [
        *((frame, 1, 5, 5) for frame in range(3)),  # divides into 2 and 3
        *((frame, 2, 2, 5) for frame in (3, 4)),
        *((frame, 3, 9, 5) for frame in (3, 4)),
        *((frame, 4, 20, 5 * frame - 5) for frame in (1, 2)),  # enters at the left, is lost
        *((frame, 5, 20, 30 + 13 * frame) for frame in (0, 1, 2)),  # leaves at the right
        (2, 6, 30, 30),  # comes from nowhere
    ]:
        draw_square(labels[frame], label, top, left, 4)
    video = make_video(np.zeros((5, 40, 60), np.uint8))
    family = [Track(2, parent=1), Track(3, parent=1)]
    rows = measure_tracks(measure_objects(video, labels, tracks=family), video, family)
    assert rows["origin"].tolist() == [
        "start",
        "division",
        "division",
        "entered",
        "start",
        "appeared",
    ]
    assert rows["fate"].tolist() == ["division", "end", "end", "lost", "left", "lost"]


def test_unknown_spacing_leaves_volumes_and_lengths_in_pixels(make_video: MakeVideo) -> None:
    from napari_sam2.core.stack import Spacing

    video = make_video(np.zeros((3, 9, 9), np.uint8), "zyx", spacing=Spacing())
    table = measure_objects(video, np.ones((3, 9, 9), np.uint8))
    row = measure_tracks(table, video).iloc[0]
    assert row["volume_px"] == 243 and pd.isna(row["volume_um3"])
    assert table["perimeter_um"].isna().all() and table["perimeter_px"].notna().all()
