"""The report over many stacks: one HTML file with counts by well or stack, distributions, and what failed."""

from __future__ import annotations

import re

import pandas as pd

from napari_sam2.measurement.report.page import frame_table, page, picture, section, text
from napari_sam2.measurement.report.plate_charts import (
    draw_counts_of_stacks,
    draw_groups,
    draw_plate,
)

_BOXES = 48  # groups that can be told apart side by side
_ROWS = 400  # of a table


def batch_report(
    name: str, summary: pd.DataFrame, tracks: pd.DataFrame, wells: pd.DataFrame
) -> str:
    """The HTML of a batch, from ``summary.csv``, the pooled tracks, and ``wells.csv`` (empty where no well is known)."""
    done, failed = summary[summary["state"] != "failed"], summary[summary["state"] == "failed"]
    note = f"{len(summary)} stacks, {int(done['objects'].sum())} objects" + (
        f"; failed: {len(failed)}" if len(failed) else ""
    )
    parts = []
    if len(failed):
        parts.append(section("Failed", frame_table(failed[["stack", "well", "error"]])))
    if len(wells):
        every = wells[wells["category"] == "all"]
        known = every[every["well"] != ""]
        title = "objects of a stack, mean of each well"
        parts.append(
            section(
                "Plate", picture(lambda axes: draw_plate(axes, known, "n_mean", title), height=4.2)
            )
        )
        parts.append(section("Wells", _cut(wells)))
    parts += _distributions(done, tracks, "well" if len(wells) else "stack")
    parts.append(
        section("Stacks", _cut(summary[["stack", "well", "state", "objects", "masks", "seconds"]]))
    )
    return page(name, note, parts)


def _distributions(done: pd.DataFrame, tracks: pd.DataFrame, by: str) -> list[str]:
    """Counts, sizes and intensities in each group of stacks; where there are too many groups to be drawn, that is said."""
    if done[by].nunique() > _BOXES:
        return [
            section(
                "Distributions",
                f"<p class=note>{done[by].nunique()} of them are too many to be drawn side by "
                "side</p>",
            )
        ]
    parts = []
    if len(done):
        parts.append(
            section(
                f"Objects by {by}",
                picture(lambda axes: draw_counts_of_stacks(axes, done["objects"], done[by])),
            )
        )
    if not len(tracks):
        return parts
    size, unit = _size(tracks)
    shown = [(size, f"{unit} of an object")] + [
        (f"mean_c{c}", f"mean grey value of an object, channel {c}") for c in _channels(tracks)
    ]
    return parts + [
        section(title[0].upper() + title[1:], _boxes(tracks, column, by, title))
        for column, title in shown
    ]


def _boxes(tracks: pd.DataFrame, column: str, by: str, title: str) -> str:
    return picture(
        lambda axes: draw_groups(axes, tracks[column].astype("float64"), tracks[by], title)
    )


def _size(tracks: pd.DataFrame) -> tuple[str, str]:
    """The column that says best how large objects are: one that is known for all, in µm before pixels."""
    choices = (
        ("volume_um3", "volume (µm³)"),
        ("mean_area_um2", "area (µm²)"),
        ("volume_px", "volume (voxels)"),
    )
    known = [
        (name, unit)
        for name, unit in choices
        if name in tracks.columns and tracks[name].notna().all()
    ]
    return known[0] if known else ("mean_area_px", "area (px)")


def _channels(tracks: pd.DataFrame) -> list[str]:
    """Channels that are measured in any stack."""
    return [
        name.removeprefix("mean_c")
        for name in tracks.columns
        if re.fullmatch(r"mean_c\d+", str(name))
    ]


def _cut(table: pd.DataFrame) -> str:
    rest = (
        f"<p class=note>{text(f'the first {_ROWS} of {len(table)}')}</p>"
        if len(table) > _ROWS
        else ""
    )
    return frame_table(table.head(_ROWS)) + rest
