"""Renderers: the appearance of a field under a microscope or a scanner.

Each returns (T, H, W) float32; the range of grey values is set later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from napari_sam2.train.synthetic.field import Field
from napari_sam2.train.synthetic.texture import Texture


@dataclass(frozen=True, eq=False)
class RenderContext:
    """The input of a renderer: a field, random numbers, and the typical radius in pixels."""

    field: Field
    rng: np.random.Generator
    radius_px: float

    def sample_cell_factors(self, spread: float) -> np.ndarray:
        """Sample (T, H, W) a lognormal factor for each cell; 1 far from all cells."""
        count = int(self.field.nearest.max()) + 1
        factors = np.exp(self.rng.normal(0, spread, count)).astype(np.float32)
        factors[0] = 1
        return np.asarray(factors[self.field.nearest])

    def make_cell_texture(self, wavelength: float) -> np.ndarray:
        """Make a texture that moves with the cells."""
        return Texture(self.rng, max(2.5, wavelength))(self.field.y, self.field.x)

    def make_frame_texture(self, wavelength: float, *, moving: bool = True) -> np.ndarray:
        """Make a texture of the frame that drifts a little from frame to frame."""
        length, size = self.field.labels.shape[:2]
        drift = self.rng.normal(0, 0.05 * wavelength, 2) * moving
        line = np.arange(size, dtype=np.float32)
        frames = np.arange(length, dtype=np.float32)[:, None, None]
        return Texture(self.rng, max(2.5, wavelength))(
            line[None, :, None] + drift[0] * frames, line[None, None] + drift[1] * frames
        )

    def make_cell_mask(self, soft_px: float = 0.7) -> np.ndarray:
        """Make a mask: 1 in cells, 0 outside, and a ramp of some pixels at the edge."""
        return np.clip(self.field.depth / (2 * soft_px) + 0.5, 0, 1)

    def make_contour(self, at_px: float, width_px: float) -> np.ndarray:
        """Make a ridge at a depth."""
        return np.exp(-(((self.field.depth - at_px) / width_px) ** 2))


def render_fluorescence(context: RenderContext) -> np.ndarray:
    """Render fluorescent cells: textured, of different brightness, with spots and haze."""
    rng = context.rng
    brightness = context.sample_cell_factors(rng.uniform(0.05, 0.5))
    flat = rng.uniform(0, 1)
    shape = flat + (1 - flat) * np.sqrt(context.field.dome)
    texture = (
        1
        + rng.uniform(0, 0.35)
        * context.make_cell_texture(context.radius_px * rng.uniform(0.25, 1.0))
        + rng.uniform(0, 0.2) * context.make_cell_texture(3.0)
    )
    if rng.random() < 0.5:
        texture = texture * (
            1
            + rng.choice([-0.6, -0.4, 0.6])
            * (context.make_cell_texture(context.radius_px * 0.5) > rng.uniform(1.0, 1.8))
        )
    image = (
        context.make_cell_mask()
        * brightness
        * shape
        * np.maximum(texture, 0.1)
        * context.field.brightness
    )
    level = rng.uniform(0, 0.25) if rng.random() < 0.6 else rng.uniform(0.2, 0.5)
    image = image + level * (
        1
        + rng.uniform(0, 0.3) * context.make_frame_texture(context.radius_px * 3)
        + rng.uniform(0, 0.15) * context.make_frame_texture(5.0)
    )
    if rng.random() < 0.5:
        image = image + rng.uniform(0.1, 0.5) * blur(
            image, min(12.0, context.radius_px * rng.uniform(0.5, 1.0))
        )
    return blur(image, rng.uniform(0.4, min(2.0, 0.4 + 0.1 * context.radius_px)))


def render_membrane(context: RenderContext) -> np.ndarray:
    """Render stained membranes: interrupted bright lines around dark or faintly filled cells."""
    rng = context.rng
    width = rng.uniform(0.7, max(0.9, min(2.5, 0.15 * context.radius_px)))
    strength = 1 + rng.uniform(0, 0.35) * context.make_frame_texture(context.radius_px * 0.7)
    image = context.make_contour(0, width) * np.maximum(strength, 0.2)
    fill = (
        rng.uniform(0, 0.35)
        * context.sample_cell_factors(0.4)
        * (1 + rng.uniform(0, 0.4) * context.make_cell_texture(context.radius_px * 0.4))
    )
    if rng.random() < 0.35:
        fill = fill + rng.uniform(0.2, 0.7) * (
            context.field.dome > rng.uniform(0.6, 0.8)
        )  # a stained nucleus
    image = (
        image
        + context.make_cell_mask() * fill
        + rng.uniform(0, 0.15) * (1 + 0.5 * context.make_frame_texture(6.0))
    )
    return blur(image, rng.uniform(0.5, 1.2))


def render_phase_contrast(context: RenderContext) -> np.ndarray:
    """Render phase contrast: dark or bright cells with inner structure and an inverted halo."""
    rng = context.rng
    thickness = (
        context.make_cell_mask(1.0)
        * (0.4 + 0.6 * np.sqrt(context.field.dome))
        * context.sample_cell_factors(0.2)
    )
    halo = blur(thickness, min(10.0, rng.uniform(0.3, 0.9) * context.radius_px + 1))
    image = thickness - rng.uniform(0.6, 1.4) * halo
    image = image + rng.uniform(0, 0.5) * context.make_contour(
        rng.uniform(-1.5, 1.0), rng.uniform(0.8, 2.0)
    ) * rng.choice([-1, 1])
    image = image + context.make_cell_mask() * (
        rng.uniform(0, 0.25) * context.make_cell_texture(context.radius_px * 0.4)
        + rng.uniform(0, 0.15) * context.make_cell_texture(3.0)
    )
    if rng.random() < 0.4:
        image = image + rng.choice([-0.6, 0.6]) * context.make_cell_mask() * (
            context.make_cell_texture(max(3.0, context.radius_px * 0.3)) > 1.7
        )
    image = (
        image
        + rng.uniform(0, 0.08) * context.make_frame_texture(4.0)
        + rng.uniform(0, 0.1) * context.make_frame_texture(30.0)
    )
    return blur(image * rng.choice([-1, 1]), rng.uniform(0.4, 1.0))


def render_dic(context: RenderContext) -> np.ndarray:
    """Render differential interference contrast: cells look lit from one side."""
    rng = context.rng
    height = np.sqrt(context.field.dome) * context.radius_px * context.sample_cell_factors(0.2)
    height = (
        height
        + context.make_cell_mask()
        * rng.uniform(0.2, 1.0)
        * context.make_cell_texture(context.radius_px * 0.35)
        + rng.uniform(0, 0.3) * context.make_frame_texture(6.0)
    )
    height = blur(height, rng.uniform(0.8, 1.8))
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.cos(angle) * np.gradient(height, axis=1) + np.sin(angle) * np.gradient(
        height, axis=2
    )
    image = np.tanh(rng.uniform(0.5, 1.5) * slope) + rng.uniform(
        -0.3, 0.3
    ) * context.make_cell_mask(1.5)
    return np.asarray(image + rng.uniform(0, 0.06) * context.make_frame_texture(3.0))


def render_histology(context: RenderContext) -> np.ndarray:
    """Render histology in grey: dark textured nuclei on a light, fibrous background with holes."""
    rng = context.rng
    fibres = -np.abs(
        context.make_frame_texture(rng.uniform(8, 24))
    ) + 0.5 * context.make_frame_texture(4.0)
    background = (
        rng.uniform(0.65, 0.85)
        + rng.uniform(0.04, 0.12) * fibres
        + rng.uniform(0, 0.08) * context.make_frame_texture(40.0)
    )
    if rng.random() < 0.5:
        holes = context.make_frame_texture(rng.uniform(20, 48)) > 1.1
        background = np.where(holes, 0.95, background)
    nuclei = (
        rng.uniform(0.2, 0.5)
        * context.sample_cell_factors(0.2)
        * (
            1
            + rng.uniform(0.05, 0.3) * context.make_cell_texture(context.radius_px * 0.35)
            + rng.uniform(0, 0.15) * context.make_cell_texture(3.0)
        )
    )
    nuclei = nuclei - rng.uniform(0, 0.2) * context.make_contour(1.0, 1.2)
    inside = context.make_cell_mask(rng.uniform(0.6, 1.5))
    return blur(background * (1 - inside) + nuclei * inside, rng.uniform(0.4, 1.0))


def render_electron_microscopy(context: RenderContext) -> np.ndarray:
    """Render electron microscopy: dark membranes and organelles, granular cytoplasm, noise."""
    rng = context.rng
    fill = (
        rng.uniform(0.5, 0.8)
        + context.sample_cell_factors(rng.uniform(0.05, 0.2)) * 0.12 * context.make_cell_mask()
    )
    image = (
        fill
        + rng.uniform(0.03, 0.1) * context.make_cell_texture(3.0)
        + rng.uniform(0.02, 0.06) * context.make_cell_texture(8.0)
    )
    organelles = context.make_cell_texture(max(6.0, context.radius_px * rng.uniform(0.4, 0.8)))
    image = np.where(
        (organelles > rng.uniform(1.0, 2.0)) & (context.field.depth > 2.5),
        image * rng.uniform(0.5, 0.85),
        image,
    )
    width = rng.uniform(0.8, 1.8)
    if rng.random() < 0.4:  # myelin, or the wall of a vessel
        thickness = rng.uniform(0.1, 0.35) * context.radius_px + 1
        wall = (context.field.depth < 0) & (context.field.depth > -thickness)
        image = np.where(wall, rng.uniform(0.1, 0.4), image)
    image = image - rng.uniform(0.3, 0.55) * context.make_contour(0, width)
    outside = context.field.depth < -2 - width
    image = np.where(
        outside,
        image
        - 0.3 * (np.abs(context.make_frame_texture(rng.uniform(8, 20))) < rng.uniform(0.1, 0.3)),
        image,
    )
    return np.asarray(
        blur(image, rng.uniform(0.4, 0.9))
        + rng.uniform(0.01, 0.06) * rng.standard_normal(image.shape, dtype=np.float32)
    )


def render_ct_or_mr(context: RenderContext) -> np.ndarray:
    """Render CT or MR: regions of nearly one grey value on tissue of other ones, with a bias."""
    rng = context.rng
    tissue = np.digitize(
        context.make_frame_texture(max(20.0, context.radius_px)),
        np.sort(rng.normal(0, 0.8, rng.integers(1, 4))),
    )
    levels = rng.uniform(0.1, 0.9, int(tissue.max()) + 1)
    count = int(context.field.nearest.max()) + 1
    values = np.clip(
        levels.mean() + rng.choice([-1, 1], count) * rng.uniform(0.12, 0.5, count), 0, 1.2
    )
    inside = context.make_cell_mask(rng.uniform(0.5, 1.5))
    image = levels[tissue] * (1 - inside) + values[context.field.nearest] * inside
    if rng.random() < 0.4:
        # a wall around each region, as the heart's around its chamber
        thickness = rng.uniform(0.1, 0.35) * context.radius_px + 1
        wall = np.clip(context.field.depth + thickness, 0, 1) * (context.field.depth < 0)
        image = image * (1 - wall) + wall * rng.uniform(0, 1)
    image = image * (1 + rng.uniform(0, 0.15) * context.make_frame_texture(48.0)) + rng.uniform(
        0, 0.04
    ) * context.make_frame_texture(8.0)
    image = (
        image
        + rng.uniform(0, 0.06)
        * context.make_cell_texture(max(3.0, 0.2 * context.radius_px))
        * inside
    )
    return np.asarray(np.abs(blur(image, rng.uniform(0.5, 1.2))))


RENDERERS: dict[str, Callable[[RenderContext], np.ndarray]] = {
    "fluorescence": render_fluorescence,
    "membrane": render_membrane,
    "phase_contrast": render_phase_contrast,
    "dic": render_dic,
    "histology": render_histology,
    "electron_microscopy": render_electron_microscopy,
    "ct_or_mr": render_ct_or_mr,
}


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur each frame of a (T, H, W) image along y and x."""
    rows = gaussian_filter1d(image.astype(np.float32, copy=False), sigma, axis=1, truncate=2.5)
    return np.asarray(gaussian_filter1d(rows, sigma, axis=2, truncate=2.5))


def add_debris(image: np.ndarray, rng: np.random.Generator, *, max_specks: int = 6) -> np.ndarray:
    """Add a few specks that are not objects: tiny and sharp, or larger and faint."""
    size = image.shape[1]
    span = float(np.ptp(image)) or 1.0
    layer = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(rng.integers(0, max_specks + 1))):
        y, x = rng.integers(0, size, 2)
        layer[y, x] += rng.choice([-1, 1])
    sharp = gaussian_filter(layer, rng.uniform(0.6, 1.3))
    peak = float(np.abs(sharp).max())
    return image + (span * rng.uniform(0.1, 0.5) / peak * sharp)[None] if peak else image
