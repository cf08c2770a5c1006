"""The report: one HTML file that can be mailed, with counts, distributions, lineage and where it all comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from napari_sam2.core.stack import Video
from napari_sam2.measurement.columns import count_measured_channels
from napari_sam2.measurement.counts import ALL
from napari_sam2.measurement.report.charts import draw_areas, draw_counts
from napari_sam2.measurement.report.lineage_tree import draw_lineage
from napari_sam2.measurement.report.page import (
    render_dataframe,
    render_figure,
    render_page,
    render_section,
    render_table,
)

_BAR_COLOUR = "#33475b"
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


def render_report(
    video: Video,
    objects: pd.DataFrame,
    tracks: pd.DataFrame,
    counts: pd.DataFrame,
    provenance: Mapping[str, Any],
) -> str:
    """The HTML of a run, from its tables and its provenance (``Provenance.to_dict``).

    Pictures are inside; names are escaped.
    """
    parts = [_render_summary(video, tracks, counts)]
    parts.append(
        render_section("Objects", render_figure(lambda axes: draw_counts(axes, counts, video)))
    )
    if len(objects):
        parts.append(
            render_section("Size", render_figure(lambda axes: draw_areas(axes, objects, video)))
        )
        parts += [
            render_section(
                f"Intensity, {video.stack.channels[channel]}",
                render_figure(
                    lambda axes, channel=channel: _draw_intensity(axes, objects, channel)
                ),
            )
            for channel in range(count_measured_channels(objects))
        ]
    if tracks["parent"].notna().any():
        parts.append(
            render_section(
                "Lineage",
                render_figure(
                    lambda axes: draw_lineage(axes, tracks, families_only=True), height=4.5
                ),
            )
        )
    parts.append(
        render_section(
            f"Tracks{'' if len(tracks) <= _MAX_TRACK_ROWS else f' (the first {_MAX_TRACK_ROWS} of {len(tracks)})'}",
            _render_track_table(tracks),
        )
    )
    parts.append(render_section("Where this comes from", _render_provenance(provenance)))
    return render_page(video.stack.name, video.description, parts)


def _render_summary(video: Video, tracks: pd.DataFrame, counts: pd.DataFrame) -> str:
    rows = [("objects", str(len(tracks)))]
    total = counts[(counts["frame"] == ALL) & (counts["category"] != ALL)]
    rows += [
        (f"of these {name or 'without category'}", str(n))
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


def _draw_intensity(axes: Any, objects: pd.DataFrame, channel: int) -> None:
    means = objects.groupby("track")[f"mean_c{channel}"].mean()
    axes.hist(means, bins=min(40, max(5, len(means) // 3)), color=_BAR_COLOUR)
    axes.set_xlabel("mean grey value of an object, all its frames", fontsize=9)
    axes.set_ylabel("objects", fontsize=9)
    full = f"saturated_c{channel}"
    clipped = int(objects.groupby("track")[full].any().sum()) if full in objects.columns else 0
    title = (
        f"{clipped} of {len(means)} objects hold saturated pixels"
        if clipped
        else "no saturated pixels"
    )
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _render_track_table(tracks: pd.DataFrame) -> str:
    shown = (
        tracks[[name for name in (*_TRACK_COLUMNS, *_SIZE_COLUMNS) if name in tracks.columns]]
        .dropna(axis=1, how="all")
        .head(_MAX_TRACK_ROWS)
    )
    return render_dataframe(shown)


def _render_provenance(provenance: Mapping[str, Any]) -> str:
    model, given = provenance.get("model", {}), provenance.get("input", {})
    rows = [
        ("file", given.get("source") or given.get("name", "")),
        ("made", provenance.get("made", "")),
    ]
    rows += [("model", f"{model.get('name', '')} (SHA-256 {str(model.get('sha256', ''))[:12]})")]
    rows += [
        (
            "versions",
            ", ".join(
                f"{name} {version}" for name, version in provenance.get("versions", {}).items()
            ),
        )
    ]
    rows += [("decided", note) for note in provenance.get("notes", ())]
    return render_table(["", ""], rows)
