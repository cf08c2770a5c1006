"""Pool the tables of many stacks, and summarise the wells of a plate."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from napari_sam2.measurement.counts import ALL

STACK_COLUMNS = ("stack", "well")
"""The first columns of every table over many stacks."""

_AVERAGED_PATTERN = re.compile(
    r"volume_(um3|px)|mean_area_(um2|px)|duration_s|(mean|corrected_sum|spots|spots_sum)_c\d+"
)


def pool_tables(tables: Mapping[str, pd.DataFrame], wells: Mapping[str, str]) -> pd.DataFrame:
    """The same table of many stacks as one, with the columns `stack` and `well` in front.

    Parameters
    ----------
    tables
        Table by name of stack.
    wells
        Well by name of stack.
    """
    parts = [part.assign(stack=stack, well=wells.get(stack, "")) for stack, part in tables.items()]
    if not parts:
        return pd.DataFrame(columns=list(STACK_COLUMNS))
    columns = list(
        dict.fromkeys(
            str(name) for part in parts for name in part.columns if str(name) not in STACK_COLUMNS
        )
    )
    # without its empty columns, so that these do not change the type of the pooled column
    filled = [part.dropna(axis=1, how="all") for part in parts]
    return pd.concat(filled, ignore_index=True).reindex(columns=[*STACK_COLUMNS, *columns])


def summarise_wells(counts: pd.DataFrame, tracks: pd.DataFrame) -> pd.DataFrame:
    """The table ``wells.csv``: a row for each well and category, and one for all categories.

    Parameters
    ----------
    counts, tracks
        Pooled tables. Wells without objects have a row with n = 0.

    Returns
    -------
    pd.DataFrame
        The columns `well`, `category`, `stacks` (their number), `n` (objects in all of them),
        `n_mean` and `n_std` (mean and sample standard deviation over the stacks; empty for a single
        stack), and the means over all objects of the measured columns.
    """
    total = counts[(counts["frame"] == ALL) & (counts["category"] == ALL)]
    tracks = tracks.reindex(
        columns=list(dict.fromkeys([*STACK_COLUMNS, "category", *tracks.columns]))
    )
    tracks = tracks.assign(category=tracks["category"].astype("string").fillna("").astype(str))
    names = sorted(tracks["category"].unique())
    categories = [*names, ALL] if len(names) > 1 else [ALL]
    rows = []
    for well, stacks in total.groupby("well")["stack"]:
        of_well = tracks[tracks["well"] == well]
        for category in categories:
            selected = of_well if category == ALL else of_well[of_well["category"] == category]
            rows.append({"well": well, "category": category, **_summarise_tracks(selected, stacks)})
    return pd.DataFrame(rows)


def _summarise_tracks(tracks: pd.DataFrame, stacks: pd.Series[str]) -> dict[str, float]:
    """Counts over the stacks, and means over the tracks."""
    n = tracks.groupby("stack").size().reindex(stacks, fill_value=0)
    return {
        "stacks": int(stacks.nunique()),
        "n": int(n.sum()),
        "n_mean": n.mean(),
        "n_std": n.std(),
        **_compute_means(tracks),
    }


def _compute_means(tracks: pd.DataFrame) -> dict[str, float]:
    """The means of the measured columns, without those that are unknown."""
    means = {
        name: pd.to_numeric(tracks[name]).mean()
        for name in tracks.columns
        if _AVERAGED_PATTERN.fullmatch(str(name))
    }
    return {str(name): float(value) for name, value in means.items() if not np.isnan(value)}
