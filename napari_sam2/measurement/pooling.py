"""Pooling: the tables of many stacks as one, and what came of each well of a plate."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from napari_sam2.measurement.counts import ALL

STACK_COLUMNS = ("stack", "well")
"""The columns that come first in every table over many stacks."""

_AVERAGED_PATTERN = re.compile(
    r"volume_(um3|px)|mean_area_(um2|px)|duration_s|(mean|corrected_sum|spots|spots_sum)_c\d+"
)


def pool_tables(tables: Mapping[str, pd.DataFrame], wells: Mapping[str, str]) -> pd.DataFrame:
    """One tidy table of the same table of many stacks, by name: the columns `stack` and `well`, then its own."""
    parts = [part.assign(stack=stack, well=wells.get(stack, "")) for stack, part in tables.items()]
    if not parts:
        return pd.DataFrame(columns=list(STACK_COLUMNS))
    columns = list(
        dict.fromkeys(
            str(name) for part in parts for name in part.columns if str(name) not in STACK_COLUMNS
        )
    )
    known = [
        part.dropna(axis=1, how="all") for part in parts
    ]  # a column that is empty in one stack must not decide the type
    return pd.concat(known, ignore_index=True).reindex(columns=[*STACK_COLUMNS, *columns])


def summarise_wells(counts: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """The table ``wells.csv``, from pooled counts and tracks: a row for each well and category, and one for all categories.

    `stacks` it is made of (its fields), `n` objects of all of them, `n_mean` and `n_std` of a stack
    (the sample's, empty for one), then the mean over all objects of what tracks are measured by. A
    well without objects is there with n = 0.
    """
    total = counts[(counts["frame"] == ALL) & (counts["category"] == ALL)]
    stacks = total.groupby("well")["stack"].nunique()
    found = tracks.reindex(
        columns=list(dict.fromkeys([*STACK_COLUMNS, "category", *tracks.columns]))
    )
    found = found.assign(category=found["category"].astype("string").fillna("").astype(str))
    names = sorted(found["category"].unique())
    rows = []
    for well in stacks.index:
        for category in [*(names if len(names) > 1 else []), ALL]:
            here = found[
                (found["well"] == well)
                & found["category"].isin(names if category == ALL else [category])
            ]
            every = total.loc[total["well"] == well, "stack"]
            each = here.groupby("stack").size().reindex(every, fill_value=0)
            row = {
                "well": well,
                "category": category,
                "stacks": int(stacks[well]),
                "n": int(each.sum()),
            }
            rows.append({**row, "n_mean": each.mean(), "n_std": each.std(), **_compute_means(here)})
    return pd.DataFrame(rows)


def _compute_means(tracks: pd.DataFrame) -> dict[str, float]:
    """What is known of these tracks, on average."""
    means = {
        name: pd.to_numeric(tracks[name]).mean()
        for name in tracks.columns
        if _AVERAGED_PATTERN.fullmatch(str(name))
    }
    return {str(name): float(value) for name, value in means.items() if not np.isnan(value)}
