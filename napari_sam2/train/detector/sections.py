"""Painted sections through volumes: what lies above and below shines through, out of focus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from napari_sam2.train.detector.augment import draw_cloud, draw_noise

Plane = NDArray[np.float32]
Labels = NDArray[np.int32]

_COARSE = 2  # neighbouring planes are blurred anyway and need no full resolution
_LEAST_CAP = 0.12  # of the middle's area: a section smaller than that is of no object to be found


def draw_section(side: int, diameter: float, rng: np.random.Generator) -> tuple[Plane, Labels]:
    """A (side, side) image, in no certain range, and the labels of bodies cut by its plane."""
    bodies = _Bodies(side, diameter, rng)
    labels, image = bodies.cut(0.0, 1)
    areas = np.bincount(labels.ravel())
    labels[(areas < _LEAST_CAP * np.pi / 4 * diameter**2)[labels]] = 0
    step = diameter * rng.uniform(0.2, 0.5)
    decay, spread = rng.uniform(0.3, 0.9), rng.uniform(0.3, 1.0)
    for order in range(1, int(rng.integers(1, 4)) + 1):
        for height in (-order * step, order * step):
            light = bodies.cut(height, _COARSE)[1]
            light = ndi.gaussian_filter(light, spread * abs(height) / _COARSE)
            large = ndi.zoom(light, _COARSE, order=1, mode="nearest", grid_mode=True)
            image = image + np.float32(decay**order) * large[:side, :side]
    longer = rng.uniform(0, 0.3) * diameter if rng.random() < 0.4 else 0.0
    sigmas = rng.uniform(0, 0.07) * diameter + np.array([longer, 0.0])
    image = ndi.gaussian_filter(image, np.minimum(sigmas, 6.0))
    if rng.random() < 0.5:
        image = image + rng.uniform(0, 0.2) * draw_cloud(image.shape, rng, rng.uniform(15, 80))
    contrast = float(image.std()) + 0.02
    noise = contrast / np.exp(rng.uniform(np.log(1.5), np.log(20)))
    return (image + draw_noise(image.shape, rng, noise)).astype(np.float32), labels


class _Bodies:
    """Ellipsoids on a jittered grid, cut by planes."""

    def __init__(self, side: int, diameter: float, rng: np.random.Generator) -> None:
        self._side = side
        spacing = diameter * rng.uniform(0.9, 1.8)
        reach = np.array([3 * diameter, side / 2 + diameter, side / 2 + diameter])
        axes = [np.arange(-r, r, spacing) + rng.uniform(0, spacing) for r in reach]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        seeds = grid + rng.uniform(-0.45, 0.45, grid.shape) * spacing
        seeds = seeds[rng.random(len(seeds)) < rng.uniform(0.3, 1.0)]
        self._seeds = seeds if len(seeds) else grid[:1]
        count = len(self._seeds)
        self._radii = 0.5 * diameter * np.exp(rng.normal(0, rng.uniform(0.05, 0.25), count))
        self._strengths = np.exp(rng.normal(0, rng.uniform(0.05, 0.5), count))
        self._matrix = _draw_turn(rng) * np.exp(rng.uniform(-0.35, 0.35, 3))
        self._tree = cKDTree(self._seeds @ self._matrix)
        self._rough = rng.uniform(0, 0.2) * draw_cloud((side, side), rng, 0.5 * diameter)
        self._grain = rng.uniform(0, 0.35) * draw_cloud((side, side), rng, max(2, 0.2 * diameter))
        self._falloff = rng.uniform(0, 1.0)

    def cut(self, height: float, step: int) -> tuple[Labels, Plane]:
        """Labels and brightness of the plane at a height, every `step` pixels."""
        places = np.arange(0, self._side, step) + 0.5 * step - self._side / 2
        y, x = np.meshgrid(places, places, indexing="ij")
        points = np.stack([np.full_like(y, height), y, x], -1) @ self._matrix
        distance, nearest = self._tree.query(points)
        share = distance * (1 + self._rough[::step, ::step]) / self._radii[nearest]
        inside = share < 1
        profile = 1 - self._falloff * share**2 + self._grain[::step, ::step]
        light = np.where(inside, self._strengths[nearest] * profile, 0)
        return np.where(inside, nearest + 1, 0).astype(np.int32), light.astype(np.float32)


def _draw_turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random rotation, as a (3, 3) matrix."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    return turn
