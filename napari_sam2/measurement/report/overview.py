"""The overview of a run: frames with outlined objects, and charts of counts and areas."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from skimage.transform import downscale_local_mean

from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.stack import Video
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.measurement.report.charts import draw_areas, draw_counts
from napari_sam2.measurement.report.outlines import ObjectOutline, find_outlines, get_track_colour
from napari_sam2.measurement.units import format_frame_position, format_length, round_length

MAX_FRAMES = 8
"""The largest number of frames shown, evenly spaced between the first and last with an object."""

_PANEL_WIDTH_IN = 3.6  # of one frame
_MAX_COLUMNS_BY_WIDTH = 4  # up to which the figure grows with the number of columns
_MIN_WIDTH_IN = 9.0
_MAX_PANEL_HEIGHT_IN = 7.0
_TITLE_HEIGHT_IN = 0.25
_CHART_HEIGHT_IN = 2.9
_MAX_PANEL_PX = 1024  # larger frames are reduced, because the figure would keep them in memory
_MAX_LABELLED_OBJECTS = 150  # the ids of more objects would cover them
_MAX_THICK_OBJECTS = 20  # more objects have thinner lines and smaller ids
_DPI = 150


def draw_overview(
    video: Video,
    planes: Any,
    objects: pd.DataFrame,
    counts: pd.DataFrame,
    path: str | os.PathLike[str],
) -> Path:
    """Write ``overview.png`` to `path`, and return the path.

    The upper part shows up to `MAX_FRAMES` frames in the contrast of the video, with the outline of
    each object in the colour of its track, its id (unless there are more than 150 objects on the
    frame), and a scale bar if the spacing is known. The lower part shows objects per frame and area
    per track.

    Parameters
    ----------
    planes
        As in `measure_objects`.
    objects, counts
        The tables of objects and counts.

    Raises
    ------
    LabelsError
        If the labels do not fit the video.
    OutputError
        If the file cannot be written; an older file then stays as it was.
    """
    source = LabelPlanes.of(planes, video.shape)
    frames = _choose_frames(objects, len(video))
    layout = _SheetLayout.of(len(frames), video.shape[1] / video.shape[2])
    figure = Figure(
        figsize=(layout.width_in, layout.height_in + _CHART_HEIGHT_IN),
        dpi=_DPI,
        facecolor="white",
        layout="constrained",
    )
    grid = figure.add_gridspec(2, 1, height_ratios=[layout.height_in, _CHART_HEIGHT_IN])
    sheet, charts = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    sheet.suptitle(f"{video.stack.name}: {video.description}", fontsize=11, x=0.01, ha="left")
    panels = sheet.subplots(layout.n_rows, layout.n_columns, squeeze=False).ravel()
    for panel, frame in zip(panels, frames, strict=False):
        _draw_frame(panel, video, frame, find_outlines(source[frame]))
    for panel in panels[len(frames) :]:
        panel.set_axis_off()
    _draw_scale_bar(panels[0], video)
    left, right = charts.subplots(1, 2)
    draw_counts(left, counts, video)
    draw_areas(right, objects, video)
    with write_atomically(Path(path)) as part:
        figure.savefig(part, format="png")
    return Path(path)


@dataclass(frozen=True)
class _SheetLayout:
    """How the frames are arranged, and the size of the sheet in inches."""

    n_rows: int
    n_columns: int
    width_in: float
    height_in: float

    @classmethod
    def of(cls, n_frames: int, aspect: float) -> _SheetLayout:
        """The layout for frames of this aspect, height / width: few columns if they are wide."""
        max_columns = 2 if aspect < 0.5 else 4 if aspect < 1.8 else MAX_FRAMES
        n_rows = -(-n_frames // max_columns)
        n_columns = -(-n_frames // n_rows)
        width_in = max(_MIN_WIDTH_IN, min(_MAX_COLUMNS_BY_WIDTH, n_columns) * _PANEL_WIDTH_IN)
        panel_height_in = min(
            _MAX_PANEL_HEIGHT_IN, aspect * width_in / n_columns + _TITLE_HEIGHT_IN
        )
        return cls(n_rows, n_columns, width_in, n_rows * panel_height_in + _TITLE_HEIGHT_IN)


def _choose_frames(objects: pd.DataFrame, n_frames: int) -> list[int]:
    first, last = 0, n_frames - 1
    if len(objects):
        first, last = objects["frame"].min(), objects["frame"].max()
    frames = np.linspace(first, last, MAX_FRAMES).round().astype(int)
    return [int(frame) for frame in np.unique(frames)]


def _draw_frame(panel: Axes, video: Video, frame: int, objects: list[ObjectOutline]) -> None:
    _draw_pixels(panel, video.read_frame(frame).pixels)
    has_thick_lines = len(objects) <= _MAX_THICK_OBJECTS
    width = 1.3 if has_thick_lines else 1.0
    lines = [line for outline in objects for line in outline.lines]
    colours = [get_track_colour(outline.track) for outline in objects for _ in outline.lines]
    panel.add_collection(
        LineCollection(lines, colors="black", linewidths=width + 1.0, alpha=0.5), autolim=False
    )
    panel.add_collection(LineCollection(lines, colors=colours, linewidths=width), autolim=False)
    if len(objects) <= _MAX_LABELLED_OBJECTS:
        for outline in objects:
            _write_id(panel, outline, 8 if has_thick_lines else 6)
    panel.set_title(format_frame_position(video, frame), fontsize=9, loc="left", pad=3)
    panel.set_xticks([])
    panel.set_yticks([])


def _draw_pixels(panel: Axes, pixels: np.ndarray) -> None:
    """Draw an (H, W) image of values from 0 to 1; a large image is reduced first."""
    factor = -(-max(pixels.shape) // _MAX_PANEL_PX)
    height, width = (side // factor * factor for side in pixels.shape)
    if factor > 1:
        pixels = downscale_local_mean(pixels[:height, :width], (factor, factor))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    panel.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent)


def _write_id(panel: Axes, outline: ObjectOutline, size: int) -> None:
    x, y = outline.label_xy
    width, height = panel.get_xlim()[1], panel.get_ylim()[0]
    x = min(max(x, 0.03 * width), 0.97 * width)
    inside = y < 0.05 * height  # without room above, the id is written into the object
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
    pixel_um = video.spacing.x_um
    if pixel_um is None:
        return
    height, width = video.shape[1:]
    length_um = round_length(width * pixel_um / 4)
    length_px = length_um / pixel_um
    x, y = 0.04 * width, 0.95 * height
    panel.plot(
        [x, x + length_px],
        [y, y],
        color="white",
        linewidth=3,
        solid_capstyle="butt",
        path_effects=[withStroke(linewidth=5, foreground="black")],
    )
    panel.annotate(
        format_length(length_um),
        (x + length_px / 2, y),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color="white",
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )
