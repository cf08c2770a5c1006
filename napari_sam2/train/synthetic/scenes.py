"""Synthetic scenes by name: their cells, how these change over frames, and how they look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from napari_sam2.train.synthetic.appearance import RENDERERS, RenderContext, add_debris
from napari_sam2.train.synthetic.cells import (
    CellPopulation,
    SyntheticCells,
    add_divisions,
    add_motion,
    scatter_cells,
    slice_ellipsoids,
)
from napari_sam2.train.synthetic.field import Field, compute_cell_field, compute_filament_field
from napari_sam2.train.synthetic.texture import Texture

SyntheticClip = tuple[np.ndarray, np.ndarray]
"""Frames (T, H, W) float32 in 0..1, and labels int32, 0 background."""

# Limits of a cell's radius: in pixels, and as a share of the frame's side.
_MIN_RADIUS_PX, _MAX_RADIUS_SHARE = 4.0, 0.35


@dataclass(frozen=True)
class _SceneSetup:
    """Random numbers, the number of frames and their side in pixels."""

    rng: np.random.Generator
    length: int
    size: int

    def sample_radius_px(self, low: float, high: float) -> float:
        """Sample a radius in pixels with a uniform logarithm, limited to a third of the frame."""
        limit = max(_MAX_RADIUS_SHARE * self.size, _MIN_RADIUS_PX)
        ends = np.log(np.clip([low, high], _MIN_RADIUS_PX, limit))
        return float(np.exp(self.rng.uniform(*ends)))

    def scatter_cells(self, population: CellPopulation) -> SyntheticCells:
        return scatter_cells(population, self.rng, length=self.length, size=self.size)

    def compute_field(
        self,
        cells: SyntheticCells,
        *,
        roughness: float = 0.0,
        limit: float = 1.0,
        drift_px: float = 0.0,
    ) -> Field:
        return compute_cell_field(
            cells, self.rng, size=self.size, roughness=roughness, limit=limit, drift_px=drift_px
        )

    def render(self, field: Field, radius_px: float, names: str) -> SyntheticClip:
        """Render a field by one of the named renderers, with grey values in 0..1.

        The 0.1 and 99.9 percentiles become 0 and 1, as in a Video.
        """
        renderer = RENDERERS[str(self.rng.choice(names.split()))]
        image = add_debris(renderer(RenderContext(field, self.rng, radius_px)), self.rng)
        low, high = np.percentile(image[:, ::2, ::2], [0.1, 99.9])
        image = image + self.rng.uniform(0, 0.04) * (high - low) * self.rng.standard_normal(
            image.shape, dtype=np.float32
        )
        return np.clip((image - low) / max(high - low, 1e-6), 0, 1).astype(np.float32), field.labels


def paint_nuclei(setup: _SceneSetup) -> SyntheticClip:
    """Paint round or oval nuclei that move, touch and divide."""
    rng, radius = setup.rng, setup.sample_radius_px(5, 40)
    kind = CellPopulation(
        radius,
        spread=rng.uniform(0.05, 0.3),
        aspect=(1.0, rng.uniform(1.2, 2.2)),
        spacing=rng.uniform(0.75, 1.5),
        occupancy=rng.uniform(0.4, 1),
    )
    cells = add_motion(
        setup.scatter_cells(kind),
        rng,
        speed_px=radius * rng.uniform(0, 0.35),
        turn_rad=rng.uniform(0, 0.15),
    )
    if rng.random() < 0.5:
        cells = add_divisions(cells, rng, dividing_share=rng.uniform(0.05, 0.3))
    return setup.render(
        setup.compute_field(cells, roughness=rng.uniform(0, 0.12)),
        radius,
        "fluorescence fluorescence fluorescence histology dic phase_contrast",
    )


def paint_slices(setup: _SceneSetup) -> SyntheticClip:
    """Paint a z-stack of ellipsoids, blurred between neighbouring slices."""
    rng, radius = setup.rng, setup.sample_radius_px(6, 45)
    kind = CellPopulation(radius, spread=0.2, aspect=(1.0, 1.8), spacing=rng.uniform(0.7, 1.1))
    cells = slice_ellipsoids(
        setup.scatter_cells(kind),
        rng,
        half_height=float(np.exp(rng.uniform(np.log(2.0), np.log(14)))),
    )
    field = setup.compute_field(cells, roughness=rng.uniform(0, 0.12), drift_px=rng.uniform(0, 2))
    frames, labels = setup.render(
        field,
        radius,
        "fluorescence fluorescence fluorescence membrane histology electron_microscopy",
    )
    if rng.random() < 0.6:
        frames = gaussian_filter1d(frames, rng.uniform(0.3, 0.9), axis=0, mode="nearest")
    return frames, labels


def paint_tissue(setup: _SceneSetup) -> SyntheticClip:
    """Paint densely packed cells, in time or in depth."""
    rng, radius = setup.rng, setup.sample_radius_px(7, 36)
    kind = CellPopulation(
        radius,
        spread=rng.uniform(0.05, 0.3),
        aspect=(1.0, rng.uniform(1.1, 2.0)),
        spacing=rng.uniform(0.8, 1.0),
    )
    cells = add_motion(
        setup.scatter_cells(kind),
        rng,
        speed_px=radius * rng.uniform(0, 0.12),
        turn_rad=0.05,
        size_jitter=0.05,
    )
    field = setup.compute_field(
        cells,
        roughness=rng.uniform(0, 0.2),
        limit=rng.uniform(1.1, 2.2),
        drift_px=rng.uniform(0, 1.5),
    )
    return setup.render(
        field,
        radius,
        "membrane membrane membrane electron_microscopy electron_microscopy fluorescence "
        "phase_contrast",
    )


def paint_colony(setup: _SceneSetup) -> SyntheticClip:
    """Paint rods side by side that move and divide."""
    rng, radius = setup.rng, setup.sample_radius_px(4, 12)
    kind = CellPopulation(
        radius,
        spread=0.12,
        aspect=(1.0, 1.2),
        straight_share=(0.5, rng.uniform(1.5, 4.0)),
        spacing=rng.uniform(1.0, 1.8),
        occupancy=rng.uniform(0.5, 1),
    )
    cells = setup.scatter_cells(kind)
    if rng.random() < 0.6:  # neighbours lie side by side
        along = 0.8 * Texture(rng, 48.0)(cells.yx[..., 0], cells.yx[..., 1])
        cells = replace(cells, angle=along + 0.1 * cells.angle)
    cells = add_motion(cells, rng, speed_px=radius * rng.uniform(0, 0.4), turn_rad=0.08)
    if rng.random() < 0.5:
        cells = add_divisions(cells, rng, dividing_share=rng.uniform(0.1, 0.4))
    return setup.render(
        setup.compute_field(cells, roughness=rng.uniform(0, 0.08)),
        radius,
        "fluorescence phase_contrast phase_contrast dic",
    )


def paint_crawling(setup: _SceneSetup) -> SyntheticClip:
    """Paint ragged cells in culture that crawl and change their shape."""
    rng, radius = setup.rng, setup.sample_radius_px(9, 40)
    kind = CellPopulation(
        radius,
        spread=0.25,
        aspect=(1.0, 3.0),
        spacing=rng.uniform(0.8, 1.5),
        occupancy=rng.uniform(0.4, 1),
    )
    cells = add_motion(
        setup.scatter_cells(kind),
        rng,
        speed_px=radius * rng.uniform(0.02, 0.3),
        turn_rad=0.1,
        size_jitter=0.06,
    )
    if rng.random() < 0.3:
        cells = add_divisions(cells, rng, dividing_share=0.15)
    field = setup.compute_field(cells, roughness=rng.uniform(0.1, 0.35), drift_px=rng.uniform(0, 2))
    return setup.render(
        field, radius, "phase_contrast phase_contrast dic fluorescence histology membrane"
    )


def paint_organs(setup: _SceneSetup) -> SyntheticClip:
    """Paint a few large smooth regions, from slice to slice."""
    rng, radius = setup.rng, setup.sample_radius_px(14, 70)
    kind = CellPopulation(
        radius,
        spread=0.4,
        aspect=(1.0, 2.0),
        spacing=rng.uniform(0.7, 1.0),
        max_cells=int(rng.integers(1, 9)),
    )
    cells = setup.scatter_cells(kind)
    if rng.random() < 0.6:
        cells = slice_ellipsoids(
            cells, rng, half_height=float(np.exp(rng.uniform(np.log(4), np.log(25))))
        )
    cells = add_motion(cells, rng, speed_px=0.02 * radius, turn_rad=0.03, size_jitter=0.04)
    return setup.render(
        setup.compute_field(cells, roughness=rng.uniform(0.05, 0.25), drift_px=rng.uniform(0, 2)),
        radius,
        "ct_or_mr ct_or_mr ct_or_mr fluorescence electron_microscopy",
    )


def paint_strands(setup: _SceneSetup) -> SyntheticClip:
    """Paint filaments that bend: fibres, hyphae, neurites, worms."""
    rng = setup.rng
    radius = float(np.exp(rng.uniform(np.log(1.2), np.log(6.0))))
    count = int(rng.integers(1, max(3, min(10, int(25 / radius)))))
    radii = radius * np.exp(rng.normal(0, 0.15, count))
    field = compute_filament_field(_make_curves(setup, count), radii, size=setup.size)
    return setup.render(
        field,
        max(3.0, 2 * radius),
        "fluorescence fluorescence phase_contrast histology dic membrane",
    )


def _make_curves(setup: _SceneSetup, count: int) -> np.ndarray:
    """Make (N, T, P, 2) points half a pixel apart along curves that bend and oscillate."""
    rng, size = setup.rng, setup.size
    points = max(8, int(2 * size * rng.uniform(0.3, 1.4)))
    waves = rng.normal(0, 1, (count, 4)) * rng.uniform(0.1, 0.9) / np.arange(1, 5)
    along = np.linspace(0, 1, points)
    phases = (
        rng.uniform(0, 2 * np.pi, (count, 1, 4))
        + rng.normal(0, 0.15, (count, 1, 4)) * np.arange(setup.length)[None, :, None]
    )
    bend = (
        waves[:, None, :, None]
        * np.sin(np.arange(1, 5)[:, None] * np.pi * along + phases[..., None])
    ).sum(axis=2)
    heading = rng.uniform(0, 2 * np.pi, (count, 1, 1)) + 2 * bend
    steps = np.stack([np.sin(heading), np.cos(heading)], axis=-1) * 0.5
    curve = np.cumsum(steps, axis=2)
    drift = (
        rng.normal(0, 0.01 * size, (count, 1, 1, 2)) * np.arange(setup.length)[None, :, None, None]
    )
    centre = rng.uniform(0, 1, (count, 1, 1, 2))
    centre[0] = 0.3 + 0.4 * centre[0]
    return np.asarray(curve - curve[:, :1].mean(axis=2, keepdims=True) + centre * size + drift)


SCENE_PAINTERS: dict[str, Callable[[_SceneSetup], SyntheticClip]] = {
    "nuclei": paint_nuclei,
    "slices": paint_slices,
    "tissue": paint_tissue,
    "colony": paint_colony,
    "crawling": paint_crawling,
    "organs": paint_organs,
    "strands": paint_strands,
}
"""All kinds of scenes by name."""


def paint_scene(name: str, rng: np.random.Generator, *, length: int, size: int) -> SyntheticClip:
    """Paint a new scene; the same state of the generator gives the same scene.

    Raises KeyError for a name that is not in `SCENE_PAINTERS`.
    """
    return SCENE_PAINTERS[name](_SceneSetup(rng, length, size))
