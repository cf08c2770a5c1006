"""The samples of the plugin as napari layers: images with scale and units, and boxes of objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sam2.api.samples import SAMPLES, Sample
from napari_sam2.core.prompt import BoxPrompt
from napari_sam2.core.stack import Stack
from napari_sam2.io.open import open_stack
from napari_sam2.io.prompts import read_prompts

TITLES = {"nuclei_z": "Nuclei, a z-stack", "migration_t": "Migrating cells, a time-lapse"}
LayerData = tuple[Any, dict[str, Any], str]


def nuclei_z() -> list[LayerData]:
    """Open a z-stack of nuclei, with a box around each of them."""
    return make_sample_layers("nuclei_z")


def migration_t() -> list[LayerData]:
    """Open a time-lapse of migrating cells, with a box around each of them."""
    return make_sample_layers("migration_t")


def make_sample_layers(name: str) -> list[LayerData]:
    """Make the layers of a sample, as napari's readers return them."""
    sample = next(each for each in SAMPLES if each.name == name)
    stack = open_stack(sample.image)
    place = make_layer_scale(stack)
    image = (np.asarray(stack.data), {"name": name, "colormap": "gray", **place}, "image")
    boxes = {
        "name": f"{name} nuclei",
        "shape_type": "rectangle",
        "edge_color": "#ffd166",
        "face_color": "transparent",
        "edge_width": 0.8,
        **place,
    }
    return [image, (_read_boxes(sample), boxes, "shapes")]


def _read_boxes(sample: Sample) -> list[np.ndarray]:
    found = []
    for prompt in read_prompts(sample.prompts).prompts:
        assert isinstance(prompt, BoxPrompt)
        y, x, y2, x2 = prompt.box
        found.append(np.array([(prompt.frame, *yx) for yx in ((y, x), (y, x2), (y2, x2), (y2, x))]))
    return found


def make_layer_scale(stack: Stack) -> dict[str, Any]:
    """Make the scale, units and axis labels of a layer: µm and seconds, pixels if unknown."""
    known = {
        "z": stack.spacing.z_um,
        "y": stack.spacing.y_um,
        "x": stack.spacing.x_um,
        "t": stack.spacing.t_s,
    }
    units = {"z": "micrometer", "y": "micrometer", "x": "micrometer", "t": "second"}
    return {
        "scale": [known.get(axis) or 1.0 for axis in stack.axes],
        "units": [units[axis] if known.get(axis) else "pixel" for axis in stack.axes],
        "axis_labels": list(stack.axes),
    }
