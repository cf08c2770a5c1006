"""Field: the truth of a scene and, for each pixel, how deep inside which body it lies: what a scene is painted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from napari_sam2.train.synthetic.cells import SyntheticCells
from napari_sam2.train.synthetic.texture import Texture

MAX_DISTANCE_PX = 40.0
"""The depth of a pixel that is near no body is minus this."""


@dataclass(frozen=True, eq=False)
class Field:
    """All arrays are (T, H, W).

    Parameters
    ----------
    labels
        int32, the truth: 0 is background.
    nearest
        int32, the label of the nearest body, inside and outside of it; 0 near none.
    depth
        float32 pixels to the edge of that body, or to where its neighbour begins; negative outside.
    dome
        float32 from 1 in the middle of a body to 0 at its edge and beyond.
    y, x
        float32 places that move and turn with the bodies, for textures; those of the frame near
        none.
    brightness
        float32 how bright the nearest body is on this frame, of its own brightness; 1 near none.
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
    """The Field of bodies on frames of `size` pixels.

    Parameters
    ----------
    roughness
        How irregular their outlines are: 0 is smooth, 0.3 ragged.
    limit
        How far a body reaches, in its own half axes: where two meet, they share the border. Well
        above 1 the bodies fill the frame, as cells in a tissue do.
    drift_px
        Pixels per frame by which shape and texture change, as from slice to slice.
    """
    length = cells.angle.shape[1]
    brush = _FieldBuilder(length, size, limit)
    radius = float(np.nanmean(cells.half_axes)) if np.isfinite(cells.half_axes).any() else 1.0
    wave = Texture(rng, max(4.0, 1.6 * radius))
    offsets = rng.uniform(0, 1000, (len(cells), 2)).astype(np.float32)
    for number in range(len(cells)):
        brush.add_cell(
            cells, number, offsets[number], texture=wave, roughness=roughness, drift_px=drift_px
        )
    return brush.build_field(cells.brightness)


class _FieldBuilder:
    """Bodies one after another; for each pixel the nearest and how near the next one is, both as squares of half axes."""

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
        seen = np.isfinite(half[:, 0])
        if not seen.any():
            return
        straight = np.float32(cells.straight_share[number]) * half[:, 1]
        place = cells.yx[number].astype(np.float32)
        reach = (
            np.nanmax(half + straight[:, None]) * max(1.4, 1.15 * self.limit) * (1 + roughness) + 3
        )
        box = tuple(
            slice(max(0, int(low)), max(0, int(high) + 2))
            for low, high in zip(
                place[seen].min(0) - reach, place[seen].max(0) + reach, strict=True
            )
        )
        frames = slice(int(seen.argmax()), len(seen) - int(seen[::-1].argmax()))
        part = (frames, *box)
        if not self.nearest_distance2[part].size:
            return
        angle = cells.angle[number, frames].astype(np.float32)[:, None, None]
        dy = self.line[box[0]][None, :, None] - place[frames, 0, None, None]
        dx = self.line[box[1]][None, None, :] - place[frames, 1, None, None]
        cos, sin = np.cos(angle), np.sin(angle)
        u, v = cos * dy + sin * dx, cos * dx - sin * dy
        slide = (np.arange(frames.start, frames.stop, dtype=np.float32) * drift_px)[:, None, None]
        along, across = u + offset[0] + slide, v + offset[1]
        ends = half[frames, :, None, None]
        if straight[seen].any():
            u = np.maximum(np.abs(u) - straight[frames, None, None], 0)
        square = (u / ends[:, 0]) ** 2 + (v / ends[:, 1]) ** 2
        if roughness:
            square *= np.exp(2 * roughness * texture(along, across))
        self._write_nearest(
            part,
            np.where(np.isnan(square), np.inf, square),
            number + 1,
            along,
            across,
            np.nan_to_num(ends[:, 1], nan=1.0),
        )

    def _write_nearest(
        self,
        part: tuple[slice, ...],
        square: np.ndarray,
        label: int,
        along: np.ndarray,
        across: np.ndarray,
        radius: np.ndarray,
    ) -> None:
        first = self.nearest_distance2[part]
        closer = square < first
        self.second_distance2[part] = np.where(
            closer, first, np.minimum(self.second_distance2[part], square)
        )
        np.copyto(first, square, where=closer)
        for plane, value in (
            (self.nearest, label),
            (self.y, along),
            (self.x, across),
            (self.radius, radius),
        ):
            np.copyto(plane[part], value, where=closer)

    def build_field(self, brightness: np.ndarray) -> Field:
        near, next_ = np.sqrt(self.nearest_distance2), np.sqrt(self.second_distance2)
        inside = near < self.limit
        with np.errstate(invalid="ignore"):
            border = np.where(next_ < np.inf, (next_ - near) / 2, np.inf)
            depth = self.radius * np.where(
                inside, np.minimum(self.limit - near, border), self.limit - near
            )
        depth = np.maximum(depth, -MAX_DISTANCE_PX).astype(np.float32)
        dome = np.clip(1 - (near / self.limit) ** 2, 0, 1)
        factors = np.concatenate([np.ones((1, brightness.shape[1])), brightness]).astype(np.float32)
        seen = factors[self.nearest, np.arange(brightness.shape[1])[:, None, None]]
        return Field(
            np.where(inside, self.nearest, 0), self.nearest, depth, dome, self.y, self.x, seen
        )


def compute_filament_field(points: np.ndarray, radii: np.ndarray, *, size: int) -> Field:
    """The Field of N filaments: (N, T, P, 2) points along them, close enough to draw, and (N,) radii in pixels.

    Where two cross, the later one lies in front.
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
    drawn = np.zeros((side, side), dtype=np.int32)
    rank = np.zeros((side, side), dtype=np.float32)
    for number, line in enumerate(points, start=1):
        rows, columns = np.rint(line + margin).astype(int).T
        held = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        drawn[rows[held], columns[held]] = number
        rank[rows[held], columns[held]] = np.flatnonzero(held)
    if not drawn.any():
        drawn[0, 0] = 1
    away, (rows, columns) = distance_transform_edt(drawn == 0, return_indices=True)
    here = (slice(margin, margin + size),) * 2
    nearest, radius = (
        drawn[rows, columns][here],
        np.concatenate([[1.0], radii])[drawn[rows, columns]][here],
    )
    depth = np.maximum(radius + 0.5 - away[here], -MAX_DISTANCE_PX).astype(np.float32)
    dome = np.clip(1 - (away[here] / (radius + 0.5)) ** 2, 0, 1).astype(np.float32)
    along = rank[rows, columns][here] + 97.0 * nearest
    labels, places = (
        np.where(depth > 0, nearest, 0).astype(np.int32),
        (along.astype(np.float32), away[here].astype(np.float32)),
    )
    return labels, nearest, depth, dome, *places, np.ones_like(depth)
