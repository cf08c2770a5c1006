"""Bodies: ellipses and rods with a life of their own: where they are on each frame, how large, and when they divide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Bodies:
    """N bodies over T frames; a body is label 1 + its number.

    Parameters
    ----------
    yx
        (N, T, 2) middles in pixels.
    angle
        (N, T) direction of the long axis, in radians from y.
    half
        (N, T, 2) half axes along and across, in pixels; NaN where the body is not there.
    straight
        (N,) half length of a straight part between the two ends, as a share of the half axis
        across: 0 for ellipses.
    light
        (N, T) how bright each is, of its own brightness.
    """

    yx: np.ndarray
    angle: np.ndarray
    half: np.ndarray
    straight: np.ndarray
    light: np.ndarray

    def __len__(self) -> int:
        return len(self.yx)

    def without(self, gone: np.ndarray) -> Bodies:
        """The same, absent where (N, T) `gone` is True."""
        return replace(self, half=np.where(gone[..., None], np.nan, self.half))


@dataclass(frozen=True)
class Kind:
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
        See `Bodies`; its range.
    spacing
        Least distance of two middles, in sums of their radii: below 1 they touch.
    most
        Bodies at most.
    filled
        Share of the places that are taken.
    """

    radius: float
    spread: float = 0.2
    aspect: tuple[float, float] = (1.0, 1.8)
    straight: tuple[float, float] = (0.0, 0.0)
    spacing: float = 1.1
    most: int = 120
    filled: float = 1.0


def scattered(kind: Kind, rng: np.random.Generator, *, length: int, size: int) -> Bodies:
    """Bodies at rest over a view of `size` pixels and its surroundings, one of them in the view's middle part."""
    margin = 1.5 * kind.radius
    tries = int(min(4 * kind.most, 8 + 1.5 * ((size + 2 * margin) / kind.radius) ** 2))
    radii = kind.radius * np.exp(rng.normal(0, kind.spread, tries))
    places = rng.uniform(-margin, size + margin, (len(radii), 2))
    places[0] = rng.uniform(0.3, 0.7, 2) * size
    kept = _apart(places, radii, kind.spacing, kind.most)
    kept = kept[np.concatenate([[True], rng.random(len(kept) - 1) < kind.filled])]
    aspect = np.sqrt(rng.uniform(*kind.aspect, len(kept)))
    half = radii[kept, None] * np.stack([aspect, 1 / aspect], axis=1)
    return Bodies(
        yx=np.repeat(places[kept, None], length, axis=1),
        angle=np.repeat(rng.uniform(0, np.pi, (len(kept), 1)), length, axis=1),
        half=np.repeat(half[:, None], length, axis=1),
        straight=rng.uniform(*kind.straight, len(kept)),
        light=np.ones((len(kept), length)),
    )


def wandering(
    bodies: Bodies,
    rng: np.random.Generator,
    *,
    speed: float,
    turn: float = 0.05,
    breath: float = 0.03,
) -> Bodies:
    """The same, moving: `speed` in pixels per frame, `turn` in radians, `breath` as a share of their size; some together."""
    count, length = bodies.angle.shape
    steps = (
        rng.normal(0, 1, (count, 1, 2)) * 0.7
        + rng.normal(0, 1, (1, 1, 2)) * 0.5
        + rng.normal(0, 0.5, (count, length, 2))
    )
    steps[:, 0] = 0
    turns = np.cumsum(rng.normal(0, turn, (count, length)), axis=1)
    sizes = np.exp(np.cumsum(rng.normal(0, breath, (count, length, 2)), axis=1))
    light = bodies.light * np.exp(rng.normal(0, 0.06, (count, length)))
    return replace(
        bodies,
        yx=bodies.yx + speed * np.cumsum(steps, axis=1),
        angle=bodies.angle + turns,
        half=bodies.half * sizes,
        light=light,
    )


def through_z(bodies: Bodies, rng: np.random.Generator, *, tall: float) -> Bodies:
    """The same as ellipsoids of a mean half height of `tall` slices, cut by slices in a row; the first body is cut by the first one."""
    count, length = bodies.angle.shape
    heights = tall * np.exp(rng.normal(0, 0.2, (count, 1)))
    middles = rng.uniform(-tall, length - 1 + tall, (count, 1))
    middles[0] = rng.uniform(-0.7, 0.7) * heights[0]
    left = 1 - ((np.arange(length)[None] - middles) / heights) ** 2
    scale = np.sqrt(np.maximum(left, 0))
    shift = (
        rng.normal(0, 0.03, (count, 1, 2))
        * bodies.half[:, :1, :1]
        * np.arange(length)[None, :, None]
    )
    light = bodies.light * scale ** rng.uniform(
        0, 1.5
    )  # the ends of a body shine less: the focus is deeper than they are
    return replace(
        bodies, yx=bodies.yx + shift, half=bodies.half * scale[..., None], light=light
    ).without(scale < 0.15)


def dividing(bodies: Bodies, rng: np.random.Generator, *, share: float) -> Bodies:
    """The same, a share of them replaced by two daughters (new bodies) from some frame on, after having become round and long."""
    count, length = bodies.angle.shape
    if length < 2:
        return bodies
    mothers = np.flatnonzero(rng.random(count) < share)
    when = rng.integers(1, length, len(mothers))
    frames = np.arange(length)
    gone = np.zeros((count, length), dtype=bool)
    gone[mothers] = frames[None] >= when[:, None]
    since = frames[None] - when[:, None]
    radius = bodies.half[mothers].min(axis=(1, 2))[:, None]
    apart = (
        radius * (0.75 + 0.12 * np.maximum(since, 0))
        + bodies.straight[mothers, None] * radius * 0.5
    )
    axis = np.stack([np.cos(bodies.angle[mothers]), np.sin(bodies.angle[mothers])], axis=-1)
    twins = [
        _daughters(bodies, mothers, axis * apart[..., None] * side, since < 0) for side in (-1, 1)
    ]
    return _joined([bodies.without(gone), *twins])


def _daughters(
    bodies: Bodies, mothers: np.ndarray, shift: np.ndarray, before: np.ndarray
) -> Bodies:
    half = bodies.half[mothers] * 0.72
    straight = bodies.straight[mothers] * 0.3
    born = Bodies(
        bodies.yx[mothers] + shift, bodies.angle[mothers], half, straight, bodies.light[mothers]
    )
    return born.without(before)


def _joined(parts: list[Bodies]) -> Bodies:
    return Bodies(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("yx", "angle", "half", "straight", "light")
        )
    )


def _apart(places: np.ndarray, radii: np.ndarray, spacing: float, most: int) -> np.ndarray:
    """Numbers of `most` places that keep their distance from all kept before them."""
    free = np.ones(len(places), dtype=bool)
    kept: list[int] = []
    for number in range(len(places)):
        if free[number] and len(kept) < most:
            kept.append(number)
            free &= ((places - places[number]) ** 2).sum(axis=1) >= (
                spacing * (radii + radii[number])
            ) ** 2
    return np.array(kept)
