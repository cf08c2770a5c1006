"""The table of objects, compared with known numbers and with loops over pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from napari_sam2.core.errors import IntensityError, LabelsError, MeasurementError
from napari_sam2.core.stack import Spacing
from napari_sam2.core.track import Presence, Track
from napari_sam2.measurement import LabelPlanes, TrackStatus, measure_frame_objects, measure_objects
from napari_sam2.measurement.features.regions import RING_GAP_PX, RING_REACH_PX, LabelRegions
from tests.measurement.conftest import MakeVideo, draw_square

FIXED = [
    "track",
    "frame",
    "t",
    "z",
    "category",
    "area_px",
    "area_um2",
    "y",
    "x",
    "y_um",
    "x_um",
    "score",
    "presence",
]
PER_CHANNEL = ["mean", "sum", "min", "max", "std", "background", "corrected_sum"]


def measure_by_loops(plane: np.ndarray, pixels: np.ndarray) -> dict[int, dict[str, float]]:
    """The quantities by loops over pixels, with Python integers."""
    found = {}
    background_pixels = [(y, x) for y, x in np.argwhere(plane == 0)]
    for label in sorted(set(plane.ravel().tolist()) - {0}):
        where = [(int(y), int(x)) for y, x in np.argwhere(plane == label)]
        values = [pixels[at].item() for at in where]
        near = [min((y - v) ** 2 + (x - u) ** 2 for v, u in where) for y, x in background_pixels]
        ring = [
            pixels[y, x].item()
            for (y, x), d in zip(background_pixels, near, strict=True)
            if RING_GAP_PX**2 < d <= RING_REACH_PX**2
        ]
        mean = sum(values) / len(values)
        background = float(np.median(ring or [pixels[y, x].item() for y, x in background_pixels]))
        found[label] = {
            "area_px": len(values),
            "y": sum(y for y, _ in where) / len(where),
            "x": sum(x for _, x in where) / len(where),
            "mean_c0": mean,
            "sum_c0": sum(values),
            "min_c0": min(values),
            "max_c0": max(values),
            "std_c0": (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5,
            "background_c0": background,
            "corrected_sum_c0": sum(values) - len(values) * background,
        }
    return found


def test_columns_and_their_order(make_video: MakeVideo) -> None:
    table = measure_objects(
        make_video(np.zeros((2, 3, 8, 8), np.uint8), "tcyx"), np.ones((2, 8, 8), np.uint8)
    )
    fixed = FIXED + [
        f"{name}_c{channel}" for channel in range(3) for name in (*PER_CHANNEL, "spots")
    ]
    assert list(table.columns)[: len(fixed)] == fixed
    assert len(set(table.columns)) == len(table.columns)


def test_square_on_a_flat_background(make_video: MakeVideo) -> None:
    labels = draw_square(np.zeros((1, 40, 40), np.uint8)[0], 3, 10, 20, 6)[None]
    pixels = np.where(labels == 3, 1100, 100).astype(np.uint16)
    row = measure_objects(make_video(pixels), labels).iloc[0]
    expected = {
        "track": 3,
        "frame": 0,
        "t": 0,
        "area_px": 36,
        "area_um2": 4.5,
        "y": 12.5,
        "x": 22.5,
        "y_um": 6.25,
        "x_um": 5.625,
    }
    expected |= {
        "mean_c0": 1100,
        "sum_c0": 39600,
        "min_c0": 1100,
        "max_c0": 1100,
        "std_c0": 0,
        "background_c0": 100,
        "corrected_sum_c0": 36000,
    }
    assert {name: row[name] for name in expected} == expected
    assert pd.isna(row["z"])
    assert pd.isna(row["score"])
    assert pd.isna(row["presence"])
    assert row["category"] == ""


def test_ramp_across_a_disc_has_its_analytic_sum(make_video: MakeVideo) -> None:
    y, x = np.mgrid[:64, :64]
    labels = ((y - 30) ** 2 + (x - 32) ** 2 <= 100).astype(np.uint32)
    row = measure_objects(make_video((1000 * x + 7).astype(np.uint16)[None]), labels).iloc[0]
    area = int(labels.sum())
    assert row["sum_c0"] == area * (
        1000 * 32 + 7
    )  # a disc is symmetric about its centre column, and so is its ring
    assert row["background_c0"] == 1000 * 32 + 7
    assert row["corrected_sum_c0"] == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64], ids=str)
def test_table_equals_loops_over_pixels(make_video: MakeVideo, dtype: Any) -> None:
    random = np.random.default_rng(5)
    labels = ndimage.zoom(random.integers(0, 4, (6, 6)), 4, order=0).astype(np.uint16)
    pixels = (
        random.integers(0, 200, labels.shape)
        + (random.random(labels.shape) if np.dtype(dtype).kind == "f" else 0)
    ).astype(dtype)
    table = measure_objects(make_video(pixels[None]), labels).set_index("track")
    expected = pd.DataFrame(measure_by_loops(labels, pixels)).T
    assert expected.index.tolist() == table.index.tolist()
    pd.testing.assert_frame_equal(
        table[expected.columns].astype(float),
        expected,
        check_names=False,
        rtol=1e-9,
        check_index_type=False,
    )


def test_saturated_16_bit_sums_are_exact(make_video: MakeVideo) -> None:
    labels = np.zeros((300, 300), np.uint8)
    labels[5:-5, 5:-5] = 1
    row = measure_objects(make_video(np.full((1, 300, 300), 65535, np.uint16)), labels).iloc[0]
    assert (row["sum_c0"], row["std_c0"], row["corrected_sum_c0"]) == (65535 * 290 * 290, 0, 0)


def test_float32_pixels_far_from_zero_keep_their_spread(make_video: MakeVideo) -> None:
    pixels = np.tile(np.array([1e6, 1e6 + 1], np.float32), (1, 200, 100))
    labels = np.ones((200, 200), np.uint8)
    row = measure_objects(make_video(pixels), labels).iloc[0]
    assert row["mean_c0"] == 1e6 + 0.5
    assert row["std_c0"] == 0.5


def test_all_channels_are_measured(make_video: MakeVideo) -> None:
    pixels = np.stack([np.full((2, 20, 20), value, np.uint16) for value in (10, 20, 30)], axis=1)
    labels = np.stack([draw_square(np.zeros((20, 20), np.uint8), 1, 8, 8, 3)] * 2)
    table = measure_objects(make_video(pixels, "tcyx"), labels)
    assert table[["mean_c0", "mean_c1", "mean_c2"]].to_numpy().tolist() == [[10, 20, 30]] * 2


@pytest.mark.parametrize(
    ("axes", "along", "t", "z"),
    [
        ("zyx", "z", [None, None], [0, 1]),
        ("tyx", "t", [0, 1], [None, None]),
        ("tzyx", "z", [0, 0], [0, 1]),
        ("tzyx", "t", [0, 1], [0, 0]),
    ],
    ids=["z-stack", "time-lapse", "z of a 4D stack", "t of a 4D stack"],
)
def test_t_and_z_are_indices_or_empty(
    make_video: MakeVideo, axes: str, along: str, t: list[int | None], z: list[int | None]
) -> None:
    table = measure_objects(
        make_video(np.zeros((2,) * (len(axes) - 2) + (9, 9), np.uint8), axes, along=along),
        np.ones((2, 9, 9), np.uint8),
    )
    assert [None if pd.isna(value) else value for value in table["t"]] == t
    assert [None if pd.isna(value) else value for value in table["z"]] == z


def test_unknown_spacing_gives_empty_cells(make_video: MakeVideo, tmp_path: Path) -> None:
    table = measure_objects(
        make_video(np.zeros((1, 9, 9), np.uint8), spacing=Spacing()), np.ones((9, 9), np.uint8)
    )
    assert table[["area_um2", "y_um", "x_um"]].isna().all(axis=None)
    assert table["area_px"].tolist() == [81]
    table.to_csv(tmp_path / "o.csv", index=False)
    assert (tmp_path / "o.csv").read_text().splitlines()[1].startswith("1,0,0,,,81,,4.0,4.0,,,,,")


@pytest.mark.parametrize("ids", [[1], [70000], [4294967295], [1, 255, 65536, 70000]], ids=str)
def test_one_pixel_objects_with_large_ids(make_video: MakeVideo, ids: Any) -> None:
    labels = np.zeros((12, 40), np.uint32)
    labels[6, 3 + 10 * np.arange(len(ids))] = ids
    pixels = np.arange(480, dtype=np.uint16).reshape(1, 12, 40)
    table = measure_objects(make_video(pixels), labels)
    assert table["track"].tolist() == ids
    assert table["sum_c0"].tolist() == [240 + 3 + 10 * number for number in range(len(ids))]
    assert table["std_c0"].tolist() == [0] * len(ids)


def test_stack_without_objects_gives_an_empty_table_with_all_columns(make_video: MakeVideo) -> None:
    full = measure_objects(make_video(np.zeros((3, 8, 8), np.uint8)), np.ones((3, 8, 8), np.uint8))
    table = measure_objects(
        make_video(np.zeros((3, 8, 8), np.uint8)), np.zeros((3, 8, 8), np.uint8)
    )
    assert len(table) == 0
    assert table.dtypes.to_dict() == full.dtypes.to_dict()


def test_object_that_fills_the_frame_has_no_background(make_video: MakeVideo) -> None:
    row = measure_objects(
        make_video(np.full((1, 8, 8), 5, np.uint8)), np.ones((8, 8), np.uint8)
    ).iloc[0]
    assert row["sum_c0"] == 320
    assert np.isnan(row["background_c0"])
    assert np.isnan(row["corrected_sum_c0"])


def test_background_of_an_object_whose_ring_is_empty_is_that_of_the_frame(
    make_video: MakeVideo,
) -> None:
    labels = np.full((60, 60), 2, np.uint8)
    draw_square(labels, 1, 20, 20, 5)
    labels[:, 40:] = 0
    pixels = np.where(labels == 0, 77, 900).astype(np.uint16)
    assert LabelRegions.of(labels).rings[0].size == 0
    assert measure_objects(make_video(pixels[None]), labels)["background_c0"].tolist() == [77, 77]


def test_bright_neighbour_is_not_background(make_video: MakeVideo) -> None:
    labels = draw_square(draw_square(np.zeros((30, 40), np.uint8), 1, 10, 10, 8), 2, 10, 21, 8)
    pixels = np.select([labels == 2, labels == 1], [60000, 500], 40).astype(np.uint16)
    assert measure_objects(make_video(pixels[None]), labels)["background_c0"].tolist() == [40, 40]


def test_statuses_and_tracks_fill_cells_but_add_no_rows(make_video: MakeVideo) -> None:
    facts = {
        (1, 0): TrackStatus(0.9, Presence.PROMPTED),
        (1, 1): TrackStatus(None, Presence.TRACKED),
        (2, 0): TrackStatus(0.1, Presence.ABSENT),
    }
    labels = np.ones((2, 9, 9), np.uint8)
    table = measure_objects(
        make_video(np.zeros((2, 9, 9), np.uint8)),
        labels,
        statuses=facts,
        tracks=[Track(1, category="nucleus")],
    )
    assert table["track"].tolist() == [1, 1]
    assert table["presence"].tolist() == ["prompted", "tracked"]
    assert table["score"].iloc[0] == 0.9
    assert np.isnan(table["score"].iloc[1])
    assert table["category"].tolist() == ["nucleus"] * 2


@pytest.mark.parametrize("kind", ["array", "list", "callable", "LabelPlanes"])
def test_labels_of_any_kind_give_the_same_table(make_video: MakeVideo, kind: str) -> None:
    labels = np.random.default_rng(1).integers(0, 3, (3, 9, 9)).astype(np.uint8)
    video = make_video(np.zeros((3, 9, 9), np.uint8))
    given = {
        "array": labels,
        "list": list(labels),
        "callable": lambda frame: labels[frame],
        "LabelPlanes": LabelPlanes.of(labels),
    }[kind]
    pd.testing.assert_frame_equal(measure_objects(video, given), measure_objects(video, labels))


def test_rows_of_one_frame_equal_those_of_the_whole_table(make_video: MakeVideo) -> None:
    random = np.random.default_rng(2)
    labels, video = (
        random.integers(0, 4, (3, 20, 20)).astype(np.uint16),
        make_video(random.integers(0, 99, (3, 20, 20)).astype(np.uint8)),
    )
    whole = measure_objects(video, labels)
    pd.testing.assert_frame_equal(
        measure_frame_objects(video, 1, labels[1]),
        whole[whole["frame"] == 1].reset_index(drop=True),
    )


def test_one_plane_of_labels_is_read_at_a_time(make_video: MakeVideo) -> None:
    class Watched:
        shape, dtype, asked = (3, 9, 9), np.dtype(np.uint8), []

        def __getitem__(self, index: tuple[int, ...]) -> np.ndarray:
            self.asked.append(index)
            return np.ones((9, 9), np.uint8)

    measure_objects(make_video(np.zeros((3, 9, 9), np.uint8)), Watched())
    assert Watched.asked == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((2, 9, 8), np.uint8), r"\(2, 9, 8\).*expected \(2, 9, 9\)"),
        (np.ones((3, 9, 9), np.uint8), r"expected \(2, 9, 9\)"),
        (np.ones(9, np.uint8), "expected \\(H, W\\)"),
        (np.ones((2, 9, 9)), "float64.*whole numbers"),
        (np.ones((2, 9, 9), bool), "bool.*whole numbers"),
        (np.full((2, 9, 9), -1), "from -1 to -1"),
        (np.full((2, 9, 9), 2**33), "frame 0: .*expected 0 \\(background\\) to 4294967295"),
        (lambda frame: np.ones((9, 8), np.uint8), r"frame 0: label plane of shape \(9, 8\)"),
        (lambda frame: np.ones((9, 9)), "frame 0: .*float64"),
    ],
    ids=[
        "width",
        "frames",
        "one axis",
        "float",
        "bool",
        "negative",
        "too large",
        "plane of another shape",
        "float plane",
    ],
)
def test_labels_that_do_not_fit_raise(make_video: MakeVideo, labels: Any, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        measure_objects(make_video(np.zeros((2, 9, 9), np.uint8)), labels)


def test_nan_in_any_channel_raises(make_video: MakeVideo) -> None:
    pixels = np.zeros((1, 2, 9, 9), np.float32)
    pixels[0, 1, 0, 0] = np.nan
    with pytest.raises(IntensityError, match="frame 0"):
        measure_objects(make_video(pixels, "tcyx"), np.ones((9, 9), np.uint8))


def test_nan_score_raises() -> None:
    with pytest.raises(MeasurementError, match="nan"):
        TrackStatus(float("nan"), Presence.TRACKED)


def test_real_nuclei_agree_with_scipy(make_video: MakeVideo, shared_folder: Path) -> None:
    folder = shared_folder / "data" / "zstack_nuclei_cells3d"
    pixels, labels = (
        tifffile.imread(folder / "nuclei.tif"),
        tifffile.imread(folder / "nuclei_label.tif"),
    )
    table = measure_objects(make_video(pixels, "zyx"), labels)
    for frame in (25, 34, 51):
        ids = np.unique(labels[frame])[1:]
        here = table[table["frame"] == frame]
        assert here["track"].tolist() == ids.tolist()
        for column, measure in (
            ("sum_c0", ndimage.sum_labels),
            ("min_c0", ndimage.minimum),
            ("max_c0", ndimage.maximum),
        ):
            np.testing.assert_allclose(
                here[column], measure(pixels[frame].astype(float), labels[frame], ids), rtol=1e-12
            )
        np.testing.assert_allclose(
            here[["y", "x"]],
            ndimage.center_of_mass(np.ones(labels[frame].shape), labels[frame], ids),
            rtol=1e-12,
        )
    assert table["area_px"].sum() == np.count_nonzero(labels)
    assert (table["background_c0"] < table["mean_c0"]).mean() > 0.95
