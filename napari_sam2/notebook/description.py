"""Description of a video that the browser receives once."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_sam2.core.stack import Video
from napari_sam2.propagation.session import Session


def describe_video(session: Session, shrink: int) -> dict[str, Any]:
    """Describe the video and the model of a session for the browser, as plain data.

    Names come from files, so the browser shows them as text only.
    """
    video = session.video
    frames, height, width = video.shape
    return {
        "name": video.stack.name,
        "along": video.along,
        "frames": frames,
        "height": height,
        "width": width,
        "shrink": shrink,
        "channels": list(video.stack.channels) if video.channel is not None else ["luminance"],
        "range": list(_get_contrast_range(video)),
        "model_note": f"{video.description} · {session.model.card.title}",
        "step": _get_step(video),
        "other_axes": [
            {"axis": axis, "length": video.stack.sizes[axis]}
            for axis, _ in video.at
            if video.stack.sizes[axis] > 1
        ],
    }


def _get_contrast_range(video: Video) -> tuple[float, float]:
    """Range of the contrast sliders: wider than the contrast, but within the data type."""
    low, high = video.contrast.low, video.contrast.high
    margin = (high - low) / 2
    dtype = np.dtype(video.stack.data.dtype)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return float(max(limits.min, low - margin)), float(min(limits.max, high + 2 * margin))
    return low - margin, high + 2 * margin


def _get_step(video: Video) -> float | None:
    """Distance of slices in µm, or of frames in seconds, if the file states it."""
    return video.spacing.z_um if video.along == "z" else video.spacing.t_s
