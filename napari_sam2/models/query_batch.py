"""Queries that go through the network together, and their prompts as tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Embedding, MemoryReference, Query
from napari_sam2.core.window import Window
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.sam2_network import MASK_STRIDE, TokenSelection


class BatchKey(NamedTuple):
    """The properties that queries of one batch share, so that nothing must be padded.

    `memories`, `pointers` and `points` are numbers of them; a box is two points.
    """

    has_mask: bool
    memories: int
    pointers: int
    points: int
    has_previous_logits: bool

    @classmethod
    def of(cls, query: Query) -> BatchKey:
        """The key of a query. Raises PromptError if it has neither prompts nor memories."""
        prompts, references = query.prompts, query.memory_references
        points = len(prompts.points) + (2 if prompts.box else 0)
        if not references and prompts.mask is None and not points:
            raise PromptError(
                "the query has neither prompts nor memories: give at least one of them",
                track=query.track,
            )
        return cls(
            prompts.mask is not None,
            sum(reference.slot is not None for reference in references),
            sum(reference.age is not None for reference in references),
            points,
            query.logits is not None,
        )


class QueryBatch(NamedTuple):
    """B queries about one frame that share a BatchKey, each with the window it reads."""

    embedding: Embedding
    queries: list[Query]
    windows: list[Window]

    @property
    def size(self) -> int:
        """Side of the windows in input pixels."""
        return self.windows[0].size

    @property
    def mask_side(self) -> int:
        """Side of the masks in cells."""
        return self.size // MASK_STRIDE

    @property
    def pairs(self) -> list[tuple[Query, Window]]:
        """Each query with its window."""
        return list(zip(self.queries, self.windows, strict=True))

    def select_references(self, attribute: str) -> list[list[MemoryReference]]:
        """For each query the memory references that have a "slot" or an "age"."""
        return [
            [each for each in query.memory_references if getattr(each, attribute) is not None]
            for query in self.queries
        ]

    def make_points(
        self, inputs: Sequence[Window], device: str | torch.device
    ) -> tuple[Tensor, Tensor]:
        """(B, P, 2) points (x, y) in 0..1 of their input windows, and (B, P) labels.

        The corners of a box come first.
        """
        yx, labels = zip(*(_collect_points(query.prompts) for query in self.queries), strict=True)
        pixels = [
            window.to_model(np.array(each, dtype=np.float64).reshape(-1, 2))
            for each, window in zip(yx, inputs, strict=True)
        ]
        xy = ((np.stack(pixels)[..., ::-1] + 0.5) / inputs[0].size).astype(np.float32)
        kinds = torch.tensor(labels, dtype=torch.long, device=device)
        return torch.from_numpy(xy.copy()).to(device), kinds.view(len(self.queries), -1)

    def make_masks(self, device: str | torch.device) -> Tensor:
        """(B, S, S) masks of the prompts, 0 or 1, at the resolution of the input."""
        return to_tensor(
            [resample_mask(query.prompts, window) for query, window in self.pairs], device
        )


def to_tensor(arrays: np.ndarray | Sequence[Any], device: str | torch.device) -> Tensor:
    """float32 on a device."""
    return torch.from_numpy(np.array(arrays, dtype=np.float32)).to(device)


def to_selection_coordinates(points: Tensor, selection: TokenSelection) -> Tensor:
    """(B, P, 2) points (x, y) in 0..1 of the whole grid, in 0..1 of the selected square."""
    side = math.isqrt(selection.indices.shape[1])
    first = selection.indices[:, 0]
    corner = torch.stack([first % selection.grid, first // selection.grid], dim=1)[:, None]
    return (points * selection.grid - corner) / side


def resize_planes(planes: Tensor, side: int, *, antialias: bool) -> Tensor:
    """(B, h, w) planes at (B, side, side), bilinear; `antialias` if they may shrink."""
    if planes.shape[-1] == side and planes.shape[-2] == side:
        return planes
    return F.interpolate(
        planes[:, None],
        size=(side, side),
        mode="bilinear",
        align_corners=False,
        antialias=antialias,
    )[:, 0]


def _collect_points(frame_prompts: FramePrompts) -> tuple[list[tuple[float, float]], list[int]]:
    """Points (y, x) in data pixels, and their labels."""
    box = [frame_prompts.box[:2], frame_prompts.box[2:]] if frame_prompts.box else []
    labels = [prompt_tokens.TOP_LEFT, prompt_tokens.BOTTOM_RIGHT] if frame_prompts.box else []
    labels += [
        prompt_tokens.POSITIVE if positive else prompt_tokens.NEGATIVE
        for positive in frame_prompts.positive
    ]
    return [*box, *frame_prompts.points], labels


def resample_mask(frame_prompts: FramePrompts, window: Window) -> np.ndarray:
    """(S, S) of 0 and 1. A mask that covers no input pixel by half keeps its fullest pixels."""
    cover = window.crop(np.asarray(frame_prompts.mask, dtype=np.float32))
    return (cover >= min(0.5, float(cover.max()) or 0.5)).astype(np.float32)
