"""Scenes to train on, by name: what lives there, how it changes from frame to frame, and how it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from napari_sam2.train.synthetic.appearance import LOOKS, Canvas, littered
from napari_sam2.train.synthetic.cells import (
    Bodies,
    Kind,
    dividing,
    scattered,
    through_z,
    wandering,
)
from napari_sam2.train.synthetic.field import Field, of_bodies, of_strands
from napari_sam2.train.synthetic.grain import Grain

Painted = tuple[np.ndarray, np.ndarray]
"""Frames (T, H, W) float32 in 0..1, and labels int32, 0 background."""

_SMALLEST_PX, _LARGEST = 4.0, 0.35  # radius of a body: pixels, and share of the frame's side


@dataclass(frozen=True)
class _Sheet:
    """What a scene is painted on: chance, frames and their side."""

    rng: np.random.Generator
    length: int
    size: int

    def radius(self, low: float, high: float) -> float:
        """A radius in pixels, its logarithm uniform, kept between a dot and a third of the frame."""
        most = max(_LARGEST * self.size, _SMALLEST_PX)
        ends = np.log(np.clip([low, high], _SMALLEST_PX, most))
        return float(np.exp(self.rng.uniform(*ends)))

    def settled(self, kind: Kind) -> Bodies:
        return scattered(kind, self.rng, length=self.length, size=self.size)

    def field(
        self, bodies: Bodies, *, rough: float = 0.0, limit: float = 1.0, drift: float = 0.0
    ) -> Field:
        return of_bodies(bodies, self.rng, size=self.size, rough=rough, limit=limit, drift=drift)

    def look(self, field: Field, radius: float, names: str) -> Painted:
        """Painted in one of these looks, its greys from 0.1 to 99.9 percent drawn out to 0..1, as a Video's are."""
        look = LOOKS[str(self.rng.choice(names.split()))]
        image = littered(look(Canvas(field, self.rng, radius)), self.rng)
        low, high = np.percentile(image[:, ::2, ::2], [0.1, 99.9])
        image = image + self.rng.uniform(0, 0.04) * (high - low) * self.rng.standard_normal(
            image.shape, dtype=np.float32
        )
        return np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32), field.labels


def nuclei(sheet: _Sheet) -> Painted:
    """Round or oval nuclei that move, touch and divide."""
    rng, radius = sheet.rng, sheet.radius(5, 40)
    kind = Kind(
        radius,
        spread=rng.uniform(0.05, 0.3),
        aspect=(1.0, rng.uniform(1.2, 2.2)),
        spacing=rng.uniform(0.75, 1.5),
        filled=rng.uniform(0.4, 1),
    )
    bodies = wandering(
        sheet.settled(kind), rng, speed=radius * rng.uniform(0, 0.35), turn=rng.uniform(0, 0.15)
    )
    if rng.random() < 0.5:
        bodies = dividing(bodies, rng, share=rng.uniform(0.05, 0.3))
    return sheet.look(
        sheet.field(bodies, rough=rng.uniform(0, 0.12)),
        radius,
        "glowing glowing glowing stained relief phase",
    )


def slices(sheet: _Sheet) -> Painted:
    """A z-stack of ellipsoids: they grow, shrink and end, and shine through from slices above and below."""
    rng, radius = sheet.rng, sheet.radius(6, 45)
    kind = Kind(radius, spread=0.2, aspect=(1.0, 1.8), spacing=rng.uniform(0.7, 1.1))
    bodies = through_z(
        sheet.settled(kind), rng, tall=float(np.exp(rng.uniform(np.log(2.0), np.log(14))))
    )
    field = sheet.field(bodies, rough=rng.uniform(0, 0.12), drift=rng.uniform(0, 2))
    frames, labels = sheet.look(field, radius, "glowing glowing glowing outlined stained electron")
    if rng.random() < 0.6:
        frames = gaussian_filter1d(frames, rng.uniform(0.3, 0.9), axis=0, mode="nearest")
    return frames, labels


def tissue(sheet: _Sheet) -> Painted:
    """Cells wall to wall, in time or in depth."""
    rng, radius = sheet.rng, sheet.radius(7, 36)
    kind = Kind(
        radius,
        spread=rng.uniform(0.05, 0.3),
        aspect=(1.0, rng.uniform(1.1, 2.0)),
        spacing=rng.uniform(0.8, 1.0),
    )
    bodies = wandering(
        sheet.settled(kind), rng, speed=radius * rng.uniform(0, 0.12), turn=0.05, breath=0.05
    )
    field = sheet.field(
        bodies, rough=rng.uniform(0, 0.2), limit=rng.uniform(1.1, 2.2), drift=rng.uniform(0, 1.5)
    )
    return sheet.look(field, radius, "outlined outlined outlined electron electron glowing phase")


