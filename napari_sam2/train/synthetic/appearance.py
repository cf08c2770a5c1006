"""Looks: how a Field appears under a microscope or a scanner.

Each gives (T, H, W) float32; the range of greys is settled later.
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
    """What all looks need: the field, chance, and the size of a typical body in pixels."""

    field: Field
    rng: np.random.Generator
    radius_px: float

    def sample_cell_factors(self, spread: float) -> np.ndarray:
        """(T, H, W) a random factor for each body, lognormal; 1 where none is near."""
        count = int(self.field.nearest.max()) + 1
        factors = np.exp(self.rng.normal(0, spread, count)).astype(np.float32)
        factors[0] = 1
        return np.asarray(factors[self.field.nearest])

    def make_cell_texture(self, wavelength: float) -> np.ndarray:
        """A texture that moves with the bodies."""
        return Texture(self.rng, max(2.5, wavelength))(self.field.y, self.field.x)

    def make_frame_texture(self, wavelength: float, *, moving: bool = True) -> np.ndarray:
        """A texture of the frame, drifting a little from frame to frame."""
        length, size = self.field.labels.shape[0], self.field.labels.shape[1]
        drift = self.rng.normal(0, 0.05 * wavelength, 2) * moving
        line, frames = (
            np.arange(size, dtype=np.float32),
            np.arange(length, dtype=np.float32)[:, None, None],
        )
        return Texture(self.rng, max(2.5, wavelength))(
            line[None, :, None] + drift[0] * frames, line[None, None] + drift[1] * frames
        )

    def make_cell_mask(self, soft_px: float = 0.7) -> np.ndarray:
        """1 in bodies, 0 outside, a ramp of some pixels at the edge."""
        return np.clip(self.field.depth / (2 * soft_px) + 0.5, 0, 1)

    def make_contour(self, at_px: float, width_px: float) -> np.ndarray:
        """A ridge at that depth."""
        return np.exp(-(((self.field.depth - at_px) / width_px) ** 2))


def render_fluorescence(context: RenderContext) -> np.ndarray:
    """Fluorescent bodies: textured, of different brightness, some with dark or bright spots, in their own haze."""
    rng = context.rng
    body = context.sample_cell_factors(rng.uniform(0.05, 0.5))
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
        * body
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
    """Stained membranes: bright lines around bodies that are dark or faintly filled, here and there interrupted."""
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
    """Phase contrast: bodies darker or brighter than the background, with a halo of the other polarity, and inner structure."""
    rng = context.rng
    thick = (
        context.make_cell_mask(1.0)
        * (0.4 + 0.6 * np.sqrt(context.field.dome))
        * context.sample_cell_factors(0.2)
    )
    reach = min(10.0, rng.uniform(0.3, 0.9) * context.radius_px + 1)
    halo = blur(thick, reach)
    image = thick - rng.uniform(0.6, 1.4) * halo
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
    """Differential interference and oblique light: bodies seem lit from one side."""
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
    """Histology in grey: dark textured bodies on a light, fibrous ground with holes."""
    rng = context.rng
    fibres = -np.abs(
        context.make_frame_texture(rng.uniform(8, 24))
    ) + 0.5 * context.make_frame_texture(4.0)
    ground = (
        rng.uniform(0.65, 0.85)
        + rng.uniform(0.04, 0.12) * fibres
        + rng.uniform(0, 0.08) * context.make_frame_texture(40.0)
    )
    if rng.random() < 0.5:
        ground = np.where(context.make_frame_texture(rng.uniform(20, 48)) > 1.1, 0.95, ground)
    body = (
        rng.uniform(0.2, 0.5)
        * context.sample_cell_factors(0.2)
        * (
            1
            + rng.uniform(0.05, 0.3) * context.make_cell_texture(context.radius_px * 0.35)
            + rng.uniform(0, 0.15) * context.make_cell_texture(3.0)
        )
    )
    body = body - rng.uniform(0, 0.2) * context.make_contour(1.0, 1.2)
    inside = context.make_cell_mask(rng.uniform(0.6, 1.5))
    return blur(ground * (1 - inside) + body * inside, rng.uniform(0.4, 1.0))


def render_electron_microscopy(context: RenderContext) -> np.ndarray:
    """Electron microscopy: dark membranes, granular insides, dark organelles, much noise."""
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
        thick = rng.uniform(0.1, 0.35) * context.radius_px + 1
        image = np.where(
            (context.field.depth < 0) & (context.field.depth > -thick), rng.uniform(0.1, 0.4), image
        )
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
    """CT and MR: regions of nearly one grey each, on tissue of other greys, with a bias of the coils."""
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
        thick = (
            rng.uniform(0.1, 0.35) * context.radius_px + 1
        )  # a wall around it, as the heart's around its chamber
        wall = np.clip(context.field.depth + thick, 0, 1) * (context.field.depth < 0)
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
    """(T, H, W) blurred along y and x, each frame alone."""
    rows = gaussian_filter1d(image.astype(np.float32, copy=False), sigma, axis=1, truncate=2.5)
    return np.asarray(gaussian_filter1d(rows, sigma, axis=2, truncate=2.5))


def add_debris(image: np.ndarray, rng: np.random.Generator, *, max_specks: int = 6) -> np.ndarray:
    """The same with a few specks and smears that are nobody's object: tiny and sharp, or large and faint."""
    size = image.shape[1]
    span = float(np.ptp(image)) or 1.0
    layer = np.zeros((size, size), dtype=np.float32)
    for _ in range(int(rng.integers(0, max_specks + 1))):
        y, x = rng.integers(0, size, 2)
        layer[y, x] += rng.choice([-1, 1])
    sharp = gaussian_filter(layer, rng.uniform(0.6, 1.3))
    peak = float(np.abs(sharp).max())
    return image + (span * rng.uniform(0.1, 0.5) / peak * sharp)[None] if peak else image
