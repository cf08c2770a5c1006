"""Sight: which lanes and frames are seen, and where on the widget.

Pure: pixels in, frames and tracks out, and back.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam2.gui.widgets.timeline.lane_grid import LaneGrid

LANE_HEIGHT_PX, HEADER_HEIGHT_PX, LEGEND_HEIGHT_PX = 18, 22, 20
"""Heights in px of a lane, of the frame numbers above and of the legend below them."""

NAMES_WIDTH_PX = 112
"""Width in px of the names."""

MAX_FRAME_WIDTH_PX = 48.0
"""Px of a frame, zoomed in."""


@dataclass(frozen=True)
class TimelineViewport:
    """What is seen of lanes on a widget of (width, height) px `size_px`.

    `zoom` is 1 where all frames fit; `scroll_x_px` and `scroll_y_px` are scrolled px. `frame` and `track` (0:
    none) are the current ones, `frame_range` the range taken, (first, after).
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
        """Px that frames have."""
        return max(1, self.size_px[0] - NAMES_WIDTH_PX)

    @property
    def lanes_height_px(self) -> int:
        """Px that lanes have."""
        return max(1, self.size_px[1] - HEADER_HEIGHT_PX - LEGEND_HEIGHT_PX)

    @property
    def frame_width_px(self) -> float:
        """Px of one frame."""
        fit = self.frames_width_px / self.lanes.frames
        return min(fit * self.zoom, max(fit, MAX_FRAME_WIDTH_PX))

    @property
    def extent_px(self) -> tuple[int, int]:
        """Px of all frames and of all lanes."""
        return round(self.lanes.frames * self.frame_width_px), len(self.lanes) * LANE_HEIGHT_PX

    @property
    def visible_rows(self) -> range:
        """Rows in sight."""
        first = self.scroll_y_px // LANE_HEIGHT_PX
        return range(
            first,
            max(first, min(len(self.lanes), first + self.lanes_height_px // LANE_HEIGHT_PX + 2)),
        )

    def frame_x(self, frame: float) -> float:
        """Where a frame begins."""
        return NAMES_WIDTH_PX + frame * self.frame_width_px - self.scroll_x_px

    def frame_at(self, x: float) -> int:
        """The frame there, the nearest one beside them."""
        return min(
            max(int((x - NAMES_WIDTH_PX + self.scroll_x_px) // self.frame_width_px), 0),
            self.lanes.frames - 1,
        )

    def track_at(self, y: float) -> int:
        """The track whose lane is there, 0 where none is."""
        row = int(y - HEADER_HEIGHT_PX + self.scroll_y_px) // LANE_HEIGHT_PX
        return (
            self.lanes.tracks[row]
            if HEADER_HEIGHT_PX <= y < HEADER_HEIGHT_PX + self.lanes_height_px
            and 0 <= row < len(self.lanes)
            else 0
        )
