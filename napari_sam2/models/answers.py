"""Answers: from tensors of many tracks to one Segment each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from napari_sam2.core.presence import Presence
from napari_sam2.core.prompt import Said
from napari_sam2.core.result import Alternative, Query, Segment
from napari_sam2.core.window import Window
from napari_sam2.models.network.mask_decoder import Decoded

UNCERTAIN_IOU = 0.5
"""A tracked Segment whose predicted IoU is below this is UNCERTAIN."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network says to B queries: logits (B, h, w), ious, scores (B,), pointers (B, C), offered (B, 4, h, w)."""

    logits: Tensor
    ious: Tensor
    scores: Tensor
    pointers: Tensor
    offered: Decoded | None = None


def segments_of(
    frame: int, windows: Sequence[Window], queries: Sequence[Query], answer: Answer
) -> Iterator[Segment]:
    """One Segment for each query and its window, in order; their arrays are their own."""
    logits, pointers = answer.logits.cpu().numpy(), answer.pointers.cpu().numpy()
    asked = any(
        _prompted(query.said) for query in queries
    )  # a mask carried along is one mask: nobody is there to choose
    offered = _offered(answer.offered) if answer.offered and asked else [()] * len(queries)
    for row, query in enumerate(queries):
        iou, score = float(answer.ious[row]), float(answer.scores[row])
        yield Segment(
            query.track,
            frame,
            windows[row],
            logits[row].copy(),  # of its own, so that it does not keep the whole batch
            iou,
            score,
            pointers[row].copy(),
            _presence(query.said, iou, score),
            offered[row] if score > 0 else (),
        )


def _presence(said: Said, iou: float, score: float) -> Presence:
    if _prompted(said):
        return Presence.PROMPTED
    if score <= 0:
        return Presence.ABSENT
    return Presence.UNCERTAIN if iou < UNCERTAIN_IOU else Presence.TRACKED


def _prompted(said: Said) -> bool:
    return bool(said.points) or said.box is not None or said.mask is not None


def _offered(decoded: Decoded) -> list[tuple[Alternative, ...]]:
    """The three masks of each track, the highest predicted IoU first."""
    ious, masks = decoded.ious[:, 1:].cpu().numpy(), decoded.masks[:, 1:].cpu().numpy()
    order = np.argsort(-ious, axis=1, kind="stable")
    return [
        tuple(Alternative(masks[row, k].copy(), float(ious[row, k])) for k in ranks)
        for row, ranks in enumerate(order)
    ]
