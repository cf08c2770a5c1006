"""SAM 2 as a VideoModel: queries become tensors, the network's tensors become Segments.

The rules of SAM 2 that concern one query are here. The propagation decides which queries are made
and which memories they refer to.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.card import ModelCard
from napari_sam2.core.inference_options import Attention
from napari_sam2.core.result import Embedding, MemoryReference, Query, Segment
from napari_sam2.core.sam2_constants import (
    ABSENT_LOGIT,
    MASK_PROMPT_LOGIT,
    MAX_PREVIOUS_LOGIT,
    MULTIMASK_MAX_POINTS,
)
from napari_sam2.core.stack import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.answers import NetworkOutput, make_segments
from napari_sam2.models.attention_selection import is_global, select_attention
from napari_sam2.models.cropping import Corners, contains_points, find_logit_corners
from napari_sam2.models.local_attention import LocalRegions, TokenRegion, resample_region
from napari_sam2.models.memory_payload import (
    MemoryPayload,
    count_memory_tokens,
    cut_tokens,
    find_nearest_memory,
    get_payload,
)
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.configs import MEMORY_CHANNELS
from napari_sam2.models.network.mask_decoder import (
    DecoderOutput,
    SelectedMask,
    select_best_mask,
    select_single_mask,
)
from napari_sam2.models.network.sam2_network import (
    STRIDE,
    Features,
    MemoryInputs,
    Sam2Network,
    TokenSelection,
)
from napari_sam2.models.parallel import group_by_kind, map_threads
from napari_sam2.models.precision import use_precision
from napari_sam2.models.query_batch import (
    BatchKey,
    QueryBatch,
    resize_planes,
    to_selection_coordinates,
    to_tensor,
)

# Frame and memory tokens of one batch, over all of its tracks. On a CPU larger batches are no
# faster; on an accelerator these take about 4 GB of keys, values and activations.
_BATCH_TOKENS = {"cpu": 4_096}
_ACCELERATOR_BATCH_TOKENS = 262_144
# Presence logit of an object of which only a speck is left, at most.
_SPECK_SCORE = -1.0
_R = TypeVar("_R")


class Sam2Predictor:
    """SAM 2, SAM 2.1 or a relative of it. See `napari_sam2.core.protocols.VideoModel`.

    `regions` chooses the part of the feature grid that a propagated track reads; None if that is
    the whole grid. First prompts, and tracks that were lost or are too large, always read the whole
    grid; with the attention "auto" also those whose region gives another mask, see
    `attention_selection`.
    """

    def __init__(self, network: Sam2Network, card: ModelCard, device: str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.card = card
        self.device = device
        self.regions: LocalRegions | None = (
            None if card.attention == "global" or card.object_crops else LocalRegions()
        )

    def with_attention(self, attention: Attention) -> Self:
        """A model with the same network and another attention."""
        return type(self)(self.network, replace(self.card, attention=attention), self.device)

    @torch.inference_mode()
    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Image features of several frames: three tensors each, at strides 4, 8 and 16."""
        embeddings: dict[int, Embedding] = {}
        sizes = [window.size for _, window in views]
        limits = [self._compute_batch_size((size // STRIDE) ** 2) for size in sizes]
        for part in group_by_kind(sizes, limits):
            planes = np.stack(
                [window.crop(frame.pixels) for frame, window in (views[index] for index in part)]
            )
            with use_precision(self.card.precision, self.device):
                levels = self.network.embed(torch.from_numpy(planes)[:, None].to(self.device))
            for row, index in enumerate(part):
                # A row of a batch is cloned because a view would keep the whole batch in memory.
                own = tuple(
                    level[row : row + 1].clone() if len(part) > 1 else level for level in levels
                )
                embeddings[index] = Embedding(views[index][0].index, views[index][1], own)
        return [embeddings[index] for index in range(len(views))]

    @torch.inference_mode()
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One Segment for each Query, in order; similar queries share a batch.

        Raises PromptError for a Query with neither prompts nor memories.
        """
        windows = [self._choose_window(embedding, query) for query in queries]
        segment = partial(self._segment_windows, embedding)
        if not self._selects_attention:
            return segment(queries, windows)
        return select_attention(
            segment, queries, windows, embedding, cast(LocalRegions, self.regions)
        )

    @torch.inference_mode()
    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """A MemoryPayload of each Segment; its tokens are bfloat16, as SAM 2 keeps them."""
        corners = [
            find_logit_corners(segment.logits, segment.window) if segment.present else None
            for segment in segments
        ]
        windows = [
            self._choose_memory_window(embedding.window, *each)
            for each in zip(segments, corners, strict=True)
        ]

        def encode(part: list[int]) -> list[MemoryPayload]:
            return self._encode_payloads(
                embedding,
                [segments[index] for index in part],
                [windows[index] for index in part],
                [corners[index] for index in part],
            )

        sizes = [window.size for window in windows]
        return self._map_batches(sizes, [(size // STRIDE) ** 2 for size in sizes], encode)

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """float32 arrays: (1, C, h, w) for each of the three levels."""
        return tuple(level.float().cpu().numpy() for level in features)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse of `to_arrays`: contiguous float32 tensors on this device."""
        return tuple(
            torch.from_numpy(np.array(array, dtype=np.float32, order="C")).to(self.device)
            for array in arrays
        )

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """Bytes of these features."""
        return sum(int(each.nbytes) for each in features if hasattr(each, "nbytes"))

    @property
    def _selects_attention(self) -> bool:
        """Whether masks of local and global attention are compared."""
        return self.regions is not None and self.card.attention == "auto"

    def _segment_windows(
        self, embedding: Embedding, queries: Sequence[Query], windows: Sequence[Window]
    ) -> list[Segment]:
        """Answers to queries, each through its window."""
        whole = embedding.window
        kinds = [
            (BatchKey.of(query), window.size, count_memory_tokens(query, window, whole))
            for query, window in zip(queries, windows, strict=True)
        ]

        def segment(part: list[int]) -> Iterator[Segment]:
            batch = QueryBatch(
                embedding, [queries[index] for index in part], [windows[index] for index in part]
            )
            features = self.get_features(embedding, batch.windows)
            output = (
                self._use_mask_as_output(features, batch)
                if kinds[part[0]][0].has_mask
                else self._predict_masks(features, batch)
            )
            return make_segments(embedding.frame, batch.windows, batch.queries, output)

        tokens = [(size // STRIDE) ** 2 + memory for _, size, memory in kinds]
        return self._map_batches(kinds, tokens, segment)

    def _choose_window(self, embedding: Embedding, query: Query) -> Window:
        """The window a query reads: a region if it is known and enough, else the whole."""
        whole, prompts = embedding.window, query.prompts
        if self.regions is None or prompts.mask is not None or prompts.box is not None:
            return whole
        if prompts.points:
            previous = query.window if query.logits is not None else None
            return previous if previous and contains_points(previous, prompts.points) else whole
        return self._choose_propagated_window(embedding, query)

    def _choose_propagated_window(self, embedding: Embedding, query: Query) -> Window:
        """The region around the object on the nearest frame; the whole if it was absent there."""
        whole, last = embedding.window, find_nearest_memory(query.memories, embedding.frame)
        if last is None or not last.present or last.features is None:
            return whole
        if self._selects_attention and is_global(query, embedding.frame, whole):
            return whole
        corners = cast(MemoryPayload, last.features).corners
        return cast(LocalRegions, self.regions).make_region(corners, whole) if corners else whole

    def _choose_memory_window(
        self, whole: Window, segment: Segment, corners: Corners | None
    ) -> Window:
        """The window of a Segment's memory."""
        if self.regions is None or corners is None:
            return segment.window
        if self._selects_attention and segment.window == whole and not segment.local_memory:
            return segment.window
        return self.regions.make_region(corners, whole)

    def _encode_payloads(
        self,
        embedding: Embedding,
        segments: Sequence[Segment],
        windows: Sequence[Window],
        corners: Sequence[Corners | None],
    ) -> list[MemoryPayload]:
        """Memories of Segments whose memory windows have one size."""
        planes = self._resample_planes(
            [to_tensor(segment.logits, self.device) for segment in segments],
            [segment.window for segment in segments],
            windows,
            embedding.window,
        )
        tokens = self._encode_tokens(
            self.get_features(embedding, windows),
            segments,
            resize_planes(planes, windows[0].size, antialias=False),
        )
        masks: Sequence[Tensor | None] = [None] * len(segments)
        if self.network.configuration.propagated_mask:
            masks = list(prompt_tokens.clamp_logits(planes).half())
        return [
            MemoryPayload(memory.clone(), window, corner, mask, segment.window)
            for memory, window, corner, mask, segment in zip(
                tokens, windows, corners, masks, segments, strict=True
            )
        ]

    def _encode_tokens(
        self, features: Features, segments: Sequence[Segment], logits: Tensor
    ) -> Tensor:
        """(B, N, 64) memory tokens of Segments with (B, S, S) logits."""
        conditioning = torch.tensor(
            [segment.conditioning for segment in segments], device=self.device
        )[:, None, None]
        absent = torch.tensor([not segment.present for segment in segments], device=self.device)
        masks = torch.where(conditioning, (logits > 0).float(), logits.sigmoid())
        return self.network.encode_memory(features[2], masks, absent).bfloat16()

    def get_features(self, embedding: Embedding, windows: Sequence[Window]) -> Features:
        """Features of the frame in these windows: a batch of one if they are the whole frame."""
        whole, levels = embedding.window, cast(Features, embedding.features)
        if windows[0] == whole:
            return levels
        regions, grid = [TokenRegion.of(window, whole) for window in windows], whole.size // STRIDE
        fine, middle, coarse = (
            torch.cat([region.cut_features(level, grid) for region in regions]) for level in levels
        )
        return fine, middle, coarse

    def _select_tokens(self, batch: QueryBatch) -> TokenSelection | None:
        """The tokens of the regions that the queries read; None if they read the whole grid."""
        whole = batch.embedding.window
        if self.regions is None or batch.windows[0] == whole:
            return None
        grid = whole.size // STRIDE
        indices = torch.stack(
            [TokenRegion.of(window, whole).token_indices(grid) for window in batch.windows]
        )
        return TokenSelection(indices.to(self.device), grid)

    def _resample_planes(
        self,
        planes: Sequence[Tensor],
        sources: Sequence[Window],
        targets: Sequence[Window],
        whole: Window,
    ) -> Tensor:
        """(B, h, w) of (h, w) logits over their sources, each over its target."""
        return torch.stack(
            [
                resample_region(plane, source, target, whole, -MASK_PROMPT_LOGIT)
                for plane, source, target in zip(planes, sources, targets, strict=True)
            ]
        )

    def _predict_masks(self, features: Features, batch: QueryBatch) -> NetworkOutput:
        points, labels = self._make_points(batch)
        decoded = self._decode_masks(features, batch, points, labels)
        multimask = (
            points.shape[1] <= MULTIMASK_MAX_POINTS or not self.network.configuration.single_mask
        )
        selected = select_best_mask(decoded) if multimask else select_single_mask(decoded)
        return self._make_output(
            decoded, selected, multimask=multimask, specks=self._find_specks(selected, batch)
        )

    def _find_specks(self, selected: SelectedMask, batch: QueryBatch) -> Tensor | None:
        """(B,) bool: masks whose object is absent although the model says it is present."""
        return None  # SAM 2 believes its presence score

    def _decode_masks(
        self, features: Features, batch: QueryBatch, points: Tensor, labels: Tensor
    ) -> DecoderOutput:
        image = self._condition_features(features[2], batch)
        return self.network.decode(
            features,
            image,
            points,
            labels,
            self._make_dense_prompt(batch, points, labels),
            self._select_tokens(batch),
        )

    def _make_output(
        self,
        output: DecoderOutput,
        selected: SelectedMask,
        *,
        multimask: bool,
        specks: Tensor | None = None,
    ) -> NetworkOutput:
        has_presence_head = self.network.configuration.presence_head
        scores = output.scores if has_presence_head else selected.logits.amax(dim=(1, 2))
        if specks is not None:
            scores = torch.where(specks, scores.clamp(max=_SPECK_SCORE), scores)
        logits = torch.where(scores[:, None, None] > 0, selected.logits, ABSENT_LOGIT)
        return NetworkOutput(
            logits,
            selected.ious,
            scores,
            self.network.project_pointers(selected.tokens, scores),
            output if multimask else None,
        )

    def _use_mask_as_output(self, features: Features, batch: QueryBatch) -> NetworkOutput:
        """Prompted masks as their own answers; the decoder only makes their object pointers.

        Meta's ``_use_mask_as_output``.
        """
        masks = batch.make_masks(self.device)
        logits = resize_planes((2 * masks - 1) * MASK_PROMPT_LOGIT, batch.mask_side, antialias=True)
        points, labels = self._make_points(batch)
        if self.network.configuration.dense_prompts:
            image = self.network.add_no_memory_embedding(features[2])
            dense = prompt_tokens.clamp_logits(logits)
        else:
            image, dense = features[2], self.network.mask_downsample(masks[:, None])[:, 0]
        decoded = self.network.decode(features, image, points, labels, dense)
        single = self.network.configuration.single_mask
        selected = select_single_mask(decoded) if single else select_best_mask(decoded)
        pointers = self._make_output(decoded, selected, multimask=False).pointers
        ones = torch.ones(len(masks), device=self.device)
        return NetworkOutput(logits, ones, MASK_PROMPT_LOGIT * ones, pointers)

    def _condition_features(self, coarse: Tensor, batch: QueryBatch) -> Tensor:
        """(1 or B, C, g, g) features of the frame, conditioned on each query's memories."""
        if not batch.queries[0].memory_references:
            return self.network.add_no_memory_embedding(coarse)
        tokens, slots, indices = self._gather_memories(batch, batch.select_references("slot"))
        pointers, ages = self._gather_pointers(batch)
        memories = MemoryInputs(tokens.to(coarse), slots, pointers, ages, indices)
        return self.network.condition_on_memory(coarse, memories, self._select_tokens(batch))

    def _gather_memories(
        self, batch: QueryBatch, references: Sequence[Sequence[MemoryReference]]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The memories that B queries refer to.

        Returns
        -------
        tokens
            (B, n, N, 64): n memories of N tokens, or N single tokens (see `_cut_memories`).
        slots
            (B, n) temporal slots.
        indices
            (B, n, N) of the tokens on the grid; None if each memory covers the whole grid.
        """
        whole, slots = batch.embedding.window, self._make_slots(references)
        payloads = [
            [get_payload(reference, query) for reference in row]
            for query, row in zip(batch.queries, references, strict=True)
        ]
        windows = {batch.windows[0], *(payload.window for row in payloads for payload in row)}
        if windows != {whole}:
            return self._cut_memories(batch, payloads, slots)
        tokens = self._stack_tokens([payload.tokens for row in payloads for payload in row])
        side = whole.size // STRIDE
        return tokens.view(len(references), -1, side**2, MEMORY_CHANNELS), slots, None

    def _cut_memories(
        self, batch: QueryBatch, payloads: Sequence[Sequence[MemoryPayload]], slots: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Memories as single tokens, because those of different regions differ in size."""
        whole = batch.embedding.window
        parts = [
            [cut_tokens(payload, window, whole) for payload in row]
            for row, window in zip(payloads, batch.windows, strict=True)
        ]
        tokens = torch.stack([torch.cat([part[0] for part in row]) for row in parts])
        indices = torch.stack([torch.cat([part[1] for part in row]) for row in parts])
        lengths = torch.tensor(
            [[len(part[1]) for part in row] for row in parts], device=self.device
        )
        token_slots = slots.flatten().repeat_interleave(lengths.flatten()).view(len(parts), -1)
        return tokens[:, :, None], token_slots, indices.to(self.device)[..., None]

    def _make_slots(self, references: Sequence[Sequence[MemoryReference]]) -> Tensor:
        """(B, n) temporal slots."""
        rows = [[reference.slot for reference in row] for row in references]
        return torch.tensor(rows, dtype=torch.long, device=self.device)

    def _stack_tokens(self, tokens: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(tokens)) if tokens else torch.zeros(0, device=self.device)

    def _gather_pointers(self, batch: QueryBatch) -> tuple[Tensor, Tensor]:
        """(B, p, C) object pointers that B queries refer to, and their (B, p) ages."""
        references = batch.select_references("age")
        pointers = [[reference.memory.pointer for reference in row] for row in references]
        ages = [
            self._normalise_ages(query, row)
            for query, row in zip(batch.queries, references, strict=True)
        ]
        count, hidden = len(references), self.network.configuration.hidden
        return (
            to_tensor(pointers, self.device).view(count, -1, hidden),
            to_tensor(ages, self.device).view(count, -1),
        )

    def _normalise_ages(self, query: Query, references: Sequence[MemoryReference]) -> list[float]:
        """Ages as a part of the largest age; in a short video that is its length (as in SAM 2)."""
        pointers = self.card.pointers
        if query.video_length is not None:
            pointers = min(query.video_length, pointers)
        return [cast(int, reference.age) / max(1, pointers - 1) for reference in references]

    def _make_points(self, batch: QueryBatch) -> tuple[Tensor, Tensor]:
        """(B, P, 2) points (x, y) in 0..1 and (B, P) labels.

        Points of a region are given on the whole grid.
        """
        whole = batch.embedding.window
        inputs = batch.windows if self.regions is None else [whole] * len(batch.windows)
        return batch.make_points(inputs, self.device)

    def _make_dense_prompt(
        self, batch: QueryBatch, points: Tensor, labels: Tensor
    ) -> Tensor | None:
        """(B, h, w) logits: the propagated, previous or drawn masks, or None."""
        configuration, first = self.network.configuration, batch.queries[0]
        if configuration.propagated_mask and first.memory_references and first.logits is None:
            return self._make_propagated_prompt(batch)
        previous = None
        if first.logits is not None and configuration.previous_logits:
            previous = self._make_previous_prompt(batch)
        if not configuration.dense_prompts or not points.shape[1]:
            return previous
        selection = self._select_tokens(batch)
        if selection:
            points = to_selection_coordinates(points, selection)
        return prompt_tokens.draw_prompts(points, labels, batch.mask_side, previous)

    def _make_previous_prompt(self, batch: QueryBatch) -> Tensor:
        """(B, h, w) previous logits on this frame, clamped as SAM 2 does."""
        whole = batch.embedding.window
        planes = self._resample_planes(
            [to_tensor(cast(np.ndarray, query.logits), self.device) for query in batch.queries],
            [query.window or whole for query in batch.queries],
            batch.windows,
            whole,
        )
        logits = resize_planes(planes, batch.mask_side, antialias=True)
        return logits.clamp(-MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT)

    def _make_propagated_prompt(self, batch: QueryBatch) -> Tensor:
        """(B, h, w) logits of the nearest recent frame on which each object is present."""
        planes, sources = [], []
        for query, window in batch.pairs:
            payload = self._find_recent_payload(query, batch.embedding.frame)
            empty = prompt_tokens.make_empty_logits(batch.mask_side)
            mask = empty if payload is None else cast(Tensor, payload.mask)
            planes.append(mask.to(self.device).float())
            sources.append(window if payload is None else payload.window)
        return prompt_tokens.clamp_logits(
            self._resample_planes(planes, sources, batch.windows, batch.embedding.window)
        )

    def _find_recent_payload(self, query: Query, frame: int) -> MemoryPayload | None:
        """The nearest memory of a present object within the recent frames that the model sees."""
        reach = max(1, self.card.memory_slots - 1)
        recent = (
            memory
            for memory in query.memories
            if memory.present and abs(memory.frame - frame) <= reach
        )
        last = find_nearest_memory(recent, frame)
        return None if last is None else cast(MemoryPayload, last.features)

    def _map_batches(
        self,
        kinds: Sequence[Hashable],
        tokens: Sequence[int],
        work: Callable[[list[int]], Iterable[_R]],
    ) -> list[_R]:
        """Results of `work` for all items, in order.

        Parameters
        ----------
        kinds
            Only items of one kind share a batch.
        tokens
            Number of tokens of each item.
        work
            From the indices of a batch to its results.
        """
        batch_sizes = [self._compute_batch_size(each) for each in tokens]
        threads = self._count_threads(batch_sizes)
        parts = group_by_kind(kinds, batch_sizes, threads)

        @torch.inference_mode()
        def compute(part: list[int]) -> list[_R]:
            with use_precision(self.card.precision, self.device):
                return list(work(part))

        batches = map_threads(compute, parts) if threads > 1 else map(compute, parts)
        indices = (index for part in parts for index in part)
        results = dict(zip(indices, (result for batch in batches for result in batch), strict=True))
        return [results[index] for index in range(len(kinds))]

    def _count_threads(self, batch_sizes: Sequence[int]) -> int:
        """Threads that compute one batch each; 1 if all cores share each operation."""
        threads = torch.get_num_threads() if self.device == "cpu" else 1
        enough = min(batch_sizes, default=1) > 1 and len(batch_sizes) >= 2 * threads
        return threads if enough else 1

    def _compute_batch_size(self, tokens: int) -> int:
        """Frames or tracks of so many tokens each that fit into a batch."""
        limit = _BATCH_TOKENS.get(self.device.split(":")[0], _ACCELERATOR_BATCH_TOKENS)
        return max(1, limit // tokens)
