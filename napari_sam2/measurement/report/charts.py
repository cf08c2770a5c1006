"""Charts of a run over its frames: the number of objects, and the area of each track."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from napari_sam2.core.stack import Video
from napari_sam2.measurement.counts import ALL
from napari_sam2.measurement.report.chart_style import LINE_COLOUR, add_grid, style_axes
from napari_sam2.measurement.report.outlines import get_track_colour
from napari_sam2.measurement.units import get_frame_step

_MAX_LEGEND_TRACKS = 12  # more tracks are drawn thinner, and not listed beside the chart
_CATEGORY_COLOURS = (LINE_COLOUR, "#d1495b", "#2a9d8f", "#e09f3e", "#7b5ea7", "#5b8c2a")


def draw_counts(axes: Axes, counts: pd.DataFrame, video: Video) -> None:
    """Draw the objects per frame, a line for each category, with the number of tracks in the title.

    For a single frame, draw a bar for each category.
    """
    frames = counts[counts["frame"] != ALL]
    if len(video) == 1:
        _draw_count_bars(axes, frames, f"objects ({_format_total(counts)} in all)")
        return
    style_axes(axes, f"objects per frame ({_format_total(counts)} in all)")
    _set_frame_axis(axes, video)
    categories = sorted(frames["category"].fillna("").unique())
    for number, category in enumerate(categories):
        rows = frames[frames["category"].fillna("") == category]
        axes.plot(
            rows["frame"].astype(int),
            rows["n"],
            color=_get_category_colour(number),
            linewidth=1.6,
            marker="o",
            markersize=_choose_marker_size(video),
            label=category or "no category",
        )
    axes.set_ylim(0, max(1.0, 1.12 * frames["n"].max()))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if len(categories) > 1:
        axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def draw_areas(axes: Axes, objects: pd.DataFrame, video: Video) -> None:
    """Draw the area of each track over the frames, in µm² if known.

    For a single frame, draw a histogram of the areas.
    """
    is_calibrated = video.spacing.pixel_um2 is not None
    column, unit = ("area_um2", "µm²") if is_calibrated else ("area_px", "px")
    if len(video) == 1:
        areas = objects[column].to_numpy(dtype=np.float64)
        axes.hist(areas, bins=min(30, max(5, areas.size // 4)), color=LINE_COLOUR)
        style_axes(axes, f"objects by area ({unit})")
        add_grid(axes)
        return
    style_axes(axes, f"area per track ({unit})")
    _set_frame_axis(axes, video)
    tracks = sorted(objects["track"].unique())
    has_legend = len(tracks) <= _MAX_LEGEND_TRACKS
    for track in tracks:
        rows = objects[objects["track"] == track].set_index("frame")
        area = rows[column].reindex(range(len(video)))
        axes.plot(
            area.index,
            area,
            color=get_track_colour(int(track)),
            linewidth=1.6 if has_legend else 0.9,
            marker="o",
            markersize=_choose_marker_size(video) if has_legend else 1.5,
            label=str(track),
        )
    axes.set_ylim(bottom=0)
    if has_legend and tracks:
        axes.legend(
            fontsize=8,
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.03),
            title="track",
            title_fontsize=8,
        )


def _draw_count_bars(axes: Axes, counts: pd.DataFrame, title: str) -> None:
    names = [name or "objects" for name in counts["category"].fillna("")]
    colours = [_get_category_colour(number) for number in range(len(names))]
    bars = axes.bar(names, counts["n"], color=colours, width=0.5)
    axes.bar_label(bars, fontsize=9)
    axes.set_xlim(-1, len(names))
    style_axes(axes, title)
    add_grid(axes)


def _set_frame_axis(axes: Axes, video: Video) -> None:
    step = get_frame_step(video)
    label = "frame" if step is None else f"frame (one every {step[0]:.3g} {step[1]})"
    axes.set_xlabel(label, fontsize=9)
    axes.set_xlim(-0.5, len(video) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
    add_grid(axes)


def _get_category_colour(number: int) -> str:
    return _CATEGORY_COLOURS[number % len(_CATEGORY_COLOURS)]


def _format_total(counts: pd.DataFrame) -> str:
    number = int(counts["n"].iloc[-1])
    return f"{number} object{'' if number == 1 else 's'}"


def _choose_marker_size(video: Video) -> float:
    return 4.0 if len(video) <= 20 else 2.0
