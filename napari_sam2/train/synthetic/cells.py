"""Synthetic cells: ellipses and rods that move, change their size and divide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class SyntheticCells:
    """N cells over T frames; the label of a cell is its index + 1.

    Parameters
    ----------
    yx
        (N, T, 2) centres in pixels.
    angle
        (N, T) direction of the long axis, in radians from y.
    half_axes
        (N, T, 2) half axes along and across, in pixels; NaN if the cell is absent.
    straight_share
        (N,) half length of a straight part between the two ends, as a share of the half axis
        across: 0 for ellipses.
    brightness
        (N, T) factor of each cell's own brightness.
    """

    yx: np.ndarray
    angle: np.ndarray
    half_axes: np.ndarray
    straight_share: np.ndarray
    brightness: np.ndarray

    def __len__(self) -> int:
        return len(self.yx)

    def mask_absent(self, absent: np.ndarray) -> SyntheticCells:
        """Return a copy in which cells are absent if (N, T) `absent` is True."""
        return replace(self, half_axes=np.where(absent[..., None], np.nan, self.half_axes))


@dataclass(frozen=True)
class CellPopulation:
    """Properties of a population of cells.

    Parameters
    ----------
    radius_px
        Mean radius in pixels.
    spread
        Standard deviation of the logarithm of the radius.
    aspect
        Range of the ratio of the long to the short axis.
    straight_share
        Range, see `SyntheticCells`.
    spacing
        Least distance of two centres, relative to the sum of their radii: below 1 they touch.
    max_cells
        Largest number of cells.
    occupancy
        Share of the possible positions that have a cell.
    """

    radius_px: float
    spread: float = 0.2
    aspect: tuple[float, float] = (1.0, 1.8)
    straight_share: tuple[float, float] = (0.0, 0.0)
    spacing: float = 1.1
    max_cells: int = 120
    occupancy: float = 1.0


def scatter_cells(
    population: CellPopulation, rng: np.random.Generator, *, length: int, size: int
) -> SyntheticCells:
    """Scatter resting cells over frames of `size` pixels and their surroundings.

    One of them is in the middle part of the frames.
    """
    margin = 1.5 * population.radius_px
    tries = int(
        min(4 * population.max_cells, 8 + 1.5 * ((size + 2 * margin) / population.radius_px) ** 2)
    )
    radii = population.radius_px * np.exp(rng.normal(0, population.spread, tries))
    centres = rng.uniform(-margin, size + margin, (len(radii), 2))
    centres[0] = rng.uniform(0.3, 0.7, 2) * size
    chosen = _select_spaced(centres, radii, population.spacing, population.max_cells)
    occupied = rng.random(len(chosen) - 1) < population.occupancy
    chosen = chosen[np.concatenate([[True], occupied])]
    aspect = np.sqrt(rng.uniform(*population.aspect, len(chosen)))
    half = radii[chosen, None] * np.stack([aspect, 1 / aspect], axis=1)
    return SyntheticCells(
        yx=np.repeat(centres[chosen, None], length, axis=1),
        angle=np.repeat(rng.uniform(0, np.pi, (len(chosen), 1)), length, axis=1),
        half_axes=np.repeat(half[:, None], length, axis=1),
        straight_share=rng.uniform(*population.straight_share, len(chosen)),
        brightness=np.ones((len(chosen), length)),
    )


def add_motion(
    cells: SyntheticCells,
    rng: np.random.Generator,
    *,
    speed_px: float,
    turn_rad: float = 0.05,
    size_jitter: float = 0.03,
) -> SyntheticCells:
    """Let cells move, partly together.

    Parameters
    ----------
    speed_px
        In pixels per frame.
    turn_rad
        Standard deviation of the rotation per frame.
    size_jitter
        Standard deviation of the change of size per frame, as a share of the size.
    """
    count, length = cells.angle.shape
    steps = (
        rng.normal(0, 1, (count, 1, 2)) * 0.7
        + rng.normal(0, 1, (1, 1, 2)) * 0.5
        + rng.normal(0, 0.5, (count, length, 2))
    )
    steps[:, 0] = 0
    turns = np.cumsum(rng.normal(0, turn_rad, (count, length)), axis=1)
    sizes = np.exp(np.cumsum(rng.normal(0, size_jitter, (count, length, 2)), axis=1))
    light = cells.brightness * np.exp(rng.normal(0, 0.06, (count, length)))
    return replace(
        cells,
        yx=cells.yx + speed_px * np.cumsum(steps, axis=1),
        angle=cells.angle + turns,
        half_axes=cells.half_axes * sizes,
        brightness=light,
    )


def slice_ellipsoids(
    cells: SyntheticCells, rng: np.random.Generator, *, half_height: float
) -> SyntheticCells:
    """Cut cells as ellipsoids into slices; `half_height` is their mean half height in slices.

    The first slice cuts the first cell.
    """
    count, length = cells.angle.shape
    heights = half_height * np.exp(rng.normal(0, 0.2, (count, 1)))
    centres = rng.uniform(-half_height, length - 1 + half_height, (count, 1))
    centres[0] = rng.uniform(-0.7, 0.7) * heights[0]
    scale2 = 1 - ((np.arange(length)[None] - centres) / heights) ** 2
    scale = np.sqrt(np.maximum(scale2, 0))
    shift = (
        rng.normal(0, 0.03, (count, 1, 2))
        * cells.half_axes[:, :1, :1]
        * np.arange(length)[None, :, None]
    )
    # the ends of a cell are darker, because they are thinner than the focus is deep
    brightness = cells.brightness * scale ** rng.uniform(0, 1.5)
    return replace(
        cells,
        yx=cells.yx + shift,
        half_axes=cells.half_axes * scale[..., None],
        brightness=brightness,
    ).mask_absent(scale < 0.15)


def add_divisions(
    cells: SyntheticCells, rng: np.random.Generator, *, dividing_share: float
) -> SyntheticCells:
    """Replace a share of the cells by two daughters, new cells, from a random frame on."""
    count, length = cells.angle.shape
    if length < 2:
        return cells
    parents = np.flatnonzero(rng.random(count) < dividing_share)
    division_frames = rng.integers(1, length, len(parents))
    since = np.arange(length)[None] - division_frames[:, None]
    absent = np.zeros((count, length), dtype=bool)
    absent[parents] = since >= 0
    radius = cells.half_axes[parents].min(axis=(1, 2))[:, None]
    distance = (
        radius * (0.75 + 0.12 * np.maximum(since, 0))
        + cells.straight_share[parents, None] * radius * 0.5
    )
    axis = np.stack([np.cos(cells.angle[parents]), np.sin(cells.angle[parents])], axis=-1)
    daughters = [
        _make_daughters(cells, parents, axis * distance[..., None] * side, since < 0)
        for side in (-1, 1)
    ]
    return _concatenate_cells([cells.mask_absent(absent), *daughters])


def _make_daughters(
    cells: SyntheticCells, parents: np.ndarray, shift: np.ndarray, absent: np.ndarray
) -> SyntheticCells:
    daughters = SyntheticCells(
        cells.yx[parents] + shift,
        cells.angle[parents],
        cells.half_axes[parents] * 0.72,
        cells.straight_share[parents] * 0.3,
        cells.brightness[parents],
    )
    return daughters.mask_absent(absent)


def _concatenate_cells(parts: list[SyntheticCells]) -> SyntheticCells:
    return SyntheticCells(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("yx", "angle", "half_axes", "straight_share", "brightness")
        )
    )


def _select_spaced(
    positions: np.ndarray, radii: np.ndarray, spacing: float, max_cells: int
) -> np.ndarray:
    """Select the indices of at most `max_cells` positions that are far enough from each other."""
    free = np.ones(len(positions), dtype=bool)
    selected: list[int] = []
    for index in range(len(positions)):
        if free[index] and len(selected) < max_cells:
            selected.append(index)
            distance2 = ((positions - positions[index]) ** 2).sum(axis=1)
            free &= distance2 >= (spacing * (radii + radii[index])) ** 2
    return np.array(selected)
