"""The position and size of a query's object, known from its prompts, answers and memories.

A click gives neither a size nor a scale: the model answers it at several scales, and one answer is
chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from scipy.ndimage import label

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.window import Window
from napari_sam2.models.cropping import (
    EDGE_PX,
    Corners,
    contains_points,
    find_logit_corners,
    find_mask_corners,
    include_points,
    resample,
)
from napari_sam2.models.memory_payload import MemoryPayload, find_nearest_memory

# A propagated mask of less than this part of the area of the nearest frame is a speck.
_SPECK_AREA = 1 / 12
# The weight of an answer that no other scale confirms; a fully confirmed answer weighs 1 more.
_UNCONFIRMED_WEIGHT = 0.3


class ObjectLocation(NamedTuple):
    """The known position of an object.

    Parameters
    ----------
    source
        The prompt (a mask or box), the previous answer on the same frame, or the memory of the
        nearest frame.
    corners
        Of the object and of the clicks on it, in data pixels; None if the source has no object.
    window
        The window of the answer or memory; None for a prompt.
    """

    source: Literal["prompt", "answer", "memory"]
    corners: Corners | None
    window: Window | None = None


def locate_object(query: Query, frame: int) -> ObjectLocation | None:
    """The position of a query's object; None if clicks alone, or nothing at all, tell of it."""
    prompts = query.prompts
    if prompts.mask is not None:
        return ObjectLocation("prompt", find_mask_corners(prompts.mask))
    if query.logits is not None and query.window is not None:
        corners = find_logit_corners(query.logits, query.window)
        if corners is not None:
            corners = include_points(corners, prompts.points)
        return ObjectLocation("answer", corners, query.window)
    if prompts.box is not None:
        top, left, bottom, right = (edge + EDGE_PX for edge in prompts.box)
        return ObjectLocation(
            "prompt", include_points(((top, left), (bottom, right)), prompts.points)
        )
    last = find_nearest_memory(query.memories, frame)
    if prompts.points or last is None or last.features is None:
        return None
    payload = cast(MemoryPayload, last.features)
    return ObjectLocation("memory", payload.corners, payload.window)


def is_speck(query: Query, window: Window, frame: int, logits: np.ndarray) -> bool:
    """Whether (h, w) logits over a window are a remainder of an object that is not there.

    The model may say that an object is present and mark some pixels where it was. The largest
    piece is compared with the object on the nearest frame on which it is present.
    """
    known = [memory for memory in query.memories if memory.present and memory.position]
    if query.prompts != FramePrompts() or not known:
        return False
    nearest = min(known, key=lambda memory: abs(memory.frame - frame))
    pieces, count = label(logits > 0)
    if not count:
        return True
    cell_px = window.height * window.width / logits.size
    area = float(np.bincount(pieces.ravel())[1:].max()) * cell_px
    assert nearest.position is not None
    return bool(area < _SPECK_AREA * np.pi / 4 * nearest.position.diameter_px**2)


def search_clicked_objects(
    queries: Sequence[Query],
    make_pyramid: Callable[[tuple[float, float]], list[Window]],
    segment: Callable[[Sequence[Query], Sequence[Window]], Sequence[Segment]],
    width_range_px: tuple[float, float],
) -> list[Segment]:
    """The best answer to each query of clicks alone, out of one answer per scale.

    Parameters
    ----------
    make_pyramid
        Windows around a (y, x) position in data pixels, ascending in size.
    segment
        Answers each query through its window.
    width_range_px
        See `select_best_segment`.
    """
    level_queries, windows, counts = list[Query](), list[Window](), []
    for query in queries:
        pyramid = make_pyramid(find_click_centre(query.prompts))
        levels = [
            window for window in pyramid if contains_points(window, query.prompts.points)
        ] or pyramid[-1:]
        level_queries += [Query(query.track, query.prompts)] * len(levels)
        windows += levels
        counts.append(len(levels))
    answers: Iterator[Segment] = iter(segment(level_queries, windows))
    return [select_best_segment(list(islice(answers, count)), width_range_px) for count in counts]


def find_click_centre(frame_prompts: FramePrompts) -> tuple[float, float]:
    """The mean (y, x) of the positive clicks, or of all if none is, from the image's corner."""
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
    """The most reliable answer out of several scales, given in ascending order of their windows.

    `width_range_px` is the usual width of an object in input pixels; answers outside of it count
    less.
    """
    return max(
        zip(segments, compute_scale_agreements(segments), strict=True),
        key=lambda each: _compute_fit(each[0], width_range_px) * (_UNCONFIRMED_WEIGHT + each[1]),
    )[0]


def compute_scale_agreements(segments: Sequence[Segment]) -> list[float]:
    """For each answer the larger IoU with the masks of the next smaller and next larger scale.

    A real object is found at both scales; the mask of a wrong scale changes with the window.
    """
    agreements = [0.0] * len(segments)
    for index, (fine, coarse) in enumerate(pairwise(segments)):
        agreement = _compute_iou(fine, coarse)
        agreements[index] = max(agreements[index], agreement)
        agreements[index + 1] = agreement
    return agreements


def _compute_iou(fine: Segment, coarse: Segment) -> float:
    """The IoU of two masks; the intersection is measured on the cells of the finer one."""
    plane = torch.from_numpy(coarse.logits)[None, None]
    resampled = resample(plane, [coarse.window], [fine.window])[0, 0].numpy() > 0
    fine_cell, coarse_cell = (
        segment.window.height**2 / segment.logits.size for segment in (fine, coarse)
    )
    intersection = fine_cell * float((resampled & (fine.logits > 0)).sum())
    union = (
        fine_cell * float((fine.logits > 0).sum())
        + coarse_cell * float((coarse.logits > 0).sum())
        - intersection
    )
    return intersection / union if union else 0.0


def _compute_fit(segment: Segment, width_range_px: tuple[float, float]) -> float:
    """The predicted IoU of an answer, reduced if its object is unusually narrow or wide."""
    cells = float((segment.logits > 0).sum())
    if not cells:
        return -1.0
    width = 2 * np.sqrt(cells / np.pi) * segment.window.size / segment.logits.shape[0]
    low, high = width_range_px
    return segment.iou * min(1.0, width / low, high / width)
