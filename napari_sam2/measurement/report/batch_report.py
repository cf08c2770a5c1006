"""The report of a batch: one HTML file with counts, distributions and failed stacks."""

from __future__ import annotations

import re

import pandas as pd

from napari_sam2.measurement.counts import ALL
from napari_sam2.measurement.report.page import (
    render_dataframe,
    render_figure,
    render_note,
    render_page,
    render_section,
)
from napari_sam2.measurement.report.plate_charts import (
    draw_groups,
    draw_plate,
    draw_stack_counts,
)

_MAX_GROUPS = 48  # more groups side by side are not readable
_MAX_ROWS = 400  # of a table
_SUMMARY_COLUMNS = ["stack", "well", "state", "objects", "masks", "seconds"]
_SIZE_COLUMNS = {
    "volume_um3": "volume (µm³)",
    "mean_area_um2": "area (µm²)",
    "volume_px": "volume (voxels)",
}


def render_batch_report(
    name: str, summary: pd.DataFrame, tracks: pd.DataFrame, wells: pd.DataFrame
) -> str:
    """The HTML page of a batch.

    Parameters
    ----------
    name
        The title of the page.
    summary, tracks, wells
        The tables ``summary.csv``, the pooled tracks, and ``wells.csv`` (empty without wells).
    """
    is_failed = summary["state"] == "failed"
    finished, failed = summary[~is_failed], summary[is_failed]
    note = f"{len(summary)} stacks, {int(finished['objects'].sum())} objects"
    parts = []
    if len(failed):
        note += f"; failed: {len(failed)}"
        parts.append(render_section("Failed", render_dataframe(failed[["stack", "well", "error"]])))
    if len(wells):
        parts += [
            render_section("Plate", _render_plate(wells)),
            render_section("Wells", _render_first_rows(wells)),
        ]
    parts += _render_distributions(finished, tracks, "well" if len(wells) else "stack")
    parts.append(render_section("Stacks", _render_first_rows(summary[_SUMMARY_COLUMNS])))
    return render_page(name, note, parts)


def _render_plate(wells: pd.DataFrame) -> str:
    named = wells[(wells["category"] == ALL) & (wells["well"] != "")]
    title = "objects of a stack, mean of each well"
    return render_figure(lambda axes: draw_plate(axes, named, "n_mean", title), height=4.2)


def _render_distributions(finished: pd.DataFrame, tracks: pd.DataFrame, by: str) -> list[str]:
    """Counts, sizes and intensities of each group of stacks, or a note if there are too many."""
    n_groups = finished[by].nunique()
    if n_groups > _MAX_GROUPS:
        text = f"not drawn, because {n_groups} groups side by side are not readable"
        return [render_section("Distributions", render_note(text))]
    parts = []
    if len(finished):
        chart = render_figure(
            lambda axes: draw_stack_counts(axes, finished["objects"], finished[by])
        )
        parts.append(render_section(f"Objects by {by}", chart))
    if len(tracks):
        for column, title in _list_distributions(tracks):
            chart = _render_groups(tracks[column].astype("float64"), tracks[by], title)
            parts.append(render_section(title[0].upper() + title[1:], chart))
    return parts


def _render_groups(values: pd.Series[float], groups: pd.Series[str], title: str) -> str:
    return render_figure(lambda axes: draw_groups(axes, values, groups, title))


def _list_distributions(tracks: pd.DataFrame) -> list[tuple[str, str]]:
    """The columns to draw and their titles: the size, and the intensity of each channel."""
    size, unit = _choose_size_column(tracks)
    channels = [
        name.removeprefix("mean_c")
        for name in tracks.columns
        if re.fullmatch(r"mean_c\d+", str(name))
    ]
    return [
        (size, f"{unit} of an object"),
        *((f"mean_c{c}", f"mean grey value of an object, channel {c}") for c in channels),
    ]


def _choose_size_column(tracks: pd.DataFrame) -> tuple[str, str]:
    """The first of `_SIZE_COLUMNS` that is known for all tracks, else the area in pixels."""
    for name, title in _SIZE_COLUMNS.items():
        if name in tracks.columns and tracks[name].notna().all():
            return name, title
    return "mean_area_px", "area (px)"


def _render_first_rows(table: pd.DataFrame) -> str:
    html = render_dataframe(table.head(_MAX_ROWS))
    if len(table) > _MAX_ROWS:
        html += render_note(f"the first {_MAX_ROWS} of {len(table)}")
    return html
