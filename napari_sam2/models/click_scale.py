"""Searching: where the object is that points alone speak of.

It is looked at from near and from far, and one answer is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from napari_sam2.core.prompt import Said
from napari_sam2.core.result import Segment
from napari_sam2.models.cropping import EDGE_PX, moved

_ALONE = 0.3  # what an answer counts that no other agrees with; wholly agreed with it counts 1 more


def middle(said: Said) -> tuple[float, float]:
    """Of the positive points, or of all where none is: (y, x) from the outer corner of the first pixel."""
    chosen = [
        point for point, positive in zip(said.points, said.positive, strict=True) if positive
    ] or list(said.points)
    y, x = np.mean(chosen, axis=0)
    return float(y) + EDGE_PX, float(x) + EDGE_PX


def best(answers: Sequence[Segment], fitting: tuple[float, float]) -> Segment:
    """Of answers through one Window after another, each larger, the one to believe.

    `fitting` are the pixels of the input that an object is wide, from and to: what is narrower or
    wider counts less.
    """
    return max(
        zip(answers, agreements(answers), strict=True),
        key=lambda each: _fit(each[0], fitting) * (_ALONE + each[1]),
    )[0]


def agreements(answers: Sequence[Segment]) -> list[float]:
    """For answers through one Window after another, each larger: the IoU with the nearer of both neighbours' masks.

    What is there is seen from near and from far; what a Window is too large or too small for
    changes with the Window.
    """
    found = [0.0] * len(answers)
    for place, (near, far) in enumerate(pairwise(answers)):
        seen = (
            moved(torch.from_numpy(far.logits)[None, None], [far.window], [near.window])[
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


def _fit(segment: Segment, fitting: tuple[float, float]) -> float:
    """The predicted IoU of an answer, less where its object is narrower or wider than what fits."""
    cells = float((segment.logits > 0).sum())
    if not cells:
        return -1.0
    wide = 2 * np.sqrt(cells / np.pi) * segment.window.size / segment.logits.shape[0]
    low, high = fitting
    return segment.iou * min(1.0, wide / low, high / wide)
