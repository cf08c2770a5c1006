"""Prompts made from masks, label planes and positions."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from napari_sam2.detection.options import PromptKind

_MAX_OVERLAP = 0.5  # share of an object's pixels on known objects: above it the object is not new


def make_clicks(
    positions: np.ndarray, frame: int, first_track: int, occupied: np.ndarray | None
) -> list[Prompt]:
    """A click at each free (y, x) of `positions`."""
    free = [
        (float(y), float(x))
        for y, x in positions
        if occupied is None or not occupied[int(y), int(x)]
    ]
    return [
        PointPrompt(frame, first_track + number, [place], [True])
        for number, place in enumerate(free)
    ]


def make_label_prompts(
    labels: np.ndarray, frame: int, kind: PromptKind, first_track: int, occupied: np.ndarray | None
) -> list[Prompt]:
    """A prompt for each label that lies mostly on free pixels, in order of the labels."""
    found: list[Prompt] = []
    codes = np.unique(labels[labels > 0])
    for code, box in zip(
        codes, ndimage.find_objects(np.searchsorted([0, *codes], labels)), strict=True
    ):
        mask = labels[box] == code
        if occupied is not None and np.count_nonzero(
            mask & occupied[box]
        ) > _MAX_OVERLAP * np.count_nonzero(mask):
            continue
        found.append(
            make_prompt(
                mask,
                (box[0].start, box[1].start),
                labels.shape,
                frame,
                first_track + len(found),
                kind,
            )
        )
    return found


def make_prompt(
    mask: np.ndarray,
    corner: tuple[int, int],
    shape: tuple[int, ...],
    frame: int,
    track: int,
    kind: PromptKind,
) -> Prompt:
    """Prompt for an object.

    Parameters
    ----------
    mask
        Bool crop of its mask.
    corner
        (y, x) of the crop's first pixel.
    shape
        (H, W) of the frame.
    kind
        "point": a click deepest inside; "box": its box, or its mask if it is one pixel wide.
    """
    if kind == "point":
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return PointPrompt(frame, track, [(float(corner[0] + y), float(corner[1] + x))], [True])
    if kind == "box" and min(mask.shape) > 1:
        low, high = (
            (corner[0], corner[1]),
            (corner[0] + mask.shape[0] - 1, corner[1] + mask.shape[1] - 1),
        )
        return BoxPrompt(frame, track, (*low, *high))
    whole = np.zeros(shape, dtype=bool)
    whole[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]] = mask
    return MaskPrompt(frame, track, whole)
