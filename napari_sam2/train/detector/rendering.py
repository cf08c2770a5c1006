"""Painting label planes: light, optics and noise drawn at random, from style to style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam2.detection.maps.sizes import measure_depth
from napari_sam2.train.detector.augment import draw_cloud, draw_noise, draw_ramp

Plane = NDArray[np.float32]
Labels = NDArray[np.int32]

_TRIES = 4
_LEAST_EDGE = 1.25  # how much steeper than elsewhere the image must be at outlines


@dataclass(frozen=True)
class Geometry:
    """What painting needs to know of (H, W) labels, distances in pixels.

    `depth` is inside, `outside` is from the nearest object, `share` is the depth divided by the
    object's deepest, `numbers` counts objects from 1.
    """

    labels: Labels
    depth: Plane
    outside: Plane
    share: Plane
    diameter: float

    @property
    def count(self) -> int:
        """One more than the highest label."""
        return int(self.labels.max(initial=0)) + 1


def measure_geometry(labels: Labels, diameter: float) -> Geometry:
    """Distances inside and outside of the objects of a label plane."""
    depth = measure_depth(labels)
    foreground = labels > 0
    deepest = np.asarray(ndi.maximum(depth, labels, np.arange(int(labels.max(initial=0)) + 1)))
    if foreground.any():
        outside = ndi.distance_transform_edt(~foreground)
    else:
        outside = np.full(labels.shape, 99.0)
    share = np.where(foreground, (depth + 0.5) / (np.maximum(deepest, 0.5)[labels] + 0.5), 0)
    return Geometry(labels, depth, outside.astype(np.float32), share.astype(np.float32), diameter)


def render_labels(
    labels: Labels,
    diameter: float,
    rng: np.random.Generator,
    *,
    walls: bool = False,
    phase_share: float = 0.1,
    soft_share: float = 0.0,
) -> Plane:
    """A grey image of labels, in no certain range.

    Parameters
    ----------
    walls
        Objects touch everywhere: outlines must be seen, a lighter inside is not enough.
    phase_share
        How often the image looks like one in phase contrast.
    soft_share
        How often objects are blurred lights that add up where they overlap.
    """
    geometry = measure_geometry(labels, diameter)
    chance = rng.random()
    for _ in range(_TRIES):
        if chance < phase_share:
            image = _render_phase_contrast(geometry, rng)
        elif chance < phase_share + soft_share:
            image = _render_soft_lights(geometry, rng)
        else:
            image = _render_ideal(geometry, rng, walls=walls)
        contrast, clear = _measure_edges(image, labels)
        if clear:
            break
    else:
        image = image / (image.std() + 0.1) * 0.15 + _draw_rim(geometry, rng, strong=True)
        contrast, _ = _measure_edges(image, labels)
    image = _add_ghosts(image, geometry, contrast, rng)
    image = _blur(image, diameter, rng)
    image = _add_uneven_light(image, contrast, rng)
    snr = np.exp(rng.uniform(np.log(2.5), np.log(40)))
    return image + draw_noise(image.shape, rng, contrast / snr)


def _render_ideal(geometry: Geometry, rng: np.random.Generator, *, walls: bool) -> Plane:
    """Objects before a microscope: profiles, rims, halos, textures, relief."""
    shape, foreground = geometry.labels.shape, geometry.labels > 0
    image = _draw_background(geometry, rng)
    bodies = _draw_profile(geometry, rng)
    strength = np.exp(rng.normal(0, rng.uniform(0, 0.5), geometry.count)).astype(np.float32)
    if rng.random() < 0.1:  # some objects are darker than the ground, some lighter
        strength *= rng.choice([-1, 1], geometry.count)
    flat = rng.random() < (0.5 if walls else 0.15)  # only outlines are to be seen
    bodies = (0.15 if flat else 1.0) * strength[geometry.labels] * bodies
    image = image + np.where(foreground, bodies, 0)
    if flat or rng.random() < 0.5:
        image = image + _draw_rim(geometry, rng, strong=flat)
    if rng.random() < 0.4:
        reach = geometry.diameter * np.exp(rng.uniform(np.log(0.05), np.log(0.6)))
        halo = np.exp(-geometry.outside / max(reach, 0.8)) * ~foreground
        image = image + rng.normal(0, 0.6) * halo
    if rng.random() < 0.6:
        grain = max(1.5, geometry.diameter * np.exp(rng.uniform(np.log(0.04), np.log(0.6))))
        image = image + foreground * rng.uniform(0, 0.4) * draw_cloud(shape, rng, grain)
    if rng.random() < 0.3:
        image = image + _draw_inclusions(geometry, rng)
    if rng.random() < 0.2:
        image = _shade_relief(image, geometry, rng)
    return image.astype(np.float32)


def _render_phase_contrast(geometry: Geometry, rng: np.random.Generator) -> Plane:
    """Flat dark objects in their common glow, lighter where many stand together."""
    foreground = geometry.labels > 0
    soft = np.clip((geometry.depth + rng.uniform(0.2, 1.0)) / rng.uniform(0.8, 2.5), 0, 1)
    strength = np.exp(rng.normal(0, rng.uniform(0, 0.15), geometry.count))[geometry.labels]
    image = -strength * np.where(foreground, soft, 0)
    mass = foreground.astype(np.float32)
    width = max(1.0, geometry.diameter * np.exp(rng.uniform(np.log(0.1), np.log(0.9))))
    image = image + rng.uniform(0.1, 1.2) * _blur_widely(mass, width)
    if rng.random() < 0.5:
        image = image + rng.uniform(0.1, 0.8) * _blur_widely(mass, 3 * width)
    image = image + rng.uniform(0, 0.08) * draw_cloud(mass.shape, rng, rng.uniform(3, 12))
    if rng.random() < 0.4:
        image = image + _draw_debris(geometry, rng)
    if rng.random() < 0.3:
        image = image + _draw_inclusions(geometry, rng) * 0.5
    return np.asarray(image, np.float32)


def _render_soft_lights(geometry: Geometry, rng: np.random.Generator) -> Plane:
    """A spot for every object, whose light adds up with that of its neighbours."""
    numbers = np.unique(geometry.labels)[1:]
    image = np.zeros(geometry.labels.shape, np.float32)
    if not numbers.size:
        return image
    middles = np.array(ndi.center_of_mass(geometry.labels > 0, geometry.labels, numbers))
    y, x = middles.astype(int).T
    image[y, x] = np.exp(rng.normal(0, rng.uniform(0, 0.4), numbers.size))
    sigma = geometry.diameter * rng.uniform(0.2, 0.36)
    lights = ndi.gaussian_filter(image, sigma * np.exp(rng.uniform(-0.1, 0.1, 2)))
    lights = lights / (np.percentile(lights[y, x], 50) + 1e-9)
    lights = np.minimum(lights, rng.uniform(0.7, 3.0))
    grain = max(1.5, geometry.diameter * rng.uniform(0.1, 0.4))
    return np.asarray(lights * (1 + rng.uniform(0, 0.2) * draw_cloud(image.shape, rng, grain)))


def _blur_widely(plane: Plane, sigma: float) -> Plane:
    """A wide Gaussian blur at the cost of a narrow one."""
    step = int(np.clip(sigma // 2, 1, 8))
    side = plane.shape[0] // step * step
    small = plane[:side, :side].reshape(side // step, step, side // step, step).mean((1, 3))
    small = ndi.gaussian_filter(small, sigma / step)
    large = ndi.zoom(small, step, order=1, mode="nearest", grid_mode=True) if step > 1 else small
    missing = [(0, n - m) for n, m in zip(plane.shape, large.shape, strict=True)]
    return np.asarray(np.pad(large, missing, mode="edge"), np.float32)


def _draw_debris(geometry: Geometry, rng: np.random.Generator) -> Plane:
    """Specks much smaller than objects, dark, light or ringed: not to be found."""
    side = geometry.labels.shape[0]
    image = np.zeros(geometry.labels.shape, np.float32)
    for _ in range(int(rng.integers(1, 9))):
        radius = np.clip(geometry.diameter * rng.uniform(0.06, 0.16), 0.7, 6)
        middle = rng.uniform(0, side, 2)
        low = np.clip(middle - 3 * radius, 0, side - 1).astype(int)
        high = np.clip(middle + 3 * radius + 1, 1, side).astype(int)
        box = (slice(low[0], high[0]), slice(low[1], high[1]))
        y, x = np.mgrid[box].astype(np.float32)
        distance = np.hypot(y - middle[0], x - middle[1]) / radius
        ring = np.exp(-(((distance - rng.choice([0.0, 1.3])) / 0.6) ** 2))
        image[box] += rng.uniform(-0.8, 0.5) * ring * (geometry.outside[box] > 1)
    return image


def _draw_background(geometry: Geometry, rng: np.random.Generator) -> Plane:
    shape, diameter = geometry.labels.shape, geometry.diameter
    image = np.zeros(shape, np.float32)
    if rng.random() < 0.5:
        image += rng.uniform(0, 0.25) * draw_cloud(shape, rng, rng.uniform(20, 120))
    if rng.random() < 0.35:
        grain = max(1.5, diameter * np.exp(rng.uniform(np.log(0.05), np.log(0.8))))
        image += rng.uniform(0, 0.25) * draw_cloud(shape, rng, grain)
    if geometry.count > 5 and rng.random() < 0.15:  # tissue or medium: a region, but no object
        cloud = draw_cloud(shape, rng, rng.uniform(2, 6) * diameter + 20)
        edge = rng.uniform(0.02, 0.5)
        level = rng.normal(0, 0.5)
        image += rng.normal(0, 0.4) * np.clip((cloud - level) / edge, 0, 1)
    if rng.random() < 0.1:
        image += _draw_debris(geometry, rng)
    return image


def _draw_profile(geometry: Geometry, rng: np.random.Generator) -> Plane:
    """Brightness by depth: random from the outline to the middle; rings and pale centres too."""
    knots = int(rng.integers(2, 7))
    heights = rng.uniform(0, 1, knots)
    if rng.random() < 0.5:  # mostly light with a change towards the middle
        heights = np.clip(np.linspace(rng.random(), rng.random(), knots) + heights * 0.3, 0, 1)
    heights = heights / max(0.3, np.abs(heights).max())
    if rng.random() < 0.6:
        shares = np.linspace(0, 1, knots)
        return np.asarray(np.interp(geometry.share, shares, heights), np.float32)
    depth = 2 * geometry.depth / geometry.diameter
    return np.asarray(np.interp(depth, np.linspace(0, 1.1, knots), heights), np.float32)


def _draw_rim(geometry: Geometry, rng: np.random.Generator, *, strong: bool) -> Plane:
    """A line along outlines, on, inside or outside of them."""
    signed = np.where(geometry.labels > 0, geometry.depth + 0.5, -geometry.outside + 0.5)
    width = max(0.7, geometry.diameter * np.exp(rng.uniform(np.log(0.02), np.log(0.16))))
    shift = rng.choice([0.0, width, -width, rng.uniform(-2, 2) * width])
    height = rng.choice([-1, 1]) * (rng.uniform(0.6, 1.2) if strong else rng.uniform(0.1, 1.0))
    rim = np.exp(-(((signed - shift) / width) ** 2))
    if rng.random() < 0.3:  # stained unevenly
        rim = rim * np.clip(1 + 0.5 * draw_cloud(signed.shape, rng, geometry.diameter), 0.1, 2)
    return np.asarray(height * rim, np.float32)


def _draw_inclusions(geometry: Geometry, rng: np.random.Generator) -> Plane:
    """Spots in the objects, or one inner body in each, off its centre."""
    shape = geometry.labels.shape
    height = rng.choice([-1, 1]) * rng.uniform(0.2, 0.9)
    if rng.random() < 0.5:
        grain = max(1.5, geometry.diameter * rng.uniform(0.06, 0.25))
        spots = np.clip(draw_cloud(shape, rng, grain) - rng.uniform(0.8, 1.6), 0, 1)
        return np.asarray(height * spots * (geometry.labels > 0), np.float32)
    level = rng.uniform(0.35, 0.75)
    inner = np.clip((geometry.share - level) / 0.15, 0, 1)
    reach = int(0.15 * geometry.diameter)
    inner = np.roll(inner, rng.integers(-reach, reach + 1, 2), (0, 1))
    return np.asarray(height * inner * (geometry.share > 0.15), np.float32)


def _shade_relief(image: Plane, geometry: Geometry, rng: np.random.Generator) -> Plane:
    """As by interference contrast: lit from one side, with little of the image itself."""
    dome = np.sqrt(np.clip(geometry.share, 0, 1))
    strength = np.exp(rng.normal(0, 0.3, geometry.count))[geometry.labels]
    height = dome * strength + rng.uniform(0, 0.5) * image
    height = ndi.gaussian_filter(height, max(0.6, rng.uniform(0.02, 0.08) * geometry.diameter))
    angle = rng.uniform(0, 2 * np.pi)
    down, right = np.gradient(height)
    shade = (np.cos(angle) * down + np.sin(angle) * right) * geometry.diameter / 4
    return np.asarray(shade + rng.choice([0.0, rng.uniform(0, 0.3)]) * image, np.float32)


def _measure_edges(image: Plane, labels: Labels) -> tuple[float, bool]:
    """How far grey values differ across outlines, and whether outlines stand out at all."""
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    if not edge.any():
        return float(image.std() + 0.1), True
    local = ndi.maximum_filter(image, 5) - ndi.minimum_filter(image, 5)
    at_edges, elsewhere = float(local[edge].mean()), float(local[~edge].mean())
    return at_edges, at_edges > max(0.15, _LEAST_EDGE * elsewhere)


def _add_ghosts(
    image: Plane, geometry: Geometry, contrast: float, rng: np.random.Generator
) -> Plane:
    """Objects out of focus above and below: light without outlines, and nothing to be found."""
    if rng.random() > 0.25:
        return image
    dots = rng.random(image.shape, np.float32) < rng.uniform(0.2, 1.5) / geometry.diameter**2
    ghosts = ndi.gaussian_filter(dots.astype(np.float32), geometry.diameter * rng.uniform(0.3, 0.7))
    peak = float(ghosts.max())
    if peak <= 0:
        return image
    height = rng.choice([-1, 1, 1]) * rng.uniform(0.15, 0.7) * contrast / peak
    return image + np.float32(height) * ghosts


def _blur(image: Plane, diameter: float, rng: np.random.Generator) -> Plane:
    """Out of focus evenly, or along one axis as planes along z are."""
    most = min(2.5, 0.09 * diameter)
    sigma = rng.uniform(0, most)
    if rng.random() < 0.12:
        longer = min(6.0, diameter * rng.uniform(0.05, 0.22))
        sigmas = rng.permutation([sigma, max(sigma, longer)])
        return np.asarray(ndi.gaussian_filter(image, sigmas), np.float32)
    return np.asarray(ndi.gaussian_filter(image, sigma), np.float32) if sigma > 0.3 else image


def _add_uneven_light(image: Plane, contrast: float, rng: np.random.Generator) -> Plane:
    if rng.random() < 0.3:
        image = image * draw_ramp(image.shape, rng, 0.7)
    if rng.random() < 0.3:
        image = image + 2 * contrast * (draw_ramp(image.shape, rng, 0.7) - 1)
    if rng.random() < 0.2:  # haze: light spread far
        image = image + rng.uniform(0.2, 1.5) * _blur_widely(image, rng.uniform(6, 24))
    return image.astype(np.float32)
