"""Tables of tracks and counts, compared with the pixels."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_sam2.core.errors import MeasurementError
from napari_sam2.core.stack import Spacing
from napari_sam2.core.track import Track
from napari_sam2.measurement import count_objects, measure_objects, measure_tracks
from tests.measurement.conftest import MakeVideo, draw_square

NAMED = [
    Track(1, category="nucleus"),
    Track(2, category="nucleus", parent=1),
    Track(3, category="vesicle"),
]


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Labels and pixels of five frames; track 1 is on 0 to 2, track 2 on 2 and 4, track 3 on 4."""
    labels = np.zeros((5, 24, 40), np.uint16)
    for frame, label, left, side in [
        (0, 1, 2, 4),
        (1, 1, 2, 5),
        (2, 1, 2, 6),
        (2, 2, 18, 3),
        (4, 2, 18, 4),
        (4, 3, 30, 2),
    ]:
        draw_square(labels[frame], label, 8, left, side)
    pixels = np.random.default_rng(3).integers(0, 60000, (5, 2, 24, 40)).astype(np.uint16)
    return labels, pixels


def make_table(
    make_video: MakeVideo,
    scene: tuple[np.ndarray, np.ndarray],
    along: str = "t",
    **kwargs: Any,
) -> pd.DataFrame:
    labels, pixels = scene
    video = (
        make_video(np.swapaxes(pixels, 0, 1), "czyx", **kwargs)
        if along == "z"
        else make_video(pixels, "tcyx", **kwargs)
    )
    return measure_tracks(measure_objects(video, labels, tracks=NAMED), video, NAMED).set_index(
        "track"
    )


