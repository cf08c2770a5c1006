"""Agreement with ground truth, compared with results by hand and by brute force."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_sam2.core.errors import LabelsError, MeasurementError
from napari_sam2.core.stack import Stack
from napari_sam2.measurement import evaluate
from napari_sam2.measurement.label_overlap import LabelOverlap, assign
from tests.measurement.conftest import draw_square


def plane(*squares: tuple[int, int, int, int]) -> np.ndarray:
    """A (40, 60) plane of squares (label, top, left, side)."""
    empty = np.zeros((40, 60), np.uint16)
    for label, top, left, side in squares:
        draw_square(empty, label, top, left, side)
    return empty


TWO = plane((1, 5, 5, 10), (2, 5, 30, 10))
CASES = {
    "the same": (
        TWO,
        {"iou": 1, "dice": 1, "precision": 1, "recall": 1, "f1": 1, "ap": 1, "count_error": 0},
    ),
    "other ids": (np.where(TWO, 70000 - TWO.astype(np.uint32), 0), {"iou": 1, "f1": 1, "ap": 1}),
    "one missed": (
        plane((1, 5, 5, 10)),
        {
            "iou": 0.5,
            "precision": 1,
            "recall": 0.5,
            "ap_50": 0.5,
            "count_error": -1,
            "count_error_abs": 1,
        },
    ),
    "one too many": (
        plane((1, 5, 5, 10), (2, 5, 30, 10), (3, 30, 50, 5)),
        {"iou": 1, "precision": 2 / 3, "recall": 1, "count_error": 1},
    ),
    "nothing found": (
        plane(),
        {"iou": 0, "recall": 0, "precision": np.nan, "f1": 0, "ap": 0, "count_error": -2},
    ),
    "shrunk to 0.64": (
        plane((1, 5, 5, 8), (2, 5, 30, 8)),
        {"iou": 0.64, "dice": 128 / 164, "ap_60": 1, "ap_65": 0, "ap": 0.3},
    ),
    "merged": (
        plane() + (np.maximum.reduce([TWO > 0]) * 5).astype(np.uint16),
        {"iou": 0.25, "recall": 0.5, "count_error": -1, "ap_50": 0.5},
    ),
    "far away": (plane((1, 25, 5, 10), (2, 25, 30, 10)), {"iou": 0, "f1": 0, "count_error": 0}),
}


@pytest.mark.parametrize(("predicted", "expected"), CASES.values(), ids=CASES)
def test_agreement_of_one_plane_as_counted_by_hand(predicted: np.ndarray, expected: Any) -> None:
    row = evaluate(predicted, TWO).table.iloc[-1]
    assert {name: row[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_columns_and_rows_of_the_table() -> None:
    table = evaluate(np.stack([TWO] * 3), np.stack([TWO] * 3)).table
    levels = [f"ap_{percent}" for percent in range(50, 100, 5)]
    counted = ["frame", "n_truth", "n_predicted", "count_error", "count_error_abs"]
    assert list(table.columns) == [
        *counted,
        "iou",
        "dice",
        "precision",
        "recall",
        "f1",
        *levels,
        "ap",
        "boundary_f",
    ]
    assert table["frame"].tolist() == ["0", "1", "2", "all"]
    assert table["n_truth"].tolist() == [2, 2, 2, 6]


def test_absolute_count_errors_of_frames_do_not_cancel() -> None:
    result = evaluate(np.stack([plane(), TWO]), np.stack([TWO, plane()]))
    assert result.table["count_error"].tolist() == [-2, 2, 0]
    assert result.table["count_error_abs"].tolist() == [2, 2, 4]
    assert (
        result.overall["count_error_per_frame"],
        result.overall["count_error_abs_per_frame"],
    ) == (0, 2)


def test_frames_without_truth_do_not_change_the_mean_iou() -> None:
    assert (
        evaluate(np.stack([TWO, plane(), plane()]), np.stack([TWO, plane(), plane()])).overall[
            "iou"
        ]
        == 1
    )


def test_objects_table_has_each_true_object_and_its_match() -> None:
    rows = evaluate(plane((9, 5, 5, 10)), TWO).objects
    assert rows["truth"].tolist() == [1, 2]
    assert rows["predicted"].iloc[0] == 9
    assert rows["predicted"].isna().iloc[1]
    assert rows["iou"].tolist() == [1, 0]


def test_number_of_matches_has_priority_over_their_sum() -> None:
    # true A and B, predicted p and q: only A-p reaches 0.5, although A-q and B-p sum to more
    overlap = LabelOverlap(
        *(
            np.array(values)
            for values in (
                [1, 2],
                [100, 100],
                [1, 2],
                [100, 100],
                [0, 0, 1],
                [0, 1, 0],
                [67, 57, 57],
            )
        )
    )  # IoU 0.504, 0.399, 0.399
    assert overlap.match_pairs().tolist() == [True, False, False]


def test_assignment_is_the_best_of_all_permutations() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        gain = np.where(random.random((5, 5)) < 0.5, random.random((5, 5)), 0)
        first, second = np.nonzero(gain)
        chosen = assign(first, second, gain[first, second])
        assert len(set(first[chosen])) == len(set(second[chosen])) == chosen.sum()
        best = max(
            sum(gain[row, column] for row, column in enumerate(order))
            for order in itertools.permutations(range(5))
        )
        assert gain[first, second][chosen].sum() == pytest.approx(best)


def test_overlap_equals_a_loop_over_pairs() -> None:
    random = np.random.default_rng(4)
    truth, predicted = (random.integers(0, 6, (30, 30)).astype(np.uint16) * 1000 for _ in range(2))
    overlap = LabelOverlap.of(truth, predicted)
    found = {
        (overlap.first[i], overlap.second[j]): iou
        for i, j, iou in zip(overlap.first_index, overlap.second_index, overlap.iou, strict=True)
    }
    for a, b in itertools.product(range(1000, 6000, 1000), repeat=2):
        assert (
            found[a, b]
            == ((truth == a) & (predicted == b)).sum() / ((truth == a) | (predicted == b)).sum()
        )


LEFT, RIGHT = (1, 5, 5, 10), (2, 5, 30, 10)
TRACKS = {
    "kept": ([(1, 2), (1, 2), (1, 2), (1, 2)], "overlap", [1, 1], ["same", "same"]),
    "other ids": ([(8, 9)] * 4, "overlap", [1, 1], ["same", "same"]),
    "other ids, by id": ([(8, 9)] * 4, "id", [0, 0], ["lost", "lost"]),
    "swapped at the end": (
        [(1, 2), (1, 2), (1, 2), (2, 1)],
        "overlap",
        [0.75, 0.75],
        ["other", "other"],
    ),
    "swapped throughout": ([(2, 1)] * 4, "overlap", [1, 1], ["same", "same"]),
    "swapped throughout, by id": ([(2, 1)] * 4, "id", [0, 0], ["other", "other"]),
    "one lost": ([(1, 2), (1, 2), (1, 0), (1, 0)], "overlap", [1, 0.5], ["same", "lost"]),
    "one merged into the other": (
        [(1, 2), (1, 2), (1, 2), (1, 1)],
        "overlap",
        [7 / 8, 0.75],
        ["same", "lost"],
    ),
}


@pytest.mark.parametrize(("ids", "match", "iou", "end"), TRACKS.values(), ids=TRACKS)
def test_tracks_of_two_resting_objects(
    ids: Any, match: Any, iou: list[float], end: list[str]
) -> None:
    predicted = np.stack([plane((a, *LEFT[1:]), (b, *RIGHT[1:])) for a, b in ids])
    result = evaluate(predicted, np.stack([TWO] * 4), tracks=True, match=match)
    assert result.tracks is not None
    assert result.tracks["iou"].tolist() == iou
    assert result.tracks["end"].tolist() == end
    assert result.overall["ended_on_other"] == end.count("other") / 2


def test_no_two_tracks_of_the_truth_share_one_predicted_track() -> None:
    merged = (TWO > 0).astype(np.uint8)
    tracks = evaluate(np.stack([merged] * 2), np.stack([TWO] * 2), tracks=True).tracks
    assert tracks is not None
    assert tracks["predicted"].isna().sum() == 1
    assert sorted(tracks["iou"]) == [0, 0.5]


def test_whole_track_iou_includes_frames_without_truth() -> None:
    truth = np.stack([plane(LEFT), plane(), plane()])
    tracks = evaluate(np.stack([plane(LEFT)] * 3), truth, tracks=True).tracks
    assert tracks is not None
    row = tracks.iloc[0]
    assert (row["iou"], row["iou_whole"], row["n_frames"]) == (1, pytest.approx(1 / 3), 1)


def test_tracks_are_compared_only_on_request() -> None:
    result = evaluate(TWO, TWO)
    assert result.tracks is None
    assert "tracks" not in result.to_dict()
    assert "track_iou" not in result.overall


@pytest.mark.parametrize("labels", [TWO, plane()], ids=["objects", "none"])
@pytest.mark.parametrize("tracks", [False, True])
def test_agreement_converts_to_json(labels: Any, tracks: bool) -> None:
    result = evaluate(plane(), labels, tracks=tracks)
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["overall"]["precision"] is None
    assert [level["iou"] for level in plain["thresholds"]] == [
        percent / 100 for percent in range(50, 100, 5)
    ]
    assert plain["frames"][0]["n_truth"] == len(np.unique(labels)) - 1


def test_leading_axes_are_flattened_in_order() -> None:
    truth = np.stack([TWO, plane(LEFT), TWO, plane()])
    stacked = Stack(truth.reshape(2, 2, 40, 60), "tzyx")
    assert evaluate(stacked, truth).table["n_predicted"].tolist() == [2, 1, 2, 0, 5]


@pytest.mark.parametrize(
    ("predicted", "options", "message"),
    [
        (TWO[:, :50], {}, r"\(1, 40, 50\).*expected \(1, 40, 60\)"),
        (np.stack([TWO] * 2), {}, r"\(2, 40, 60\)"),
        (TWO.astype(float), {}, "whole numbers"),
        (TWO > 0, {}, "whole numbers"),
    ],
    ids=["width", "frames", "float", "bool"],
)
def test_labels_that_cannot_be_compared_raise(
    predicted: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabelsError, match=message):
        evaluate(predicted, TWO, **options)


def test_unknown_match_raises() -> None:
    with pytest.raises(MeasurementError, match="'name'"):
        evaluate(TWO, TWO, match="name")  # type: ignore[arg-type]


def test_real_labels_agree_with_themselves_and_less_with_an_eroded_copy(
    shared_folder: Path,
) -> None:
    folder = shared_folder / "data" / "zstack_nuclei_cells3d"
    labels = tifffile.imread(folder / "nuclei_label.tif")[20:40]
    inner = np.where(
        np.logical_and.reduce(
            [labels == np.roll(labels, shift, axis) for shift in (1, -1) for axis in (1, 2)]
        ),
        labels,
        0,
    )
    same, less = evaluate(labels, labels, tracks=True), evaluate(inner, labels, tracks=True)
    assert same.overall["track_iou"] == same.overall["ap"] == 1
    assert less.tracks is not None
    for row in less.tracks.itertuples():
        one, other = labels == row.truth, inner == row.truth
        assert row.iou_whole == pytest.approx((one & other).sum() / (one | other).sum())
    assert less.overall["track_iou"] < 1
