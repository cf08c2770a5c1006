"""What the browser is told of a Video once, and the masks that Python hands to the panel."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.prompt import MaskPrompt
from napari_sam2.core.stack import Video
from napari_sam2.propagation.session import Session


def describe_video(session: Session, shrink: int) -> dict[str, Any]:
    """What the browser has to know of a Video and its model; names come from files, and are shown as text only."""
    video = session.video
    frames, height, width = video.shape
    low, high = _get_contrast_range(video)
    return {
        "name": video.stack.name,
        "along": video.along,
        "frames": frames,
        "height": height,
        "width": width,
        "shrink": shrink,
        "channels": list(video.stack.channels) if video.channel is not None else ["luminance"],
        "walked": video.channel or 0,
        "range": [low, high],
        "model_note": f"{video.description} · {session.model.card.title}",
        "step": _get_step(video),
        "others": [
            {"axis": axis, "length": video.stack.sizes[axis]}
            for axis, _ in video.at
            if video.stack.sizes[axis] > 1
        ],
    }


def _get_contrast_range(video: Video) -> tuple[float, float]:
    """Where the contrast sliders begin and end: a little beyond the contrast, within the type."""
    low, high = video.contrast.low, video.contrast.high
    room = high - low
    kind = np.dtype(video.stack.data.dtype)
    if kind.kind in "ui":
        limits = np.iinfo(kind)
        return float(max(limits.min, low - room / 2)), float(min(limits.max, high + room))
    return low - room / 2, high + room


def _get_step(video: Video) -> float | None:
    """µm between slices or seconds between frames, for the label of the slider."""
    return video.spacing.z_um if video.along == "z" else video.spacing.t_s


def make_prompts_from_labels(labels: np.ndarray, video: Video, frame: int) -> list[MaskPrompt]:
    """A mask prompt for every object of label planes: (frames, H, W), or one (H, W) plane, which is that of `frame`."""
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
