"""Painted scenes: a layout of objects, rendered in a style, both drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam2.train.detector.augment import draw_cloud, draw_noise, draw_ramp
from napari_sam2.train.detector.images import draw_size, normalise, relabel
from napari_sam2.train.detector.layouts import draw_layout
from napari_sam2.train.detector.rendering import render_labels
from napari_sam2.train.detector.sections import draw_section

_SECTION_SHARE = 0.1
_PHASE_SHARES = {"lay_rods": 0.55, "lay_filaments": 0.4, "lay_walls": 0.0}


def draw_scene(
    side: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A painted (side, side) scene in 0..1 and its labels 0..n."""
    diameter = draw_size(rng)
    if rng.random() < _SECTION_SHARE:
        image, labels = draw_section(side, diameter, rng)
        return normalise(100 * image, rng), relabel(labels)
    labels, layout = draw_layout(side, diameter, rng)
    labels = relabel(labels)
    phase_share = _PHASE_SHARES.get(layout, 0.1)
    walls = layout == "lay_walls"
    soft_share = 0.15 if layout == "lay_blobs" else 0.0
    image = render_labels(
        labels, diameter, rng, walls=walls, phase_share=phase_share, soft_share=soft_share
    )
    return normalise(100 * image, rng), labels


def draw_empty_scene(
    side: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A (side, side) plane without any object: noise, slopes, clouds, lines, frames."""
    shape = (side, side)
    image = np.full(shape, rng.random(), np.float32)
    if rng.random() < 0.5:
        image += rng.uniform(0, 1) * (draw_ramp(shape, rng, 1.0) - 1)
    if rng.random() < 0.5:
        image += rng.uniform(0, 0.3) * draw_cloud(shape, rng, rng.uniform(30, 150))
    if rng.random() < 0.3:  # vignetting
        y, x = np.indices(shape) / side - rng.uniform(0.3, 0.7, 2)[:, None, None]
        image = image * (1 - rng.uniform(0.2, 1.2) * (y**2 + x**2)).astype(np.float32)
    if rng.random() < 0.8:
        image += draw_noise(shape, rng, np.exp(rng.uniform(np.log(0.005), np.log(0.3))))
    if rng.random() < 0.2:
        image = ndi.gaussian_filter(image, rng.uniform(0.5, 2.0))
    if rng.random() < 0.3:
        image = _cover_border(image, rng)
    labels = np.zeros(shape, np.int32)
    if rng.random() < 0.5:
        return np.clip(image, 0, 1).astype(np.float32), labels
    return normalise(100 * image, rng), labels


def _cover_border(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Cover a side, or all outside of a circle, with one value."""
    image, side = image.copy(), len(image)
    value = rng.choice([0.0, 1.0, rng.random()])
    if rng.random() < 0.5:
        y, x = np.indices(image.shape)
        middle = rng.uniform(0, 1, 2) * side
        image[np.hypot(y - middle[0], x - middle[1]) > rng.uniform(0.3, 0.8) * side] = value
    else:
        part = image.T if rng.random() < 0.5 else image
        part[: int(rng.uniform(0.1, 0.7) * side)] = value
    return image
