"""Fields: the truth of a scene, and how deep each pixel lies inside which cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from napari_sam2.train.synthetic.cells import SyntheticCells
from napari_sam2.train.synthetic.texture import Texture

MAX_DISTANCE_PX = 40.0
"""The depth of pixels far from all cells is minus this."""


@dataclass(frozen=True, eq=False)
class Field:
    """What a scene is rendered from. All arrays are (T, H, W).

    Parameters
    ----------
    labels
        int32, the truth: 0 is background.
    nearest
        int32 label of the nearest cell, inside and outside of it; 0 far from all cells.
    depth
        float32 pixels to the edge of that cell, or to its neighbour; negative outside.
    dome
        float32, from 1 in the middle of a cell to 0 at its edge and beyond.
    y, x
        float32 coordinates that move and rotate with the cells, for textures; far from all cells,
        those of the frame.
    brightness
        float32 factor of the nearest cell's brightness on this frame; 1 far from all cells.
    """

    labels: np.ndarray
    nearest: np.ndarray
    depth: np.ndarray
    dome: np.ndarray
    y: np.ndarray
    x: np.ndarray
    brightness: np.ndarray


def compute_cell_field(
    cells: SyntheticCells,
    rng: np.random.Generator,
    *,
    size: int,
    roughness: float = 0.0,
    limit: float = 1.0,
    drift_px: float = 0.0,
) -> Field:
    """Compute the field of cells on frames of `size` pixels.

    Parameters
    ----------
    roughness
        How irregular the outlines are: 0 is smooth, 0.3 is ragged.
    limit
        How far a cell extends, in its own half axes; neighbours share the border. Well above 1, the
        cells fill the frame, as in a tissue.
    drift_px
        Change of shape and texture in pixels per frame, as from slice to slice.
    """
    length = cells.angle.shape[1]
    builder = _FieldBuilder(length, size, limit)
    radius = float(np.nanmean(cells.half_axes)) if np.isfinite(cells.half_axes).any() else 1.0
    texture = Texture(rng, max(4.0, 1.6 * radius))
    offsets = rng.uniform(0, 1000, (len(cells), 2)).astype(np.float32)
    for number in range(len(cells)):
        builder.add_cell(
            cells,
            number,
            offsets[number],
            texture=texture,
            roughness=roughness,
            drift_px=drift_px,
        )
    return builder.build_field(cells.brightness)


class _FieldBuilder:
    """Adds cells one by one, and keeps the distances of each pixel to the two nearest ones.

    Distances are squares, in half axes of the cell.
    """

    def __init__(self, length: int, size: int, limit: float) -> None:
        shape = (length, size, size)
        self.size, self.limit = size, limit
        self.nearest_distance2 = np.full(shape, np.inf, dtype=np.float32)
        self.second_distance2 = np.full(shape, np.inf, dtype=np.float32)
        self.nearest = np.zeros(shape, dtype=np.int32)
        self.radius = np.ones(shape, dtype=np.float32)
        line = np.arange(size, dtype=np.float32)
        self.line = line
        self.y = np.broadcast_to(line[:, None], shape).copy()
        self.x = np.broadcast_to(line, shape).copy()

    def add_cell(
        self,
        cells: SyntheticCells,
        number: int,
        offset: np.ndarray,
        *,
        texture: Texture,
        roughness: float,
        drift_px: float,
    ) -> None:
        half = cells.half_axes[number].astype(np.float32)
        present = np.isfinite(half[:, 0])
        if not present.any():
            return
        straight = np.float32(cells.straight_share[number]) * half[:, 1]
        centre = cells.yx[number].astype(np.float32)
        extent = np.nanmax(half + straight[:, None]) * max(1.4, 1.15 * self.limit)
        part = _find_part(centre, present, extent * (1 + roughness) + 3)
        if not self.nearest_distance2[part].size:
            return
        frames, rows, columns = part
        angle = cells.angle[number, frames].astype(np.float32)[:, None, None]
        dy = self.line[rows][None, :, None] - centre[frames, 0, None, None]
        dx = self.line[columns][None, None, :] - centre[frames, 1, None, None]
        cos, sin = np.cos(angle), np.sin(angle)
        u, v = cos * dy + sin * dx, cos * dx - sin * dy
        drift = (np.arange(frames.start, frames.stop, dtype=np.float32) * drift_px)[:, None, None]
        along, across = u + offset[0] + drift, v + offset[1]
        half_axes = half[frames, :, None, None]
        if straight[present].any():
            u = np.maximum(np.abs(u) - straight[frames, None, None], 0)
        distance2 = (u / half_axes[:, 0]) ** 2 + (v / half_axes[:, 1]) ** 2
        if roughness:
            distance2 *= np.exp(2 * roughness * texture(along, across))
        self._write_nearest(
            part,
            np.where(np.isnan(distance2), np.inf, distance2),
            number + 1,
            along,
            across,
            np.nan_to_num(half_axes[:, 1], nan=1.0),
        )

    def _write_nearest(
        self,
        part: tuple[slice, slice, slice],
        distance2: np.ndarray,
        label: int,
        along: np.ndarray,
        across: np.ndarray,
        radius: np.ndarray,
    ) -> None:
        nearest = self.nearest_distance2[part]
        closer = distance2 < nearest
        self.second_distance2[part] = np.where(
            closer, nearest, np.minimum(self.second_distance2[part], distance2)
        )
        np.copyto(nearest, distance2, where=closer)
        for plane, value in (
            (self.nearest, label),
            (self.y, along),
            (self.x, across),
            (self.radius, radius),
        ):
            np.copyto(plane[part], value, where=closer)

    def build_field(self, brightness: np.ndarray) -> Field:
        first, second = np.sqrt(self.nearest_distance2), np.sqrt(self.second_distance2)
        inside = first < self.limit
        with np.errstate(invalid="ignore"):
            border = np.where(second < np.inf, (second - first) / 2, np.inf)
            depth = self.radius * np.where(
                inside, np.minimum(self.limit - first, border), self.limit - first
            )
        depth = np.maximum(depth, -MAX_DISTANCE_PX).astype(np.float32)
        dome = np.clip(1 - (first / self.limit) ** 2, 0, 1)
        factors = np.concatenate([np.ones((1, brightness.shape[1])), brightness]).astype(np.float32)
        shown = factors[self.nearest, np.arange(brightness.shape[1])[:, None, None]]
        return Field(
            np.where(inside, self.nearest, 0), self.nearest, depth, dome, self.y, self.x, shown
        )


def _find_part(
    centre: np.ndarray, present: np.ndarray, extent_px: float
) -> tuple[slice, slice, slice]:
    """Find the frames, rows and columns around a cell with (T, 2) centres."""
    low, high = centre[present].min(0) - extent_px, centre[present].max(0) + extent_px
    rows, columns = (
        slice(max(0, int(start)), max(0, int(stop) + 2))
        for start, stop in zip(low, high, strict=True)
    )
    frames = slice(int(present.argmax()), len(present) - int(present[::-1].argmax()))
    return frames, rows, columns


def compute_filament_field(points: np.ndarray, radii: np.ndarray, *, size: int) -> Field:
    """Compute the field of N filaments; later ones lie in front.

    Parameters
    ----------
    points
        (N, T, P, 2) points along them, less than a pixel apart.
    radii
        (N,) in pixels.
    """
    parts = [
        _compute_filament_frame(points[:, frame], radii, size) for frame in range(points.shape[1])
    ]
    return Field(*(np.stack([part[number] for part in parts]) for number in range(7)))


def _compute_filament_frame(
    points: np.ndarray, radii: np.ndarray, size: int
) -> tuple[np.ndarray, ...]:
    margin = int(radii.max()) + 2
    side = size + 2 * margin
    lines = np.zeros((side, side), dtype=np.int32)
    rank = np.zeros((side, side), dtype=np.float32)
    for number, line in enumerate(points, start=1):
        rows, columns = np.rint(line + margin).astype(int).T
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        lines[rows[inside], columns[inside]] = number
        rank[rows[inside], columns[inside]] = np.flatnonzero(inside)
    if not lines.any():
        lines[0, 0] = 1
    distance, (rows, columns) = distance_transform_edt(lines == 0, return_indices=True)
    frame = (slice(margin, margin + size),) * 2
    nearest, distance = lines[rows, columns][frame], distance[frame]
    radius = np.concatenate([[1.0], radii])[nearest]
    depth = np.maximum(radius + 0.5 - distance, -MAX_DISTANCE_PX).astype(np.float32)
    dome = np.clip(1 - (distance / (radius + 0.5)) ** 2, 0, 1).astype(np.float32)
    along = (rank[rows, columns][frame] + 97.0 * nearest).astype(np.float32)
    across = distance.astype(np.float32)
    labels = np.where(depth > 0, nearest, 0).astype(np.int32)
    return labels, nearest, depth, dome, along, across, np.ones_like(depth)
