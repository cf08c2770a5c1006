"""Prompts and label planes read from the layers of other tools: labels, shapes, points."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Shapes

from napari_sam2.core.errors import LabelsError, PromptError
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt
from napari_sam2.gui.app.view import SessionKey
from napari_sam2.gui.layers.layer_axes import LayerAxes, compute_plane_index, locate
from napari_sam2.io.prompts import make_mask_prompts


def read_layer_prompts(
    layer: Any, image: Any, axes: LayerAxes, key: SessionKey, frame: int
) -> list[Prompt]:
    """Read prompts: labels on `frame` become masks, shapes become boxes, points become clicks.

    Raises LabelsError for labels of another shape than the image, PromptError for a layer without
    prompts in this image.
    """
    if isinstance(layer, Labels):
        return _read_masks(layer, axes, key, frame)
    found = (
        _read_boxes(layer, image, axes, key)
        if isinstance(layer, Shapes)
        else _read_clicks(layer, image, axes, key)
    )
    if not found:
        raise PromptError(f"the layer {layer.name!r} has no prompts in this image")
    return found


def read_label_planes(layer: Any, axes: LayerAxes, key: SessionKey) -> Any:
    """Read the (frames, H, W) planes of a Labels layer, one for each frame of an image.

    Raises LabelsError if the shapes do not match.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    along, sizes = key.selection.along, axes.sizes
    expected = tuple(size for axis, size in sizes.items() if axis in f"{along}yx")
    if data.shape == expected:
        return data
    if data.shape == axes.shape:
        position = {"c": 0, **dict(key.at)}
        return data[
            tuple(
                slice(None) if axis in f"{along}yx" else position.get(axis, 0)
                for axis in axes.letters
            )
        ]
    raise LabelsError(
        f"the labels {layer.name!r} have the shape {data.shape!r}: expected {expected!r}, one "
        "plane for each frame"
    )


def _read_masks(layer: Any, axes: LayerAxes, key: SessionKey, frame: int) -> list[Prompt]:
    data = layer.data[0] if layer.multiscale else layer.data
    if data.shape == axes.shape[-2:]:
        plane = data
    elif data.shape == axes.shape:
        plane = data[compute_plane_index(axes, {**dict(key.at), key.selection.along: frame})]
    elif data.shape == tuple(
        size for axis, size in axes.sizes.items() if axis in f"{key.selection.along}yx"
    ):
        plane = data[frame]
    else:
        raise LabelsError(
            f"the labels {layer.name!r} have the shape {data.shape!r}: expected {axes.shape!r}, "
            f"or {axes.shape[-2:]!r} for one plane"
        )
    return list(make_mask_prompts(np.asarray(plane), frame).prompts)


def _read_boxes(layer: Any, image: Any, axes: LayerAxes, key: SessionKey) -> list[Prompt]:
    found: list[Prompt] = []
    for corners in layer.data:
        frame, yx = _locate_in_image(layer, image, axes, key, corners)
        (y, x), (y2, x2) = yx.min(axis=0), yx.max(axis=0)
        if frame is not None and y < y2 and x < x2:
            found.append(BoxPrompt(frame, len(found) + 1, (y, x, y2, x2)))
    return found


def _read_clicks(layer: Any, image: Any, axes: LayerAxes, key: SessionKey) -> list[Prompt]:
    found: list[Prompt] = []
    for point in layer.data:
        frame, yx = _locate_in_image(layer, image, axes, key, np.atleast_2d(point))
        if frame is not None:
            found.append(PointPrompt(frame, len(found) + 1, yx.tolist(), [True]))
    return found


def _locate_in_image(
    layer: Any, image: Any, axes: LayerAxes, key: SessionKey, positions: Any
) -> tuple[int | None, np.ndarray]:
    """Convert positions of a layer to a frame and (n, 2) positions in the image.

    The frame is None if they lie at another position of the other axes.
    """
    located = [locate(image, axes, layer.data_to_world(each)) for each in positions]
    index = located[0][0]
    in_session = all(index.get(axis, 0) == number for axis, number in key.at)
    height, width = axes.shape[-2:]
    yx = np.clip(np.array([each for _, each in located]), 0, (height - 1, width - 1))
    return (index.get(key.selection.along, 0) if in_session else None), yx
