"""Prompts from messages of the browser and from label images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt
from napari_sam2.core.stack import Video


def parse_prompt(content: Mapping[str, Any]) -> PointPrompt | BoxPrompt:
    """Make a prompt of a browser message; raises PromptError if its values are invalid."""
    frame, track = int(content["frame"]), int(content["track"])
    if content["kind"] == "box":
        return BoxPrompt(frame, track, content["box"])
    return PointPrompt(frame, track, [content["yx"]], [bool(content["positive"])])


def make_prompts_from_labels(labels: np.ndarray, video: Video, frame: int) -> list[MaskPrompt]:
    """Make a mask prompt of every object in every label plane.

    Parameters
    ----------
    labels
        (frames, H, W) for the whole video, or (H, W) for `frame`.
    video
        The video that the labels belong to.
    frame
        Frame of a single plane.

    Raises
    ------
    LabelsError
        If the labels are not whole numbers or have another shape than the video.
    """
    if labels.dtype.kind not in "bui" or labels.shape not in (video.shape, video.shape[1:]):
        raise LabelsError(
            f"labels {labels.dtype} {labels.shape!r}: expected whole numbers {video.shape!r}, or "
            f"one plane of {video.shape[1:]!r}"
        )
    planes = {frame: labels} if labels.ndim == 2 else dict(enumerate(labels))
    return [
        MaskPrompt(number, int(track), plane == track)
        for number, plane in planes.items()
        for track in np.unique(plane)
        if track
    ]
