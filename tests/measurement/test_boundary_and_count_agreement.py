"""Agreement of outlines and counts, on planes drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from napari_sam2.core.errors import MeasurementError
from napari_sam2.measurement.evaluation.agreement import evaluate
from napari_sam2.measurement.evaluation.boundary import OutlineOverlap
from napari_sam2.measurement.evaluation.count_agreement import compute_count_errors
from napari_sam2.testing.scenes import make_dividing_scene
from tests.measurement.conftest import draw_square

TRUTH = draw_square(np.zeros((40, 40), np.uint8), 1, 10, 10, 16)


@pytest.mark.parametrize(
    ("predicted", "f"),
    [
        (TRUTH, 1.0),
        (np.roll(TRUTH, 2, axis=1), 1.0),
        (np.roll(TRUTH, 20, axis=1), None),
        (np.zeros_like(TRUTH), 0.0),
    ],
    ids=["the same", "within tolerance", "elsewhere", "nothing"],
)
def test_boundary_f(predicted: np.ndarray, f: float | None) -> None:
    found = OutlineOverlap.of(TRUTH, predicted).f_score
    assert found == f if f is not None else found < 0.3
    assert evaluate(predicted, TRUTH).overall["boundary_f"] == found


def test_boundary_without_outlines_is_nan() -> None:
    assert math.isnan(OutlineOverlap.of(np.zeros((9, 9), int), np.zeros((9, 9), int)).f_score)


def test_counts_are_compared_per_frame_and_category() -> None:
    truth = pd.DataFrame(
        {"frame": ["0", "1", "all"], "category": ["a", "a", "all"], "n": [4, 0, 4]}
    )
    ours = pd.DataFrame({"frame": [0, 0, "all"], "category": ["a", "b", "all"], "n": [3, 2, 5]})
    table = compute_count_errors(ours, truth)
    assert table[["frame", "category", "count_error", "count_error_abs"]].to_numpy().tolist() == [
        ["0", "a", -1, 1],
        ["0", "b", 2, 2],
        ["1", "a", 0, 0],
        ["all", "all", 1, 1],
    ]
    assert table["count_error_part"].tolist()[0] == -0.25
    assert table["count_error_part"].isna().tolist() == [False, True, True, False]


def test_other_tables_raise() -> None:
    with pytest.raises(MeasurementError, match="table of counts"):
        compute_count_errors(pd.DataFrame({"n": [1]}), pd.DataFrame({"n": [1]}))


def test_challenge_is_computed_on_request() -> None:
    pytest.importorskip("ctc_metrics")
    scene = make_dividing_scene()
    overall = evaluate(
        scene.labels,
        scene.labels,
        tracks=True,
        challenge=True,
        parents=(scene.parents, scene.parents),
    ).overall
    assert (overall["TRA"], overall["BC(0)"], overall["SEG"]) == (1.0, 1.0, 1.0)
    assert "TRA" not in evaluate(scene.labels, scene.labels, tracks=True).overall