def test_columns_of_a_time_lapse(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    table = make_table(make_video, scene).reset_index()
    head = [
        "track",
        "category",
        "parent",
        "first_frame",
        "last_frame",
        "n_frames",
        "duration_s",
        "mean_area_um2",
    ]
    quantities = ["mean", "sum", "min", "max", "std", "background", "corrected_sum"]
    fixed = head + [f"{name}_c{channel}" for channel in range(2) for name in quantities]
    assert list(table.columns)[: len(fixed)] == fixed


def test_first_last_frames_duration_parent_and_category(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    table = make_table(make_video, scene)
    assert table[["first_frame", "last_frame", "n_frames"]].to_numpy().tolist() == [
        [0, 2, 3],
        [2, 4, 2],
        [4, 4, 1],
    ]
    assert table["duration_s"].tolist() == [120, 120, 0]
    assert table["category"].tolist() == ["nucleus", "nucleus", "vesicle"]
    assert [None if pd.isna(parent) else parent for parent in table["parent"]] == [None, 1, None]
    assert table["mean_area_um2"].tolist() == [(16 + 25 + 36) / 3 / 8, 12.5 / 8, 4 / 8]


def test_volume_of_a_track_is_that_of_its_voxels(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    table = make_table(make_video, scene, along="z")
    assert "duration_s" not in table.columns
    assert table["volume_um3"].tolist() == [77 * 0.25, 25 * 0.25, 4 * 0.25]


def test_unknown_spacing_and_interval_give_empty_cells(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    for along, column in (("t", "duration_s"), ("z", "volume_um3")):
        assert (
            make_table(make_video, scene, along=along, spacing=Spacing())[[column, "mean_area_um2"]]
            .isna()
            .all(axis=None)
        )


@pytest.mark.parametrize("channel", [0, 1])
def test_intensities_are_those_of_all_pixels_of_all_frames(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray], channel: int
) -> None:
    labels, pixels = scene
    table = make_table(make_video, scene)
    for track in (1, 2, 3):
        values = pixels[:, channel][labels == track].astype(float)
        found = table.loc[
            track, [f"{name}_c{channel}" for name in ("mean", "sum", "min", "max", "std")]
        ].astype(float)
        np.testing.assert_allclose(
            found,
            [values.mean(), values.sum(), values.min(), values.max(), values.std()],
            rtol=1e-12,
        )


def test_corrected_sum_equals_sum_minus_background(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    table, pixels = make_table(make_video, scene), np.array([77, 25, 4])
    np.testing.assert_allclose(
        table["corrected_sum_c0"], table["sum_c0"] - pixels * table["background_c0"]
    )


def test_background_unknown_on_one_frame_is_unknown_for_the_track(make_video: MakeVideo) -> None:
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[0], labels[1, 2:4, 2:4] = 1, 1
    video = make_video(np.full((2, 8, 8), 9, np.uint8))
    row = measure_tracks(measure_objects(video, labels), video).iloc[0]
    assert row["sum_c0"] == 9 * 68
    assert np.isnan(row["background_c0"])
    assert np.isnan(row["corrected_sum_c0"])


def test_no_objects_give_an_empty_table_of_tracks_and_zero_counts(make_video: MakeVideo) -> None:
    video = make_video(np.zeros((3, 8, 8), np.uint8))
    none = measure_objects(video, np.zeros((3, 8, 8), np.uint8))
    some = measure_tracks(measure_objects(video, np.ones((3, 8, 8), np.uint8)), video)
    empty = measure_tracks(none, video)
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == some.dtypes.to_dict()
    assert count_objects(none, 3).to_numpy().tolist() == [
        ["0", "", 0],
        ["1", "", 0],
        ["2", "", 0],
        ["all", "all", 0],
    ]


def test_counts_have_all_frames_and_categories_and_total_tracks(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    labels, pixels = scene
    table = count_objects(measure_objects(make_video(pixels, "tcyx"), labels, tracks=NAMED), 5)
    by_frame = [("nucleus", [1, 1, 2, 0, 1]), ("vesicle", [0, 0, 0, 0, 1])]
    expected = [[str(frame), name, n[frame]] for frame in range(5) for name, n in by_frame]
    assert table.to_numpy().tolist() == [
        *expected,
        ["all", "nucleus", 2],
        ["all", "vesicle", 1],
        ["all", "all", 3],
    ]


def test_counts_of_one_category_have_one_total(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    labels, pixels = scene
    table = count_objects(measure_objects(make_video(pixels, "tcyx"), labels), 5)
    assert table["frame"].tolist() == ["0", "1", "2", "3", "4", "all"]
    assert table["n"].tolist() == [1, 1, 2, 0, 2, 3]


def test_tables_read_from_csv_give_the_same_tracks_and_counts(
    make_video: MakeVideo, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    labels, pixels = scene
    video = make_video(pixels, "tcyx")
    table = measure_objects(video, labels, tracks=NAMED[:2])
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    pd.testing.assert_frame_equal(
        measure_tracks(again, video, NAMED), measure_tracks(table, video, NAMED)
    )
    pd.testing.assert_frame_equal(count_objects(again, 5), count_objects(table, 5))


@pytest.mark.parametrize(
    ("table", "message"),
    [(pd.DataFrame({"track": [1]}), "without the columns"), (None, "frames 0 to 4")],
    ids=["another table", "fewer frames"],
)
def test_tables_that_do_not_fit_raise(
    make_video: MakeVideo,
    scene: tuple[np.ndarray, np.ndarray],
    table: pd.DataFrame | None,
    message: str,
) -> None:
    labels, pixels = scene
    with pytest.raises(MeasurementError, match=message):
        count_objects(
            measure_objects(make_video(pixels, "tcyx"), labels) if table is None else table, 3
        )


def test_real_nuclei_are_counted_as_tracks(make_video: MakeVideo, shared_folder: Path) -> None:
    folder = shared_folder / "data" / "zstack_nuclei_cells3d"
    pixels, labels = (
        tifffile.imread(folder / "nuclei.tif"),
        tifffile.imread(folder / "nuclei_label.tif"),
    )
    video = make_video(pixels, "zyx")
    found = measure_objects(video, labels)
    assert count_objects(found, 60)["n"].iloc[-1] == 20
    table = measure_tracks(found, video).set_index("track")
    assert table["volume_um3"].to_dict() == {
        label: (labels == label).sum() * 0.25 for label in range(1, 21)
    }
    np.testing.assert_allclose(
        table["std_c0"],
        [pixels[labels == label].std(dtype=float) for label in range(1, 21)],
        rtol=1e-10,
    )
