"""Sources: prompts from layers that somebody else made: labels, boxes, points."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Shapes

from napari_sam2.core.errors import LabelsError, PromptError
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt
from napari_sam2.gui.app.view import Place
from napari_sam2.gui.layers.layer_axes import Reading, index, locate
from napari_sam2.io.prompts import masks_as_prompts


def prompts_of(layer: Any, image: Any, reading: Reading, place: Place, frame: int) -> list[Prompt]:
    """Prompts on an image: each label of the plane at `frame` as a mask, each shape as a box, each point as a click.

    Raises LabelsError for labels of another shape than the image, PromptError for a layer that
    holds none here.
    """
    if isinstance(layer, Labels):
        return _masks(layer, reading, place, frame)
    found = (
        _boxes(layer, image, reading, place)
        if isinstance(layer, Shapes)
        else _clicks(layer, image, reading, place)
    )
    if not found:
        raise PromptError(f"the layer {layer.name!r} holds nothing that lies in this image")
    return found


def planes_of(layer: Any, reading: Reading, place: Place) -> Any:
    """The (frames, H, W) planes of a Labels layer, one for each frame of an image.

    Raises LabelsError where its shape is another one.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    along, sizes = place.choice.along, reading.sizes
    walked = tuple(size for axis, size in sizes.items() if axis in f"{along}yx")
    if data.shape == walked:
        return data
    if data.shape == reading.shape:
        here = {"c": 0, **dict(place.at)}
        return data[
            tuple(
                slice(None) if axis in f"{along}yx" else here.get(axis, 0)
                for axis in reading.letters
            )
        ]
    raise LabelsError(
        f"the labels {layer.name!r} are {data.shape!r}: expected {walked!r}, one plane for each "
        "frame"
    )


def _masks(layer: Any, reading: Reading, place: Place, frame: int) -> list[Prompt]:
    data = layer.data[0] if layer.multiscale else layer.data
    if data.shape == reading.shape[-2:]:
        plane = data
    elif data.shape == reading.shape:
        plane = data[index(reading, {**dict(place.at), place.choice.along: frame})]
    elif data.shape == tuple(
        size for axis, size in reading.sizes.items() if axis in f"{place.choice.along}yx"
    ):
        plane = data[frame]
    else:
        raise LabelsError(
            f"the labels {layer.name!r} are {data.shape!r}: expected {reading.shape!r}, or one "
            f"plane {reading.shape[-2:]!r}"
        )
    return list(masks_as_prompts(np.asarray(plane), frame).prompts)


def _boxes(layer: Any, image: Any, reading: Reading, place: Place) -> list[Prompt]:
    found: list[Prompt] = []
    for corners in layer.data:
        where, inside = _inside(layer, image, reading, place, corners)
        (y, x), (y2, x2) = inside.min(axis=0), inside.max(axis=0)
        if where is not None and y < y2 and x < x2:
            found.append(BoxPrompt(where, len(found) + 1, (y, x, y2, x2)))
    return found


def _clicks(layer: Any, image: Any, reading: Reading, place: Place) -> list[Prompt]:
    found: list[Prompt] = []
    for point in layer.data:
        where, inside = _inside(layer, image, reading, place, np.atleast_2d(point))
        if where is not None:
            found.append(PointPrompt(where, len(found) + 1, inside.tolist(), [True]))
    return found


def _inside(
    layer: Any, image: Any, reading: Reading, place: Place, places: Any
) -> tuple[int | None, np.ndarray]:
    """The frame and the (n, 2) positions of a layer's own positions in the image; no frame where they are elsewhere in it."""
    located = [locate(image, reading, layer.data_to_world(each)) for each in places]
    where = located[0][0]
    here = all(where.get(axis, 0) == number for axis, number in place.at)
    height, width = reading.shape[-2:]
    yx = np.clip(np.array([inside for _, inside in located]), 0, (height - 1, width - 1))
    return (where.get(place.choice.along, 0) if here else None), yx
