"""The two charts of the overview: objects per frame, and area per track."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from napari_sam2.core.stack import Video
from napari_sam2.measurement.counts import ALL
from napari_sam2.measurement.report.outlines import get_track_colour
from napari_sam2.measurement.units import get_frame_step

_MAX_LEGEND_TRACKS = 12  # tracks up to which each is named beside the chart
_LINE_COLOUR = "#33475b"
_CATEGORY_COLOURS = (_LINE_COLOUR, "#d1495b", "#2a9d8f", "#e09f3e", "#7b5ea7", "#5b8c2a")


def draw_counts(axes: Axes, counts: pd.DataFrame, video: Video) -> None:
    """Objects per frame, a line for each category; the number of tracks in the title."""
    frames = counts[counts["frame"] != ALL]
    categories = sorted(frames["category"].fillna("").unique())
    if len(video) == 1:
        _draw_bars(axes, frames, _format_total(counts))
        return
    _label_axes(axes, f"objects per frame ({_format_total(counts)} in all)", video)
    for number, category in enumerate(categories):
        here = frames[frames["category"].fillna("") == category]
        ink = _CATEGORY_COLOURS[number % len(_CATEGORY_COLOURS)]
        x = here["frame"].astype(int)
        axes.plot(
            x,
            here["n"],
            color=ink,
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
    """Area of each track over the frames, in µm² where known; on a single frame how many objects have which area."""
    known = video.spacing.pixel_um2 is not None
    column, unit = ("area_um2", "µm²") if known else ("area_px", "px")
    if len(video) == 1:
        _draw_histogram(axes, objects[column].to_numpy(dtype=np.float64), unit)
        return
    _label_axes(axes, f"area per track ({unit})", video)
    tracks = objects["track"].unique()
    few = len(tracks) <= _MAX_LEGEND_TRACKS
    for track in sorted(tracks):
        area = (
            objects[objects["track"] == track].set_index("frame")[column].reindex(range(len(video)))
        )
        (line,) = axes.plot(
            area.index,
            area,
            color=get_track_colour(int(track)),
            linewidth=1.6 if few else 0.9,
            label=str(track),
        )
        line.set(marker="o", markersize=_choose_marker_size(video) if few else 1.5)
    axes.set_ylim(bottom=0)
    if few and len(tracks):
        axes.legend(
            fontsize=8,
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.0, 1.03),
            title="track",
            title_fontsize=8,
        )


def _draw_bars(axes: Axes, frames: pd.DataFrame, total: str) -> None:
    names = [name or "objects" for name in frames["category"].fillna("")]
    bars = axes.bar(
        names,
        frames["n"],
        color=[_CATEGORY_COLOURS[number % len(_CATEGORY_COLOURS)] for number in range(len(names))],
        width=0.5,
    )
    axes.bar_label(bars, fontsize=9)
    axes.set_xlim(-1, len(names))
    axes.set_title(f"objects ({total} in all)", fontsize=10, loc="left")
    _style_axes(axes)


def _draw_histogram(axes: Axes, area: np.ndarray, unit: str) -> None:
    axes.hist(area, bins=min(30, max(5, area.size // 4)), color=_LINE_COLOUR)
    axes.set_title(f"objects by area ({unit})", fontsize=10, loc="left")
    _style_axes(axes)


def _label_axes(axes: Axes, title: str, video: Video) -> None:
    step = get_frame_step(video)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(
        "frame" if step is None else f"frame (one every {step[0]:.3g} {step[1]})", fontsize=9
    )
    axes.set_xlim(-0.5, len(video) - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
    _style_axes(axes)


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _format_total(counts: pd.DataFrame) -> str:
    number = int(counts["n"].iloc[-1])
    return f"{number} object{'' if number == 1 else 's'}"


def _choose_marker_size(video: Video) -> float:
    return 4.0 if len(video) <= 20 else 2.0
