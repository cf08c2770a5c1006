"""Pooled tables of many stacks, the summary of wells, and the report of a batch."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from napari_sam2.measurement.pooling import pool_tables, summarise_wells
from napari_sam2.measurement.report.batch_report import render_batch_report

WELLS = {"b1": "B03", "b2": "B03", "c1": "C01", "d1": "D01"}
TRACKS = {
    "b1": pd.DataFrame(
        {
            "track": [1, 2],
            "category": ["large", "small"],
            "mean_area_px": [90.0, 10.0],
            "mean_c0": [5.0, 7.0],
        }
    ),
    "b2": pd.DataFrame(
        {
            "track": [1],
            "category": ["large"],
            "mean_area_px": [110.0],
            "mean_c0": [9.0],
            "volume_um3": [2.0],
        }
    ),
    "c1": pd.DataFrame(
        {"track": [1], "category": ["small"], "mean_area_px": [20.0], "mean_c0": [1.0]}
    ),
    "d1": pd.DataFrame({"track": [], "category": [], "mean_area_px": [], "mean_c0": []}),
}
COUNTS = {
    name: pd.DataFrame({"frame": ["0", "all"], "category": ["", "all"], "n": [len(table)] * 2})
    for name, table in TRACKS.items()
}


def test_pooled_table_has_all_rows_with_stack_and_well() -> None:
    tracks = pool_tables(TRACKS, WELLS)
    assert list(tracks.columns[:3]) == ["stack", "well", "track"]
    assert tracks[["stack", "well"]].apply(tuple, axis=1).tolist() == [("b1", "B03")] * 2 + [
        ("b2", "B03"),
        ("c1", "C01"),
    ]
    assert tracks["volume_um3"].isna().tolist() == [True, True, False, True]


def test_wells_are_summarised_by_category() -> None:
    wells: Any = summarise_wells(pool_tables(COUNTS, WELLS), pool_tables(TRACKS, WELLS)).set_index(
        ["well", "category"]
    )
    assert wells["n"].to_dict() == {
        ("B03", "large"): 2, ("B03", "small"): 1, ("B03", "all"): 3,
        ("C01", "large"): 0, ("C01", "small"): 1, ("C01", "all"): 1,
        ("D01", "large"): 0, ("D01", "small"): 0, ("D01", "all"): 0,
    }  # fmt: skip
    assert wells.loc["B03", "stacks"].tolist() == [2, 2, 2]
    assert wells.loc[("B03", "all"), ["n_mean", "n_std", "mean_area_px", "mean_c0"]].tolist() == [
        1.5,
        pytest.approx(0.5**0.5),
        70.0,
        7.0,
    ]
    assert wells.loc["D01", ["mean_area_px", "mean_c0"]].isna().all(axis=None)


@pytest.mark.parametrize(
    "tables", [TRACKS, {"d1": TRACKS["d1"]}, {}], ids=["objects", "none found", "nothing readable"]
)
def test_batch_report_shows_results_and_failures(tables: dict[str, pd.DataFrame]) -> None:
    names = [*tables, "<bad>"]
    summary = pd.DataFrame(
        {
            "stack": names,
            "well": [WELLS.get(name, "") for name in names],
            "state": ["done"] * len(tables) + ["failed"],
        }
    )
    summary = summary.assign(
        objects=pd.array([*(len(table) for table in tables.values()), None], dtype="Int64"),
        masks=1,
        seconds=1.0,
        error="broken & lost",
    )
    counts, tracks = (
        pool_tables({name: COUNTS[name] for name in tables}, WELLS),
        pool_tables(tables, WELLS),
    )
    page = render_batch_report(
        "plate 1",
        summary,
        tracks,
        summarise_wells(counts, tracks) if len(counts) else pd.DataFrame(),
    )
    assert "&lt;bad&gt;" in page and "<bad>" not in page and "broken &amp; lost" in page
    assert ("Plate" in page) == bool(tables)
    assert page.count("data:image/png") == (0 if not tables else 4 if len(tables) > 1 else 2)