def colony(sheet: _Sheet) -> Painted:
    """Rods side by side, growing and dividing."""
    rng, radius = sheet.rng, sheet.radius(4, 12)
    kind = Kind(
        radius,
        spread=0.12,
        aspect=(1.0, 1.2),
        straight=(0.5, rng.uniform(1.5, 4.0)),
        spacing=rng.uniform(1.0, 1.8),
        filled=rng.uniform(0.5, 1),
    )
    bodies = sheet.settled(kind)
    if rng.random() < 0.6:  # neighbours lie side by side
        along = 0.8 * Grain(rng, 48.0)(bodies.yx[..., 0], bodies.yx[..., 1])
        bodies = replace(bodies, angle=along + 0.1 * bodies.angle)
    bodies = wandering(bodies, rng, speed=radius * rng.uniform(0, 0.4), turn=0.08)
    if rng.random() < 0.5:
        bodies = dividing(bodies, rng, share=rng.uniform(0.1, 0.4))
    return sheet.look(
        sheet.field(bodies, rough=rng.uniform(0, 0.08)), radius, "glowing phase phase relief"
    )


def crawling(sheet: _Sheet) -> Painted:
    """Ragged cells in culture that spread, crawl and change their shape."""
    rng, radius = sheet.rng, sheet.radius(9, 40)
    kind = Kind(
        radius,
        spread=0.25,
        aspect=(1.0, 3.0),
        spacing=rng.uniform(0.8, 1.5),
        filled=rng.uniform(0.4, 1),
    )
    bodies = wandering(
        sheet.settled(kind), rng, speed=radius * rng.uniform(0.02, 0.3), turn=0.1, breath=0.06
    )
    if rng.random() < 0.3:
        bodies = dividing(bodies, rng, share=0.15)
    field = sheet.field(bodies, rough=rng.uniform(0.1, 0.35), drift=rng.uniform(0, 2))
    return sheet.look(field, radius, "phase phase relief glowing stained outlined")


def organs(sheet: _Sheet) -> Painted:
    """A few large smooth regions, from slice to slice."""
    rng, radius = sheet.rng, sheet.radius(14, 70)
    kind = Kind(
        radius,
        spread=0.4,
        aspect=(1.0, 2.0),
        spacing=rng.uniform(0.7, 1.0),
        most=int(rng.integers(1, 9)),
    )
    bodies = sheet.settled(kind)
    if rng.random() < 0.6:
        bodies = through_z(bodies, rng, tall=float(np.exp(rng.uniform(np.log(4), np.log(25)))))
    bodies = wandering(bodies, rng, speed=0.02 * radius, turn=0.03, breath=0.04)
    return sheet.look(
        sheet.field(bodies, rough=rng.uniform(0.05, 0.25), drift=rng.uniform(0, 2)),
        radius,
        "scanned scanned scanned glowing electron",
    )


def strands(sheet: _Sheet) -> Painted:
    """Filaments that bend: fibres, hyphae, neurites, worms."""
    rng = sheet.rng
    radius = float(np.exp(rng.uniform(np.log(1.2), np.log(6.0))))
    count = int(rng.integers(1, max(3, min(10, int(25 / radius)))))
    radii = radius * np.exp(rng.normal(0, 0.15, count))
    field = of_strands(_curves(sheet, count), radii, size=sheet.size)
    return sheet.look(field, max(3.0, 2 * radius), "glowing glowing phase stained relief outlined")


def _curves(sheet: _Sheet, count: int) -> np.ndarray:
    """(N, T, P, 2) points half a pixel apart along curves that wander through the view and sway."""
    rng, size = sheet.rng, sheet.size
    reach = size * rng.uniform(0.3, 1.4)
    points = max(8, int(2 * reach))
    waves = rng.normal(0, 1, (count, 4)) * rng.uniform(0.1, 0.9) / np.arange(1, 5)
    along = np.linspace(0, 1, points)
    phases = (
        rng.uniform(0, 2 * np.pi, (count, 1, 4))
        + rng.normal(0, 0.15, (count, 1, 4)) * np.arange(sheet.length)[None, :, None]
    )
    bend = (
        waves[:, None, :, None]
        * np.sin(np.arange(1, 5)[:, None] * np.pi * along + phases[..., None])
    ).sum(axis=2)
    heading = rng.uniform(0, 2 * np.pi, (count, 1, 1)) + 2 * bend
    steps = np.stack([np.sin(heading), np.cos(heading)], axis=-1) * 0.5
    curve = np.cumsum(steps, axis=2)
    drift = (
        rng.normal(0, 0.01 * size, (count, 1, 1, 2)) * np.arange(sheet.length)[None, :, None, None]
    )
    middle = rng.uniform(0, 1, (count, 1, 1, 2))
    middle[0] = 0.3 + 0.4 * middle[0]
    return np.asarray(curve - curve[:, :1].mean(axis=2, keepdims=True) + middle * size + drift)


SCENES: dict[str, Callable[[_Sheet], Painted]] = {
    scene.__name__: scene for scene in (nuclei, slices, tissue, colony, crawling, organs, strands)
}
"""Every scene by name."""


def paint(name: str, rng: np.random.Generator, *, length: int, size: int) -> Painted:
    """A new scene of that name: the same generator state, the same scene.

    KeyError for a name that is not in `SCENES`.
    """
    return SCENES[name](_Sheet(rng, length, size))
