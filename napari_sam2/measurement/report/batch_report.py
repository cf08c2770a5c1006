"""The report over many stacks: one HTML file with counts by well or stack, distributions, and what failed."""

from __future__ import annotations

import re

import pandas as pd

from napari_sam2.measurement.report.page import (
    escape_html,
    render_dataframe,
    render_figure,
    render_page,
    render_section,
)
from napari_sam2.measurement.report.plate_charts import (
    draw_groups,
    draw_plate,
    draw_stack_counts,
)

_MAX_GROUPS = 48  # groups that can be told apart side by side
_MAX_ROWS = 400  # of a table


def render_batch_report(
    name: str, summary: pd.DataFrame, tracks: pd.DataFrame, wells: pd.DataFrame
) -> str:
    """The HTML of a batch, from ``summary.csv``, the pooled tracks, and ``wells.csv`` (empty where no well is known)."""
    done, failed = summary[summary["state"] != "failed"], summary[summary["state"] == "failed"]
    note = f"{len(summary)} stacks, {int(done['objects'].sum())} objects" + (
        f"; failed: {len(failed)}" if len(failed) else ""
    )
    parts = []
    if len(failed):
        parts.append(render_section("Failed", render_dataframe(failed[["stack", "well", "error"]])))
    if len(wells):
        every = wells[wells["category"] == "all"]
        known = every[every["well"] != ""]
        title = "objects of a stack, mean of each well"
        parts.append(
            render_section(
                "Plate",
                render_figure(lambda axes: draw_plate(axes, known, "n_mean", title), height=4.2),
            )
        )
        parts.append(render_section("Wells", _render_first_rows(wells)))
    parts += _render_distributions(done, tracks, "well" if len(wells) else "stack")
    parts.append(
        render_section(
            "Stacks",
            _render_first_rows(summary[["stack", "well", "state", "objects", "masks", "seconds"]]),
        )
    )
    return render_page(name, note, parts)


def _render_distributions(finished: pd.DataFrame, tracks: pd.DataFrame, by: str) -> list[str]:
    """Counts, sizes and intensities in each group of stacks; where there are too many groups to be drawn, that is said."""
    if finished[by].nunique() > _MAX_GROUPS:
        return [
            render_section(
                "Distributions",
                f"<p class=note>{finished[by].nunique()} of them are too many to be drawn side by "
                "side</p>",
            )
        ]
    parts = []
    if len(finished):
        parts.append(
            render_section(
                f"Objects by {by}",
                render_figure(
                    lambda axes: draw_stack_counts(axes, finished["objects"], finished[by])
                ),
            )
        )
    if not len(tracks):
        return parts
    size, unit = _choose_size_column(tracks)
    shown = [(size, f"{unit} of an object")] + [
        (f"mean_c{c}", f"mean grey value of an object, channel {c}") for c in _find_channels(tracks)
    ]
    return parts + [
        render_section(title[0].upper() + title[1:], _render_boxes(tracks, column, by, title))
        for column, title in shown
    ]


def _render_boxes(tracks: pd.DataFrame, column: str, by: str, title: str) -> str:
    return render_figure(
        lambda axes: draw_groups(axes, tracks[column].astype("float64"), tracks[by], title)
    )


def _choose_size_column(tracks: pd.DataFrame) -> tuple[str, str]:
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


def _find_channels(tracks: pd.DataFrame) -> list[str]:
    """Channels that are measured in any stack."""
    return [
        name.removeprefix("mean_c")
        for name in tracks.columns
        if re.fullmatch(r"mean_c\d+", str(name))
    ]


def _render_first_rows(table: pd.DataFrame) -> str:
    rest = (
        f"<p class=note>{escape_html(f'the first {_MAX_ROWS} of {len(table)}')}</p>"
        if len(table) > _MAX_ROWS
        else ""
    )
    return render_dataframe(table.head(_MAX_ROWS)) + rest
