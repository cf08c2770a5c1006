"""A model that reads each object through a window of its own, which shows the object large enough.

A network that sees all objects at about the same size can be small and never reads whole frames:
the cost of a frame is that of its tracks, not of its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.result import Embedding, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.cropping import (
    Corners,
    contains_points,
    find_logit_corners,
    include_points,
    make_crop_window,
    make_window_pyramid,
    resample,
)
from napari_sam2.models.memory_payload import get_payload, resample_tokens
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.configs import MEMORY_CHANNELS
from napari_sam2.models.network.mask_decoder import DecoderOutput, SelectedMask, average_outputs
from napari_sam2.models.network.sam2_network import STRIDE, Features
from napari_sam2.models.object_location import (
    is_speck,
    locate_object,
    search_clicked_objects,
)
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.query_batch import QueryBatch

# Windows of one batch; larger batches are no faster on a CPU.
_ENCODE_BATCH_SIZE = 32
# Widths of objects in training, in input pixels. Answers outside of it count less.
_OBJECT_WIDTH_RANGE_PX = (14.0, 72.0)
# Reversing both axes turns an image by 180°.
_ROTATION_AXES = (-2, -1)


class ObjectCropModel(Sam2Predictor):
    """SAM 2 on a window around each object.

    An Embedding holds the pixels of the frame, and the features of the windows used last.
    """

    @torch.inference_mode()
    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """The pixels of the frames: the queries decide which windows are encoded."""
        return [
            Embedding(frame.index, window, (torch.from_numpy(frame.pixels), _EncodedWindows()))
            for frame, window in views
        ]

    @torch.inference_mode()
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One Segment for each Query, in order, each over its own window."""
        known = [self._find_known_window(embedding, query) for query in queries]
        lost = [query for query, window in zip(queries, known, strict=True) if window is None]
        searched = iter(self._search_windows(embedding, lost))
        windows = [next(searched) if window is None else window for window in known]
        embedding.features[1].retain(windows)
        return self._segment_windows(embedding, queries, windows)

    @torch.inference_mode()
    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """As `Sam2Predictor.encode_memory`; then the features of the frame are dropped."""
        memories = super().encode_memory(embedding, segments)
        embedding.features[1].retain(())
        return memories

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """The frame's pixels, (H, W) float32."""
        return (features[0].numpy(),)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse of `to_arrays`; no window is encoded yet."""
        return (torch.from_numpy(np.array(arrays[0], dtype=np.float32)), _EncodedWindows())

    def _count_threads(self, batch_sizes: Sequence[int]) -> int:
        # For one track too: this small network is slower with several threads per operation.
        return torch.get_num_threads() if self.device == "cpu" else 1

    def get_features(
        self, embedding: Embedding, windows: Sequence[Window], *, rotated: bool = False
    ) -> Features:
        """Features of B windows; `rotated` encodes the windows turned by 180°."""
        pixels, encoded = cast(tuple[Tensor, _EncodedWindows], embedding.features)
        cached = encoded.rotated if rotated else encoded.upright
        missing = sorted(
            {window for window in windows if window not in cached},
            key=lambda window: (window.top, window.left, window.height),
        )
        for start in range(0, len(missing), _ENCODE_BATCH_SIZE):
            part = missing[start : start + _ENCODE_BATCH_SIZE]
            crops = torch.from_numpy(np.stack([window.crop(pixels.numpy()) for window in part])).to(
                self.device
            )
            levels = self.network.embed((crops.flip(_ROTATION_AXES) if rotated else crops)[:, None])
            cached.update(
                (window, tuple(level[row] for level in levels)) for row, window in enumerate(part)
            )
        rows = [cached[window] for window in windows]
        fine, middle, coarse = (torch.stack([row[level] for row in rows]) for level in range(3))
        return fine, middle, coarse

    def _resample_planes(
        self,
        planes: Sequence[Tensor],
        sources: Sequence[Window],
        targets: Sequence[Window],
        whole: Window,
    ) -> Tensor:
        return resample(torch.stack(list(planes))[:, None], sources, targets)[:, 0]

    def _gather_memories(
        self, batch: QueryBatch, references: Sequence[Sequence[MemoryReference]]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Memories resampled to each query's own window; see `Sam2Predictor._gather_memories`."""
        pairs = [
            (get_payload(reference, query), window)
            for (query, window), row in zip(batch.pairs, references, strict=True)
            for reference in row
        ]
        tokens = self._stack_tokens([payload.tokens for payload, _ in pairs]).float()
        if pairs:
            sources, targets = zip(
                *((payload.window, window) for payload, window in pairs), strict=True
            )
            tokens = resample_tokens(tokens, sources, targets)
        side = batch.size // STRIDE
        tokens = tokens.reshape(len(references), -1, side**2, MEMORY_CHANNELS)
        return tokens, self._make_slots(references), None

    def _decode_masks(
        self, features: Features, batch: QueryBatch, points: Tensor, labels: Tensor
    ) -> DecoderOutput:
        """Without memory, the mean of the answers to the window upright and turned by 180°."""
        upright = super()._decode_masks(features, batch, points, labels)
        if batch.queries[0].memory_references:
            return upright
        features = self.get_features(batch.embedding, batch.windows, rotated=True)
        dense = self._make_dense_prompt(batch, points, labels)
        image = self.network.add_no_memory_embedding(features[2])
        rotated = self.network.decode(
            features,
            image,
            prompt_tokens.rotate_points(points, labels),
            labels,
            None if dense is None else dense.flip(_ROTATION_AXES),
        )
        return average_outputs(upright, replace(rotated, masks=rotated.masks.flip(_ROTATION_AXES)))

    def _find_specks(self, selected: SelectedMask, batch: QueryBatch) -> Tensor | None:
        """(B,) bool: the masks that are specks, which the next window would follow."""
        if not batch.queries[0].memory_references:
            return None
        planes = selected.logits.float().cpu().numpy()
        frame = batch.embedding.frame
        specks = [
            is_speck(query, window, frame, plane)
            for (query, window), plane in zip(batch.pairs, planes, strict=True)
        ]
        return torch.tensor(specks, device=self.device)

    def _find_known_window(self, embedding: Embedding, query: Query) -> Window | None:
        """The window of an object whose position is known; None if it must be searched."""
        location, prompts = locate_object(query, embedding.frame), query.prompts
        if location is None:
            # A query without prompts is refused where its batch is made.
            return None if prompts.points else embedding.window
        if location.source == "answer" and self._fits_window(query, location.corners):
            return location.window
        if location.corners is not None:
            return self._make_crop_window(embedding, location.corners)
        return location.window if location.source == "memory" else None

    def _fits_window(self, query: Query, corners: Corners | None) -> bool:
        """Whether a correction can be answered through the window of the previous answer."""
        prompts, window = query.prompts, cast(Window, query.window)
        return contains_points(window, prompts.points) and (
            corners is not None or prompts.box is None
        )

    def _make_crop_window(self, embedding: Embedding, corners: Corners) -> Window:
        return make_crop_window(corners, _get_frame_shape(embedding), self.card.input_sizes[0])

    def _search_windows(self, embedding: Embedding, queries: Sequence[Query]) -> list[Window]:
        """The windows of objects that only clicks point at."""
        shape, size = _get_frame_shape(embedding), self.card.input_sizes[0]
        best = search_clicked_objects(
            queries,
            partial(make_window_pyramid, shape=shape, size=size),
            partial(self._segment_windows, embedding),
            _OBJECT_WIDTH_RANGE_PX,
        )
        windows = []
        for query, segment in zip(queries, best, strict=True):
            corners = find_logit_corners(segment.logits, segment.window)
            windows.append(
                self._make_crop_window(embedding, include_points(corners, query.prompts.points))
                if corners
                else segment.window
            )
        return windows


class _EncodedWindows:
    """Features by window, kept between the queries about a frame and the encoding of its memories.

    `rotated` holds those of windows turned by 180°.
    """

    def __init__(self) -> None:
        self.upright: dict[Window, tuple[Tensor, ...]] = {}
        self.rotated: dict[Window, tuple[Tensor, ...]] = {}

    @property
    def nbytes(self) -> int:
        return sum(
            int(level.nbytes)
            for features in (self.upright, self.rotated)
            for levels in features.values()
            for level in levels
        )

    def retain(self, windows: Sequence[Window]) -> None:
        """Drop the features of all other windows."""
        for features in (self.upright, self.rotated):
            for window in features.keys() - set(windows):
                del features[window]


def _get_frame_shape(embedding: Embedding) -> tuple[int, int]:
    height, width = embedding.features[0].shape
    return int(height), int(width)
