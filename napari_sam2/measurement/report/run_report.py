"""The report of a run: one HTML file with counts, distributions, lineage and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from napari_sam2.core.stack import Video
from napari_sam2.measurement.columns import count_measured_channels
from napari_sam2.measurement.counts import ALL
from napari_sam2.measurement.report.chart_style import LINE_COLOUR, style_axes
from napari_sam2.measurement.report.charts import draw_areas, draw_counts
from napari_sam2.measurement.report.lineage_tree import draw_lineage
from napari_sam2.measurement.report.page import (
    render_dataframe,
    render_figure,
    render_page,
    render_section,
    render_table,
)

_MAX_TRACK_ROWS = 50  # of the table of tracks
_TRACK_COLUMNS = (
    "track",
    "category",
    "parent",
    "first_frame",
    "last_frame",
    "n_frames",
    "origin",
    "fate",
)
_SIZE_COLUMNS = ("volume_um3", "volume_px", "mean_area_um2", "mean_area_px")


def render_run_report(
    video: Video,
    objects: pd.DataFrame,
    tracks: pd.DataFrame,
    counts: pd.DataFrame,
    provenance: Mapping[str, Any],
) -> str:
    """The HTML page of a run, with embedded figures.

    Parameters
    ----------
    objects, tracks, counts
        The tables of the run.
    provenance
        As ``Provenance.to_dict`` returns it.
    """
    counts_chart = render_figure(lambda axes: draw_counts(axes, counts, video))
    parts = [_render_summary(video, tracks, counts), render_section("Objects", counts_chart)]
    if len(objects):
        size_chart = render_figure(lambda axes: draw_areas(axes, objects, video))
        parts.append(render_section("Size", size_chart))
        parts += [
            render_section(
                f"Intensity, {video.stack.channels[channel]}", _render_intensity(objects, channel)
            )
            for channel in range(count_measured_channels(objects))
        ]
    if tracks["parent"].notna().any():
        lineage_chart = render_figure(
            lambda axes: draw_lineage(axes, tracks, families_only=True), height=4.5
        )
        parts.append(render_section("Lineage", lineage_chart))
    title = "Tracks"
    if len(tracks) > _MAX_TRACK_ROWS:
        title += f" (the first {_MAX_TRACK_ROWS} of {len(tracks)})"
    parts.append(render_section(title, _render_track_table(tracks)))
    parts.append(render_section("Provenance", _render_provenance(provenance)))
    return render_page(video.stack.name, video.description, parts)


def _render_summary(video: Video, tracks: pd.DataFrame, counts: pd.DataFrame) -> str:
    rows = [("objects", str(len(tracks)))]
    total = counts[(counts["frame"] == ALL) & (counts["category"] != ALL)]
    rows += [
        (f"of these, {name or 'without category'}", str(n))
        for name, n in zip(total["category"].astype(str), total["n"], strict=True)
    ]
    rows.append(("frames", str(len(video))))
    if "fate" in tracks.columns:
        rows.append(("divisions", str(tracks["parent"].dropna().nunique())))
        rows += [
            (f"{name} ({side})", str(int(n)))
            for side in ("origin", "fate")
            for name, n in tracks[side].value_counts().items()
        ]
    return render_table(["", "number"], rows)


def _render_intensity(objects: pd.DataFrame, channel: int) -> str:
    return render_figure(lambda axes: _draw_intensity(axes, objects, channel))


def _draw_intensity(axes: Axes, objects: pd.DataFrame, channel: int) -> None:
    tracks = objects.groupby("track")
    means = tracks[f"mean_c{channel}"].mean()
    axes.hist(means, bins=min(40, max(5, len(means) // 3)), color=LINE_COLOUR)
    column = f"saturated_c{channel}"
    n_saturated = int(tracks[column].any().sum()) if column in objects.columns else 0
    style_axes(
        axes,
        f"{n_saturated} of {len(means)} objects have saturated pixels"
        if n_saturated
        else "no saturated pixels",
        x_label="mean grey value of an object over all its frames",
        y_label="objects",
    )


def _render_track_table(tracks: pd.DataFrame) -> str:
    names = [name for name in (*_TRACK_COLUMNS, *_SIZE_COLUMNS) if name in tracks.columns]
    return render_dataframe(tracks[names].dropna(axis=1, how="all").head(_MAX_TRACK_ROWS))


def _render_provenance(provenance: Mapping[str, Any]) -> str:
    model, image = provenance.get("model", {}), provenance.get("input", {})
    versions = provenance.get("versions", {})
    rows = [
        ("file", image.get("source") or image.get("name", "")),
        ("made", provenance.get("made", "")),
        ("model", f"{model.get('name', '')} (SHA-256 {str(model.get('sha256', ''))[:12]})"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        *(("note", note) for note in provenance.get("notes", ())),
    ]
    return render_table(["", ""], rows)
