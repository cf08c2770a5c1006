"""Answers: from tensors of many tracks to one Segment each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Alternative, Query, Segment
from napari_sam2.core.track import Presence
from napari_sam2.core.window import Window
from napari_sam2.models.network.mask_decoder import DecoderOutput

UNCERTAIN_IOU = 0.5
"""A tracked Segment whose predicted IoU is below this is UNCERTAIN."""


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """What the network says to B queries: logits (B, h, w), ious, scores (B,), pointers (B, C), offered (B, 4, h, w)."""

    logits: Tensor
    ious: Tensor
    scores: Tensor
    pointers: Tensor
    alternatives: DecoderOutput | None = None


def make_segments(
    frame: int, windows: Sequence[Window], queries: Sequence[Query], output: NetworkOutput
) -> Iterator[Segment]:
    """One Segment for each query and its window, in order; their arrays are their own."""
    logits, pointers = output.logits.cpu().numpy(), output.pointers.cpu().numpy()
    asked = any(
        _is_prompted(query.prompts) for query in queries
    )  # a mask carried along is one mask: nobody is there to choose
    offered = (
        _make_alternatives(output.alternatives)
        if output.alternatives and asked
        else [()] * len(queries)
    )
    for row, query in enumerate(queries):
        iou, score = float(output.ious[row]), float(output.scores[row])
        yield Segment(
            query.track,
            frame,
            windows[row],
            logits[row].copy(),  # of its own, so that it does not keep the whole batch
            iou,
            score,
            pointers[row].copy(),
            _classify_presence(query.prompts, iou, score),
            offered[row] if score > 0 else (),
        )


def _classify_presence(frame_prompts: FramePrompts, iou: float, score: float) -> Presence:
    if _is_prompted(frame_prompts):
        return Presence.PROMPTED
    if score <= 0:
        return Presence.ABSENT
    return Presence.UNCERTAIN if iou < UNCERTAIN_IOU else Presence.TRACKED


def _is_prompted(frame_prompts: FramePrompts) -> bool:
    return (
        bool(frame_prompts.points)
        or frame_prompts.box is not None
        or frame_prompts.mask is not None
    )


def _make_alternatives(output: DecoderOutput) -> list[tuple[Alternative, ...]]:
    """The three masks of each track, the highest predicted IoU first."""
    ious, masks = output.ious[:, 1:].cpu().numpy(), output.masks[:, 1:].cpu().numpy()
    order = np.argsort(-ious, axis=1, kind="stable")
    return [
        tuple(Alternative(masks[row, k].copy(), float(ious[row, k])) for k in ranks)
        for row, ranks in enumerate(order)
    ]
