"""Bodies: ellipses and rods with a life of their own: where they are on each frame, how large, and when they divide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class SyntheticCells:
    """N bodies over T frames; a body is label 1 + its number.

    Parameters
    ----------
    yx
        (N, T, 2) middles in pixels.
    angle
        (N, T) direction of the long axis, in radians from y.
    half_axes
        (N, T, 2) half axes along and across, in pixels; NaN where the body is not there.
    straight_share
        (N,) half length of a straight part between the two ends, as a share of the half axis
        across: 0 for ellipses.
    brightness
        (N, T) how bright each is, of its own brightness.
    """

    yx: np.ndarray
    angle: np.ndarray
    half_axes: np.ndarray
    straight_share: np.ndarray
    brightness: np.ndarray

    def __len__(self) -> int:
        return len(self.yx)

    def mask_absent(self, absent: np.ndarray) -> SyntheticCells:
        """The same, absent where (N, T) `absent` is True."""
        return replace(self, half_axes=np.where(absent[..., None], np.nan, self.half_axes))


@dataclass(frozen=True)
class CellPopulation:
    """What a population is like.

    Parameters
    ----------
    radius
        Mean radius in pixels.
    spread
        Standard deviation of its logarithm, among bodies.
    aspect
        Range of long over short axis.
    straight
        See `SyntheticCells`; its range.
    spacing
        Least distance of two middles, in sums of their radii: below 1 they touch.
    most
        Bodies at most.
    filled
        Share of the places that are taken.
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
    """Bodies at rest over a view of `size` pixels and its surroundings, one of them in the view's middle part."""
    margin = 1.5 * population.radius_px
    tries = int(
        min(4 * population.max_cells, 8 + 1.5 * ((size + 2 * margin) / population.radius_px) ** 2)
    )
    radii = population.radius_px * np.exp(rng.normal(0, population.spread, tries))
    places = rng.uniform(-margin, size + margin, (len(radii), 2))
    places[0] = rng.uniform(0.3, 0.7, 2) * size
    kept = _select_spaced(places, radii, population.spacing, population.max_cells)
    kept = kept[np.concatenate([[True], rng.random(len(kept) - 1) < population.occupancy])]
    aspect = np.sqrt(rng.uniform(*population.aspect, len(kept)))
    half = radii[kept, None] * np.stack([aspect, 1 / aspect], axis=1)
    return SyntheticCells(
        yx=np.repeat(places[kept, None], length, axis=1),
        angle=np.repeat(rng.uniform(0, np.pi, (len(kept), 1)), length, axis=1),
        half_axes=np.repeat(half[:, None], length, axis=1),
        straight_share=rng.uniform(*population.straight_share, len(kept)),
        brightness=np.ones((len(kept), length)),
    )


def add_motion(
    cells: SyntheticCells,
    rng: np.random.Generator,
    *,
    speed_px: float,
    turn_rad: float = 0.05,
    size_jitter: float = 0.03,
) -> SyntheticCells:
    """The same, moving: `speed_px` in pixels per frame, `turn_rad` in radians, `size_jitter` as a share of their size; some together."""
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
    """The same as ellipsoids of a mean half height of `half_height` slices, cut by slices in a row; the first body is cut by the first one."""
    count, length = cells.angle.shape
    heights = half_height * np.exp(rng.normal(0, 0.2, (count, 1)))
    middles = rng.uniform(-half_height, length - 1 + half_height, (count, 1))
    middles[0] = rng.uniform(-0.7, 0.7) * heights[0]
    left = 1 - ((np.arange(length)[None] - middles) / heights) ** 2
    scale = np.sqrt(np.maximum(left, 0))
    shift = (
        rng.normal(0, 0.03, (count, 1, 2))
        * cells.half_axes[:, :1, :1]
        * np.arange(length)[None, :, None]
    )
    light = cells.brightness * scale ** rng.uniform(
        0, 1.5
    )  # the ends of a body shine less: the focus is deeper than they are
    return replace(
        cells, yx=cells.yx + shift, half_axes=cells.half_axes * scale[..., None], brightness=light
    ).mask_absent(scale < 0.15)


def add_divisions(
    cells: SyntheticCells, rng: np.random.Generator, *, dividing_share: float
) -> SyntheticCells:
    """The same, a share of them replaced by two daughters (new bodies) from some frame on, after having become round and long."""
    count, length = cells.angle.shape
    if length < 2:
        return cells
    mothers = np.flatnonzero(rng.random(count) < dividing_share)
    when = rng.integers(1, length, len(mothers))
    frames = np.arange(length)
    gone = np.zeros((count, length), dtype=bool)
    gone[mothers] = frames[None] >= when[:, None]
    since = frames[None] - when[:, None]
    radius = cells.half_axes[mothers].min(axis=(1, 2))[:, None]
    apart = (
        radius * (0.75 + 0.12 * np.maximum(since, 0))
        + cells.straight_share[mothers, None] * radius * 0.5
    )
    axis = np.stack([np.cos(cells.angle[mothers]), np.sin(cells.angle[mothers])], axis=-1)
    twins = [
        _make_daughters(cells, mothers, axis * apart[..., None] * side, since < 0)
        for side in (-1, 1)
    ]
    return _concatenate_cells([cells.mask_absent(gone), *twins])


def _make_daughters(
    cells: SyntheticCells, parents: np.ndarray, shift: np.ndarray, absent: np.ndarray
) -> SyntheticCells:
    half = cells.half_axes[parents] * 0.72
    straight = cells.straight_share[parents] * 0.3
    born = SyntheticCells(
        cells.yx[parents] + shift, cells.angle[parents], half, straight, cells.brightness[parents]
    )
    return born.mask_absent(absent)


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
    """Numbers of `max_cells` places that keep their distance from all kept before them."""
    free = np.ones(len(positions), dtype=bool)
    kept: list[int] = []
    for number in range(len(positions)):
        if free[number] and len(kept) < max_cells:
            kept.append(number)
            free &= ((positions - positions[number]) ** 2).sum(axis=1) >= (
                spacing * (radii + radii[number])
            ) ** 2
    return np.array(kept)
