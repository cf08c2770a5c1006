"""TimelineViewport: which lanes and frames are visible, and where on the widget. No Qt."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam2.gui.widgets.timeline.lane_grid import LaneGrid

LANE_HEIGHT_PX, HEADER_HEIGHT_PX, LEGEND_HEIGHT_PX = 18, 22, 20
"""Heights of a lane, of the frame numbers above and of the legend below."""

NAMES_WIDTH_PX = 112
"""Width of the names."""

MAX_FRAME_WIDTH_PX = 48.0
"""Maximum width of a frame, zoomed in."""


@dataclass(frozen=True)
class TimelineViewport:
    """The visible part of lanes, on a widget of (width, height) `size_px`.

    Parameters
    ----------
    zoom
        1 if all frames fit.
    frame, track
        The current ones; track 0 for none.
    frame_range
        The chosen frames, as in a slice.
    """

    lanes: LaneGrid
    size_px: tuple[int, int]
    zoom: float = 1.0
    scroll_x_px: int = 0
    scroll_y_px: int = 0
    frame: int = 0
    track: int = 0
    frame_range: tuple[int, int] | None = None

    @property
    def frames_width_px(self) -> int:
        """Width of the area of all frames."""
        return max(1, self.size_px[0] - NAMES_WIDTH_PX)

    @property
    def lanes_height_px(self) -> int:
        """Height of the area of all lanes."""
        return max(1, self.size_px[1] - HEADER_HEIGHT_PX - LEGEND_HEIGHT_PX)

    @property
    def frame_width_px(self) -> float:
        """Width of one frame."""
        fit = self.frames_width_px / self.lanes.frames
        return min(fit * self.zoom, max(fit, MAX_FRAME_WIDTH_PX))

    @property
    def extent_px(self) -> tuple[int, int]:
        """Width of all frames and height of all lanes, visible or not."""
        return round(self.lanes.frames * self.frame_width_px), len(self.lanes) * LANE_HEIGHT_PX

    @property
    def visible_rows(self) -> range:
        """The visible rows."""
        first = self.scroll_y_px // LANE_HEIGHT_PX
        return range(
            first,
            max(first, min(len(self.lanes), first + self.lanes_height_px // LANE_HEIGHT_PX + 2)),
        )

    def frame_x(self, frame: float) -> float:
        """The x at which a frame starts."""
        return NAMES_WIDTH_PX + frame * self.frame_width_px - self.scroll_x_px

    def frame_at(self, x: float) -> int:
        """The frame at x; the nearest one outside the frames."""
        return min(
            max(int((x - NAMES_WIDTH_PX + self.scroll_x_px) // self.frame_width_px), 0),
            self.lanes.frames - 1,
        )

    def track_at(self, y: float) -> int:
        """The track of the lane at y; 0 if there is none."""
        row = int(y - HEADER_HEIGHT_PX + self.scroll_y_px) // LANE_HEIGHT_PX
        return (
            self.lanes.tracks[row]
            if HEADER_HEIGHT_PX <= y < HEADER_HEIGHT_PX + self.lanes_height_px
            and 0 <= row < len(self.lanes)
            else 0
        )
