"""Count errors: predicted minus true counts, for each frame and category."""

from __future__ import annotations

import pandas as pd

from napari_sam2.core.errors import MeasurementError

_COUNT_COLUMNS = ["frame", "category", "n"]


def compute_count_errors(predicted: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The differences of two tables ``counts.csv``.

    Returns
    -------
    pd.DataFrame
        One row for each frame and category of either table, sorted by frame; the rows ``all``
        (tracks) come last. The columns are `frame`, `category`, `n_truth`, `n_predicted`,
        `count_error` (signed), `count_error_abs` and `count_error_part` (relative to the true
        count; empty if that is 0). A row that a table lacks counts as 0.

    Raises
    ------
    MeasurementError
        If a table does not have the columns of ``counts.csv``.
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
