"""The network's tensors for many tracks, as one Segment each."""

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
"""A propagated Segment whose predicted IoU is below this is UNCERTAIN."""


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """The network's answers to B queries.

    Parameters
    ----------
    logits
        (B, h, w) mask logits.
    ious
        (B,) predicted IoUs.
    scores
        (B,) presence logits.
    pointers
        (B, C) object pointers.
    alternatives
        All masks that were decoded, if a person may choose between them.
    """

    logits: Tensor
    ious: Tensor
    scores: Tensor
    pointers: Tensor
    alternatives: DecoderOutput | None = None


def make_segments(
    frame: int, windows: Sequence[Window], queries: Sequence[Query], output: NetworkOutput
) -> Iterator[Segment]:
    """One Segment for each query and its window, in order. They share no memory."""
    logits, pointers = output.logits.cpu().numpy(), output.pointers.cpu().numpy()
    alternatives: Sequence[tuple[Alternative, ...]] = [()] * len(queries)
    # Propagated masks have no alternatives because nobody chooses between them.
    if output.alternatives and any(_is_prompted(query.prompts) for query in queries):
        alternatives = _make_alternatives(output.alternatives)
    for row, query in enumerate(queries):
        iou, score = float(output.ious[row]), float(output.scores[row])
        yield Segment(
            query.track,
            frame,
            windows[row],
            logits[row].copy(),  # a view would keep the whole batch in memory
            iou,
            score,
            pointers[row].copy(),
            _classify_presence(query.prompts, iou, score),
            alternatives[row] if score > 0 else (),
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
