"""Searching: where the object is that points alone speak of.

It is looked at from near and from far, and one answer is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Segment
from napari_sam2.models.cropping import EDGE_PX, resample

_UNCONFIRMED_WEIGHT = (
    0.3  # what an answer counts that no other agrees with; wholly agreed with it counts 1 more
)


def find_click_centre(frame_prompts: FramePrompts) -> tuple[float, float]:
    """Of the positive points, or of all where none is: (y, x) from the outer corner of the first pixel."""
    chosen = [
        point
        for point, positive in zip(frame_prompts.points, frame_prompts.positive, strict=True)
        if positive
    ] or list(frame_prompts.points)
    y, x = np.mean(chosen, axis=0)
    return float(y) + EDGE_PX, float(x) + EDGE_PX


def select_best_segment(
    segments: Sequence[Segment], width_range_px: tuple[float, float]
) -> Segment:
    """Of answers through one Window after another, each larger, the one to believe.

    `width_range_px` are the pixels of the input that an object is wide, from and to: what is narrower or
    wider counts less.
    """
    return max(
        zip(segments, compute_scale_agreements(segments), strict=True),
        key=lambda each: _compute_fit(each[0], width_range_px) * (_UNCONFIRMED_WEIGHT + each[1]),
    )[0]


def compute_scale_agreements(segments: Sequence[Segment]) -> list[float]:
    """For answers through one Window after another, each larger: the IoU with the nearer of both neighbours' masks.

    What is there is seen from near and from far; what a Window is too large or too small for
    changes with the Window.
    """
    found = [0.0] * len(segments)
    for place, (near, far) in enumerate(pairwise(segments)):
        seen = (
            resample(torch.from_numpy(far.logits)[None, None], [far.window], [near.window])[
                0, 0
            ].numpy()
            > 0
        )
        cell, large = (
            near.window.height**2 / near.logits.size,
            far.window.height**2 / far.logits.size,
        )
        both = cell * float((seen & (near.logits > 0)).sum())
        either = (
            cell * float((near.logits > 0).sum()) + large * float((far.logits > 0).sum()) - both
        )
        agreed = both / either if either else 0.0
        found[place], found[place + 1] = max(found[place], agreed), agreed
    return found


def _compute_fit(segment: Segment, width_range_px: tuple[float, float]) -> float:
    """The predicted IoU of an answer, less where its object is narrower or wider than what fits."""
    cells = float((segment.logits > 0).sum())
    if not cells:
        return -1.0
    wide = 2 * np.sqrt(cells / np.pi) * segment.window.size / segment.logits.shape[0]
    low, high = width_range_px
    return segment.iou * min(1.0, wide / low, high / wide)
