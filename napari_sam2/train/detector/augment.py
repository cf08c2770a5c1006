"""Changes of light, sharpness and frame that leave objects where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Plane = NDArray[np.float32]


def augment_grey(grey: Plane, rng: np.random.Generator, *, invert_share: float = 0.3) -> Plane:
    """A (H, W) plane in 0..1 in another light, sharpness and noise; in 0..1 again."""
    if rng.random() < invert_share:
        grey = 1 - grey
    if rng.random() < 0.7:
        grey = grey ** np.float32(np.exp(rng.uniform(-0.7, 0.7)))
    if rng.random() < 0.15:
        grey = grey * draw_ramp(grey.shape, rng, 0.5) + draw_ramp(grey.shape, rng, 0.3) - 1
    if rng.random() < 0.12:  # clipped at one end or both: percentiles of a sparse frame
        grey = np.clip(
            (grey - rng.uniform(0.2, 0.8)) * rng.uniform(1.2, 3) + rng.uniform(0.2, 0.8), 0, 1
        )
    if rng.random() < 0.12:
        grey = _lose_detail(grey, rng)
    if rng.random() < 0.2:
        grey = ndi.gaussian_filter(grey, rng.uniform(0.4, 1.6))
    if rng.random() < 0.5:
        grey = grey * rng.uniform(0.5, 1.1) + rng.uniform(-0.1, 0.4)
    if rng.random() < 0.4:
        grey = grey + draw_noise(grey.shape, rng, rng.uniform(0.01, 0.13))
    if rng.random() < 0.04:
        grey = _add_dead_lines(grey, rng)
    return np.clip(grey, 0, 1).astype(np.float32)


def draw_ramp(shape: tuple[int, ...], rng: np.random.Generator, most: float) -> Plane:
    """A slope through 1 in the middle, by up to ± `most` at the corners."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * y + np.sin(angle) * x) / 1.42
    ramp = np.float32(1) + np.float32(rng.uniform(0, most)) * slope.astype(np.float32)
    return np.asarray(ramp)


def draw_noise(shape: tuple[int, ...], rng: np.random.Generator, deviation: float) -> Plane:
    """Noise of a camera, pixel by pixel, or smeared as after interpolation or compression."""
    noise = rng.standard_normal(shape, np.float32)
    if rng.random() < 0.3:
        noise = ndi.gaussian_filter(noise, rng.uniform(0.4, 1.0))
        noise /= noise.std() + 1e-6
    return noise * np.float32(deviation)


def draw_cloud(shape: tuple[int, ...], rng: np.random.Generator, grain: float) -> Plane:
    """Smooth noise of deviation 1 whose structures are about `grain` pixels wide."""
    if grain <= 3:
        field: Plane = ndi.gaussian_filter(rng.standard_normal(shape, np.float32), grain / 2)
    else:
        rows, columns = (_interpolate(n, grain, rng) for n in shape)
        coarse = rng.standard_normal((rows.shape[1], columns.shape[1]), np.float32)
        field = np.asarray(rows @ coarse @ columns.T, np.float32)
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)


def _interpolate(length: int, grain: float, rng: np.random.Generator) -> Plane:
    """(length, N) weights that pass smoothly between N values, `grain` pixels apart."""
    place = np.arange(length) / grain + rng.random()
    before = np.floor(place).astype(int)
    part = place - before
    part = part * part * (3 - 2 * part)
    weights = np.zeros((length, before[-1] + 2), np.float32)
    weights[np.arange(length), before] = 1 - part
    weights[np.arange(length), before + 1] = part
    return weights


def _lose_detail(grey: Plane, rng: np.random.Generator) -> Plane:
    """Seen at a lower resolution and blown up again."""
    factor = int(rng.integers(2, 4))
    small = ndi.gaussian_filter(grey, 0.4 * factor)[::factor, ::factor]
    order: Any = int(rng.integers(2))  # scipy-stubs wants a literal
    large = ndi.zoom(small, factor, order=order, mode="nearest", grid_mode=True)
    return np.asarray(large[: grey.shape[0], : grey.shape[1]], np.float32)


def _add_dead_lines(grey: Plane, rng: np.random.Generator) -> Plane:
    grey = grey.copy()
    lines = grey.T if rng.random() < 0.5 else grey
    for index in rng.integers(0, len(lines), rng.integers(1, 4)):
        lines[index] = rng.choice([0.0, 1.0, rng.random()])
    return grey
