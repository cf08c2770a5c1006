"""Sight: which lanes and frames are seen, and where on the widget.

Pure: pixels in, frames and tracks out, and back.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam2.gui.app.lane_grid import Lanes

LANE, HEADER, LEGEND = 18, 22, 20
"""Heights in px of a lane, of the frame numbers above and of the legend below them."""

GUTTER = 112
"""Width in px of the names."""

MOST = 48.0
"""Px of a frame, zoomed in."""


@dataclass(frozen=True)
class Sight:
    """What is seen of lanes on a widget of (width, height) px `size`.

    `zoom` is 1 where all frames fit; `across` and `down` are scrolled px. `frame` and `track` (0:
    none) are the current ones, `chosen` the range taken, (first, after).
    """

    lanes: Lanes
    size: tuple[int, int]
    zoom: float = 1.0
    across: int = 0
    down: int = 0
    frame: int = 0
    track: int = 0
    chosen: tuple[int, int] | None = None

    @property
    def width(self) -> int:
        """Px that frames have."""
        return max(1, self.size[0] - GUTTER)

    @property
    def height(self) -> int:
        """Px that lanes have."""
        return max(1, self.size[1] - HEADER - LEGEND)

    @property
    def scale(self) -> float:
        """Px of one frame."""
        fit = self.width / self.lanes.frames
        return min(fit * self.zoom, max(fit, MOST))

    @property
    def extent(self) -> tuple[int, int]:
        """Px of all frames and of all lanes."""
        return round(self.lanes.frames * self.scale), len(self.lanes) * LANE

    @property
    def rows(self) -> range:
        """Rows in sight."""
        first = self.down // LANE
        return range(first, max(first, min(len(self.lanes), first + self.height // LANE + 2)))

    def x(self, frame: float) -> float:
        """Where a frame begins."""
        return GUTTER + frame * self.scale - self.across

    def frame_at(self, x: float) -> int:
        """The frame there, the nearest one beside them."""
        return min(max(int((x - GUTTER + self.across) // self.scale), 0), self.lanes.frames - 1)

    def track_at(self, y: float) -> int:
        """The track whose lane is there, 0 where none is."""
        row = int(y - HEADER + self.down) // LANE
        return (
            self.lanes.tracks[row]
            if HEADER <= y < HEADER + self.height and 0 <= row < len(self.lanes)
            else 0
        )
