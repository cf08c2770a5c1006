"""Following: each track is looked at through a Window of its own, which shows it large enough and follows it.

A network that sees objects always about as large needs to be neither large nor shown whole frames:
what a frame costs is what its tracks cost, however large it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.result import Embedding, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.click_scale import find_click_centre, select_best_segment
from napari_sam2.models.cropping import (
    EDGE_PX,
    Corners,
    find_logit_corners,
    find_mask_corners,
    include_points,
    make_crop_window,
    make_window_pyramid,
    resample,
)
from napari_sam2.models.local_attention import contains_points
from napari_sam2.models.memory_payload import MemoryPayload, find_nearest_memory, get_payload
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.configs import MEMORY_CHANNELS
from napari_sam2.models.network.mask_decoder import DecoderOutput, average_outputs
from napari_sam2.models.network.sam2_network import STRIDE, Features
from napari_sam2.models.predictor import QueryBatch, Sam2Predictor

_ENCODE_BATCH_SIZE = 32  # Windows of one batch; larger ones are no faster on a CPU
_OBJECT_WIDTH_RANGE_PX = (
    14.0,
    72.0,
)  # pixels of the input an object is wide, in training: outside of it an answer counts less
_ROTATION_AXES = (-2, -1)  # axes that are reversed: half a circle


class ObjectCropModel(Sam2Predictor):
    """See the module.

    An Embedding holds the frame's pixels, and the features of the Windows that were asked about
    last.
    """

    @torch.inference_mode()
    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """The frames as they are: what is encoded depends on what is asked."""
        return [
            Embedding(frame.index, window, (torch.from_numpy(frame.pixels), _EncodedWindows()))
            for frame, window in views
        ]

    @torch.inference_mode()
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One Segment for each Query, in order, each with its own Window; see `Sam2Predictor.segment`."""
        windows = [self._find_known_window(embedding, query) for query in queries]
        unknown = [place for place, window in enumerate(windows) if window is None]
        found = self._search_windows(embedding, [queries[place] for place in unknown])
        for place, window in zip(unknown, found, strict=True):
            windows[place] = window
        embedding.features[1].retain(windows)
        return self._segment_windows(embedding, queries, cast(list[Window], windows))

    @torch.inference_mode()
    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """As `Sam2Predictor.encode_memory`; nothing that was encoded of the frame is kept after it, for nobody asks again."""
        found = super().encode_memory(embedding, segments)
        embedding.features[1].retain(())
        return found

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """The frame's pixels, (H, W) float32."""
        return (features[0].numpy(),)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse of `to_arrays`; nothing is encoded yet."""
        return (torch.from_numpy(np.array(arrays[0], dtype=np.float32)), _EncodedWindows())

    def _count_threads(self, batch_sizes: Sequence[int]) -> int:
        return (
            torch.get_num_threads() if self.device == "cpu" else 1
        )  # for one track too: more are slower

    def _get_features(
        self, embedding: Embedding, windows: Sequence[Window], *, rotated: bool = False
    ) -> Features:
        pixels, encoded = cast(tuple[Tensor, _EncodedWindows], embedding.features)
        known = encoded.rotated if rotated else encoded.upright
        lacking = sorted(
            {window for window in windows if window not in known},
            key=lambda each: (each.top, each.left, each.height),
        )
        for start in range(0, len(lacking), _ENCODE_BATCH_SIZE):
            part = lacking[start : start + _ENCODE_BATCH_SIZE]
            crops = torch.from_numpy(np.stack([window.crop(pixels.numpy()) for window in part])).to(
                self.device
            )
            levels = self.network.embed((crops.flip(_ROTATION_AXES) if rotated else crops)[:, None])
            known.update(
                (window, tuple(level[row] for level in levels)) for row, window in enumerate(part)
            )
        rows = [known[window] for window in windows]
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
        """Memories as they lie in each query's own Window: see `Sam2Predictor._remembered`."""
        pairs = [
            (query, window, recall)
            for (query, window), recalls in zip(batch.pairs, references, strict=True)
            for recall in recalls
        ]
        kept = [get_payload(recall, query) for query, _, recall in pairs]
        tokens, side = (
            self._stack_tokens([payload.tokens for payload in kept]).float(),
            batch.size // STRIDE,
        )
        if kept:
            grids = tokens.transpose(1, 2).unflatten(2, (side, side))
            tokens = (
                resample(
                    grids, [payload.window for payload in kept], [window for _, window, _ in pairs]
                )
                .flatten(2)
                .transpose(1, 2)
            )
        slots = torch.tensor(
            [[recall.slot for recall in recalls] for recalls in references],
            dtype=torch.long,
            device=self.device,
        )
        return tokens.reshape(len(references), -1, side**2, MEMORY_CHANNELS), slots, None

    def _decode_masks(
        self, features: Features, batch: QueryBatch, points: Tensor, labels: Tensor
    ) -> DecoderOutput:
        """Where nothing is recalled, the mean of two looks: as it is, and turned by half a circle."""
        decoded = super()._decode_masks(features, batch, points, labels)
        if batch.queries[0].memory_references:
            return decoded
        features = self._get_features(batch.embedding, batch.windows, rotated=True)
        dense = self._make_dense_prompt(batch, points, labels)
        shown = None if dense is None else dense.flip(_ROTATION_AXES)
        image = self.network.add_no_memory_embedding(features[2])
        turned = self.network.decode(
            features, image, prompt_tokens.rotate_points(points, labels), labels, shown
        )
        return average_outputs(decoded, replace(turned, masks=turned.masks.flip(_ROTATION_AXES)))

    def _find_known_window(self, embedding: Embedding, query: Query) -> Window | None:
        """Where the track is known to be: in what was said, in its answer before, or on the frame before; else None."""
        said, shape = query.prompts, _get_frame_shape(embedding)
        if said.mask is not None:
            return self._make_crop_window(find_mask_corners(said.mask), shape, ())
        if query.logits is not None and query.window is not None:
            corners = find_logit_corners(query.logits, query.window)
            if contains_points(query.window, said.points) and (
                corners is not None or said.box is None
            ):
                return query.window
            return self._make_crop_window(corners, shape, said.points) if corners else None
        if said.box is not None:
            low, high = said.box[:2], said.box[2:]
            return self._make_crop_window(
                ((low[0] + EDGE_PX, low[1] + EDGE_PX), (high[0] + EDGE_PX, high[1] + EDGE_PX)),
                shape,
                said.points,
            )
        last = find_nearest_memory(query.memories, embedding.frame)
        if last is None or said.points:
            return None
        kept = cast(MemoryPayload, last.features)
        return self._make_crop_window(kept.corners, shape, ()) if kept.corners else kept.window

    def _make_crop_window(
        self, corners: Corners, shape: tuple[int, int], points: Sequence[tuple[float, float]]
    ) -> Window:
        """The Window around an object and the points that speak of it."""
        return make_crop_window(*include_points(corners, points), shape, self.card.input_sizes[0])

    def _search_windows(self, embedding: Embedding, queries: Sequence[Query]) -> list[Window]:
        """Where the object is that points alone speak of: it is looked at from near and from far, and the best answer framed."""
        shape, size = _get_frame_shape(embedding), self.card.input_sizes[0]
        asked, windows, counts = [], [], []
        for query in queries:
            steps = make_window_pyramid(find_click_centre(query.prompts), shape, size)
            fitting = [
                window for window in steps if contains_points(window, query.prompts.points)
            ] or steps[-1:]
            asked += [Query(query.track, query.prompts)] * len(fitting)
            windows += fitting
            counts.append(len(fitting))
        answers = iter(self._segment_windows(embedding, asked, windows))
        found: list[Window] = []
        for query, count in zip(queries, counts, strict=True):
            own = list(islice(answers, count))
            chosen = select_best_segment(own, _OBJECT_WIDTH_RANGE_PX)
            corners = find_logit_corners(chosen.logits, chosen.window)
            found.append(
                self._make_crop_window(corners, shape, query.prompts.points)
                if corners
                else chosen.window
            )
        return found


class _EncodedWindows:
    """Features by Window, of those asked about last: they are wanted once more when the answers are remembered."""

    def __init__(self) -> None:
        self.upright: dict[Window, tuple[Tensor, ...]] = {}
        self.rotated: dict[Window, tuple[Tensor, ...]] = {}

    @property
    def nbytes(self) -> int:
        """Bytes they take."""
        return sum(
            int(level.nbytes)
            for known in (self.upright, self.rotated)
            for levels in known.values()
            for level in levels
        )

    def retain(self, windows: Sequence[Window]) -> None:
        """Those that are not asked about any more."""
        wanted = set(windows)
        for known in (self.upright, self.rotated):
            for window in known.keys() - wanted:
                del known[window]


def _get_frame_shape(embedding: Embedding) -> tuple[int, int]:
    height, width = embedding.features[0].shape
    return int(height), int(width)
