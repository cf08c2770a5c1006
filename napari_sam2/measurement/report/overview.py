"""The picture of a run: a sheet of frames with the objects outlined, and how many and how large they are over the frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from skimage.transform import downscale_local_mean

from napari_sam2.core.errors import OutputError
from napari_sam2.core.stack import Video
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.measurement.report.charts import draw_areas, draw_counts
from napari_sam2.measurement.report.outlines import ObjectOutline, find_outlines, get_track_colour
from napari_sam2.measurement.units import format_frame_position, format_length, round_length

MAX_FRAMES = 8
"""Frames on the sheet at most, evenly spaced from the first that holds an object to the last."""

_PANEL_WIDTH_IN = 3.6  # width of one frame on the sheet
_MIN_WIDTH_IN = 9.0
_MAX_PANEL_HEIGHT_IN = 7.0
_TITLE_HEIGHT_IN = 0.25
_CHART_HEIGHT_IN = 2.9
_MAX_PANEL_PX = 1024  # more than are printed of one frame; so large frames are not kept whole
_MAX_LABELLED_OBJECTS = 150  # objects on one frame from which on their ids would cover them
_DPI = 150


def draw_overview(
    video: Video,
    planes: Any,
    objects: pd.DataFrame,
    counts: pd.DataFrame,
    path: str | os.PathLike[str],
) -> Path:
    """Write ``overview.png`` to `path` and return it.

    Above, up to `MAX_FRAMES` frames in the contrast of the video, every object outlined in the colour
    of its track, with its id (left out on a frame of more than 150 objects) and, where the spacing
    is known, a scale bar. Below, objects per frame by category and area per track, from the tables
    `objects` and `counts`. `planes` as in `objects.objects`.

    Raises
    ------
    LabelsError
        Labels that do not fit the video.
    OutputError
        A place that cannot be written to; nothing half-written is left there.
    """
    source = LabelPlanes.of(planes, video.shape)
    chosen = _choose_frames(objects, len(video))
    rows = -(-len(chosen) // _choose_panels_per_row(video))
    columns = -(-len(chosen) // rows)
    width = max(_MIN_WIDTH_IN, min(4, columns) * _PANEL_WIDTH_IN)
    height = (
        rows
        * min(
            _MAX_PANEL_HEIGHT_IN,
            video.shape[1] / video.shape[2] * width / columns + _TITLE_HEIGHT_IN,
        )
        + _TITLE_HEIGHT_IN
    )
    figure = Figure(
        figsize=(width, height + _CHART_HEIGHT_IN),
        dpi=_DPI,
        facecolor="white",
        layout="constrained",
    )
    grid = figure.add_gridspec(2, 1, height_ratios=[height, _CHART_HEIGHT_IN])
    sheet, charts = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    sheet.suptitle(f"{video.stack.name}: {video.description}", fontsize=11, x=0.01, ha="left")
    panels = sheet.subplots(rows, columns, squeeze=False).ravel()
    for panel, frame in zip(panels, chosen, strict=False):
        _draw_frame(panel, video, frame, find_outlines(source[frame]))
    for panel in panels[len(chosen) :]:
        panel.set_axis_off()
    _draw_scale_bar(panels[0], video)
    left, right = charts.subplots(1, 2)
    draw_counts(left, counts, video)
    draw_areas(right, objects, video)
    return _save_figure(figure, Path(path))


def _choose_frames(objects: pd.DataFrame, n_frames: int) -> list[int]:
    first, last = (
        (objects["frame"].min(), objects["frame"].max()) if len(objects) else (0, n_frames - 1)
    )
    return [
        int(frame) for frame in np.unique(np.linspace(first, last, MAX_FRAMES).round().astype(int))
    ]


def _choose_panels_per_row(video: Video) -> int:
    """Frames side by side: fewer of wide ones, all in one row where they are tall."""
    tallness = video.shape[1] / video.shape[2]
    return 2 if tallness < 0.5 else 4 if tallness < 1.8 else MAX_FRAMES


def _draw_frame(panel: Axes, video: Video, frame: int, objects: list[ObjectOutline]) -> None:
    pixels = video.read_frame(frame).pixels
    step = -(-max(pixels.shape) // _MAX_PANEL_PX)
    height, width = (side // step * step for side in pixels.shape)
    small = downscale_local_mean(pixels[:height, :width], (step, step)) if step > 1 else pixels
    panel.imshow(small, cmap="gray", vmin=0, vmax=1, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    lines = [line for each in objects for line in each.lines]
    colours = [get_track_colour(each.track) for each in objects for _ in each.lines]
    thin = 1.3 if len(objects) <= 20 else 1.0
    panel.add_collection(
        LineCollection(lines, colors="black", linewidths=thin + 1.0, alpha=0.5), autolim=False
    )
    panel.add_collection(LineCollection(lines, colors=colours, linewidths=thin), autolim=False)
    if len(objects) <= _MAX_LABELLED_OBJECTS:
        for each in objects:
            _write_id(panel, each, 8 if len(objects) <= 20 else 6)
    panel.set_title(format_frame_position(video, frame), fontsize=9, loc="left", pad=3)
    panel.set_xticks([])
    panel.set_yticks([])


def _write_id(panel: Axes, outline: ObjectOutline, size: int) -> None:
    x, y = outline.label_xy
    width, height = panel.get_xlim()[1], panel.get_ylim()[0]
    x = min(max(x, 0.03 * width), 0.97 * width)
    inside = y < 0.05 * height  # no room above: write into the object
    panel.annotate(
        str(outline.track),
        (x, y),
        xytext=(0, -1 if inside else 1),
        textcoords="offset points",
        ha="center",
        va="top" if inside else "bottom",
        fontsize=size,
        fontweight="bold",
        color=get_track_colour(outline.track),
        path_effects=[withStroke(linewidth=1.8, foreground="black")],
        annotation_clip=True,
        clip_on=True,
    )


def _draw_scale_bar(panel: Axes, video: Video) -> None:
    pixel = video.spacing.x_um
    if pixel is None:
        return
    height, width = video.shape[1:]
    length = round_length(width * pixel / 4)
    start, y = 0.04 * width, 0.95 * height
    stroke = [withStroke(linewidth=5, foreground="black")]
    panel.plot(
        [start, start + length / pixel],
        [y, y],
        color="white",
        linewidth=3,
        solid_capstyle="butt",
        path_effects=stroke,
    )
    panel.annotate(
        format_length(length),
        (start + length / pixel / 2, y),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color="white",
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )


def _save_figure(figure: Figure, path: Path) -> Path:
    part = path.with_name(path.name + ".part")
    try:
        figure.savefig(part, format="png")
        os.replace(part, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(path)!r} ({error.strerror or error}): choose a folder that "
            "exists and can be written to"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path
