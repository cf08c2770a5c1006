"""Count errors: how far counts are from the true ones, per frame and category."""

from __future__ import annotations

import pandas as pd

from napari_sam2.core.errors import MeasurementError

_COUNT_COLUMNS = ["frame", "category", "n"]


def compute_count_errors(predicted: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """One row per frame and category of either table ``counts.csv``, with the counts of both and how far they differ.

    `n_truth`, `n_predicted`, `count_error` (signed), `count_error_abs`, `count_error_part` (signed,
    by the true count; empty where that is 0). What one of them does not have counts as 0. The rows
    ``all`` are the tracks.

    Raises
    ------
    MeasurementError
        A table without the columns of ``counts.csv``.
    """
    for table in (predicted, truth):
        if not {*_COUNT_COLUMNS} <= {*table.columns}:
            raise MeasurementError(
                f"table of counts with columns {list(table.columns)!r}: expected {_COUNT_COLUMNS!r}"
            )
    keys = ["frame", "category"]
    sides = [
        table[_COUNT_COLUMNS]
        .astype({"frame": "string"})
        .fillna({"category": ""})
        .astype({"category": "string"})
        for table in (truth, predicted)
    ]
    both = (
        sides[0]
        .merge(sides[1], on=keys, how="outer", suffixes=("_truth", "_predicted"), sort=False)
        .fillna({"n_truth": 0, "n_predicted": 0})
    )
    both = both.astype({"n_truth": "int64", "n_predicted": "int64"})
    both["count_error"] = both["n_predicted"] - both["n_truth"]
    both["count_error_abs"] = both["count_error"].abs()
    both["count_error_part"] = (both["count_error"] / both["n_truth"]).where(both["n_truth"] > 0)
    order = pd.to_numeric(both["frame"], errors="coerce").astype("float64").fillna(float("inf"))
    return (
        both.assign(order=order)
        .sort_values(["order", "category"], kind="stable")
        .drop(columns="order")
        .reset_index(drop=True)
    )
