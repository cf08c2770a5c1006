"""Sam2: the network as a VideoModel.

Here frames, windows and prompts become tensors, and tensors become Segments.

The rules of SAM 2 that concern one question are kept here; which questions are asked, and what is
recalled, is the engine's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import PromptError
from napari_sam2.core.inference_options import Attention
from napari_sam2.core.prompt import FramePrompts
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
from napari_sam2.models.cropping import Corners, find_logit_corners
from napari_sam2.models.local_attention import (
    LocalRegions,
    TokenRegion,
    contains_points,
    resample_region,
)
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

_BATCH_TOKENS = {
    "cpu": 4_096
}  # of frame and memory, over the tracks of one batch: on a CPU larger ones are no faster
_ACCELERATOR_BATCH_TOKENS = 262_144  # on an accelerator: about 4 GB of keys, values and activations
_R = TypeVar("_R")


class _BatchKey(NamedTuple):
    """What must agree for queries to share a batch, so that nothing has to be padded."""

    has_mask: bool
    memories: int
    pointers: int
    points: int
    has_previous_logits: bool


class QueryBatch(NamedTuple):
    """Queries about a frame that share a batch, each with the window it is looked at through."""

    embedding: Embedding
    queries: list[Query]
    windows: list[Window]

    @property
    def size(self) -> int:
        """Side of the network's input, or of the part of it that is looked at."""
        return self.windows[0].size

    @property
    def pairs(self) -> list[tuple[Query, Window]]:
        """Each query with its window."""
        return list(zip(self.queries, self.windows, strict=True))


class Sam2Predictor:
    """SAM 2, SAM 2.1 or a relative of it. See `napari_sam2.core.protocols.VideoModel`.

    `regions` say by what part of the grid tracks are looked at that are carried along, None that it
    is the whole of it. First prompts, and tracks that were lost or are too large, are looked at by
    the whole grid always; with the attention "auto" those too whose Region does not show the same:
    see `models.sight`.
    """

    def __init__(self, network: Sam2Network, card: ModelCard, device: str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.card = card
        self.device = device
        self.regions: LocalRegions | None = (
            None if card.attention == "global" or card.object_crops else LocalRegions()
        )

    def with_attention(self, attention: Attention) -> Self:
        """The same network by another attention."""
        return type(self)(self.network, replace(self.card, attention=attention), self.device)

    @torch.inference_mode()
    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Image features of several frames at once: three tensors each, at strides 4, 8 and 16."""
        found: dict[int, Embedding] = {}
        sizes = [window.size for _, window in views]
        for part in group_by_kind(
            sizes, [self._compute_batch_size((size // STRIDE) ** 2) for size in sizes]
        ):
            planes = np.stack(
                [window.crop(frame.pixels) for frame, window in (views[index] for index in part)]
            )
            with use_precision(self.card.precision, self.device):
                levels = self.network.embed(torch.from_numpy(planes)[:, None].to(self.device))
            for row, index in enumerate(part):
                own = tuple(
                    level[row : row + 1].clone() if len(part) > 1 else level for level in levels
                )
                found[index] = Embedding(views[index][0].index, views[index][1], own)
        return [found[index] for index in range(len(views))]

    @torch.inference_mode()
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One Segment for each Query, in order; those alike go through the network together.

        Raises PromptError for a Query with neither a prompt nor recalls.
        """
        windows = [self._choose_window(embedding, query) for query in queries]
        ask = partial(self._segment_windows, embedding)
        return (
            select_attention(ask, queries, windows, embedding, cast(LocalRegions, self.regions))
            if self._selects_attention
            else ask(queries, windows)
        )

    @torch.inference_mode()
    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """Memory features of each Segment: an (N, 64) tensor in bfloat16, as SAM 2 keeps them, and where it was looked at."""
        whole = embedding.window
        corners = [
            find_logit_corners(segment.logits, segment.window) if segment.present else None
            for segment in segments
        ]
        windows = [
            self._choose_memory_window(whole, *each) for each in zip(segments, corners, strict=True)
        ]

        def remembered(part: list[int]) -> list[tuple[Any, ...]]:
            alike, places = [segments[index] for index in part], [windows[index] for index in part]
            shown = [
                torch.from_numpy(np.array(segment.logits, dtype=np.float32)).to(self.device)
                for segment in alike
            ]
            small = self._resample_planes(
                shown, [segment.window for segment in alike], places, whole
            )
            memories = self._encode_memories(
                self._get_features(embedding, places),
                alike,
                _resize_planes(small, places[0].size, antialias=False),
            )
            kept = (
                prompt_tokens.clamp_logits(small).half()
                if self.network.configuration.propagated_mask
                else [None] * len(part)
            )
            made = zip(
                memories, places, [corners[index] for index in part], kept, alike, strict=True
            )
            return [
                MemoryPayload(memory.clone(), place, extents, mask, segment.window)
                for memory, place, extents, mask, segment in made
            ]

        sizes = [window.size for window in windows]
        return self._map_batches(sizes, [(size // STRIDE) ** 2 for size in sizes], remembered)

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """float32 arrays: (1, C, h, w) for each of the three levels."""
        return tuple(level.float().cpu().numpy() for level in features)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """Features of arrays, in float32 on this device, laid out one row after another."""
        return tuple(
            torch.from_numpy(np.array(array, dtype=np.float32, order="C")).to(self.device)
            for array in arrays
        )

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """Bytes these features take."""
        return sum(int(each.nbytes) for each in features if hasattr(each, "nbytes"))

    @property
    def _selects_attention(self) -> bool:
        """Whether what Regions show is compared with what the whole grid does."""
        return self.regions is not None and self.card.attention == "auto"

    def _segment_windows(
        self, embedding: Embedding, queries: Sequence[Query], windows: Sequence[Window]
    ) -> list[Segment]:
        """Answers to queries, each looked at through its window; all windows are as large to the network."""
        whole = embedding.window
        kinds = [
            (_make_batch_key(query), window.size, count_memory_tokens(query, window, whole))
            for query, window in zip(queries, windows, strict=True)
        ]

        def answered(part: list[int]) -> Iterator[Segment]:
            looks = QueryBatch(
                embedding, [queries[index] for index in part], [windows[index] for index in part]
            )
            features = self._get_features(embedding, looks.windows)
            answer = (
                self._use_mask_as_output(features, looks)
                if kinds[part[0]][0].has_mask
                else self._predict_masks(features, looks)
            )
            return make_segments(embedding.frame, looks.windows, looks.queries, answer)

        return self._map_batches(
            kinds, [(size // STRIDE) ** 2 + shown for _, size, shown in kinds], answered
        )

    def _choose_window(self, embedding: Embedding, query: Query) -> Window:
        """What a query is looked at by: a Region where one is enough, else all that was encoded."""
        whole, said = embedding.window, query.prompts
        if self.regions is None or said.mask is not None or said.box is not None:
            return whole
        if said.points:
            seen = query.window if query.logits is not None else None
            return seen if seen and contains_points(seen, said.points) else whole
        last = find_nearest_memory(query.memories, embedding.frame)
        if (
            last is None
            or not last.present
            or last.features is None
            or (self._selects_attention and is_global(query, embedding.frame, whole))
        ):
            return whole
        corners = cast(MemoryPayload, last.features).corners
        return self.regions.make_region(corners, whole) if corners else whole

    def _choose_memory_window(
        self, whole: Window, segment: Segment, corners: Corners | None
    ) -> Window:
        """What is remembered of the frame along with a Segment."""
        if (
            self.regions is None
            or corners is None
            or (self._selects_attention and segment.window == whole and not segment.local_memory)
        ):
            return segment.window
        return self.regions.make_region(corners, whole)

    def _encode_memories(
        self, features: Features, segments: Sequence[Segment], logits: Tensor
    ) -> Tensor:
        """(B, N, 64) of Segments with (B, S, S) logits."""
        hard = torch.tensor([segment.conditioning for segment in segments], device=self.device)[
            :, None, None
        ]
        absent = torch.tensor([not segment.present for segment in segments], device=self.device)
        masks = torch.where(hard, (logits > 0).float(), logits.sigmoid())
        return self.network.encode_memory(features[2], masks, absent).bfloat16()

    def _get_features(self, embedding: Embedding, windows: Sequence[Window]) -> Features:
        """Features of the frame in these windows: a batch of one where all are the same."""
        whole, levels = embedding.window, cast(Features, embedding.features)
        if windows[0] == whole:
            return levels
        cells, grid = [TokenRegion.of(window, whole) for window in windows], whole.size // STRIDE
        fine, middle, coarse = (
            torch.cat([each.cut_features(level, grid) for each in cells]) for level in levels
        )
        return fine, middle, coarse

    def _select_tokens(self, batch: QueryBatch) -> TokenSelection | None:
        """The cells that queries are looked at by, where these are not all there are."""
        whole = batch.embedding.window
        if self.regions is None or batch.windows[0] == whole:
            return None
        grid = whole.size // STRIDE
        places = torch.stack(
            [TokenRegion.of(window, whole).token_indices(grid) for window in batch.windows]
        )
        return TokenSelection(places.to(self.device), grid)

    def _resample_planes(
        self,
        planes: Sequence[Tensor],
        sources: Sequence[Window],
        targets: Sequence[Window],
        whole: Window,
    ) -> Tensor:
        """(B, h, w) of (h, w) logits over their sources, each over its target."""
        pairs = zip(planes, sources, targets, strict=True)
        return torch.stack(
            [
                resample_region(plane, source, target, whole, -MASK_PROMPT_LOGIT)
                for plane, source, target in pairs
            ]
        )

    def _predict_masks(self, features: Features, batch: QueryBatch) -> NetworkOutput:
        points, labels = self._make_points(batch)
        decoded = self._decode_masks(features, batch, points, labels)
        several = (
            points.shape[1] <= MULTIMASK_MAX_POINTS or not self.network.configuration.single_mask
        )
        return self._make_output(
            decoded,
            select_best_mask(decoded) if several else select_single_mask(decoded),
            multimask=several,
        )

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
        self, output: DecoderOutput, selected: SelectedMask, *, multimask: bool
    ) -> NetworkOutput:
        trained = self.network.configuration.presence_head
        scores = output.scores if trained else selected.logits.amax(dim=(1, 2))
        logits = torch.where(scores[:, None, None] > 0, selected.logits, ABSENT_LOGIT)
        return NetworkOutput(
            logits,
            selected.ious,
            scores,
            self.network.project_pointers(selected.tokens, scores),
            output if multimask else None,
        )

    def _use_mask_as_output(self, features: Features, batch: QueryBatch) -> NetworkOutput:
        """A mask is its own answer; the decoder, shown it, gives the pointer (Meta's _use_mask_as_output)."""
        masks = self._to_tensor(
            [
                _resample_mask(query.prompts, window)
                for query, window in zip(batch.queries, batch.windows, strict=True)
            ]
        )
        low, high = -MASK_PROMPT_LOGIT, MASK_PROMPT_LOGIT
        logits = _resize_planes(masks * (high - low) + low, batch.size // 4, antialias=True)
        points, labels = self._make_points(batch)
        if self.network.configuration.dense_prompts:
            image, dense = (
                self.network.add_no_memory_embedding(features[2]),
                prompt_tokens.clamp_logits(logits),
            )
        else:
            image, dense = features[2], self.network.mask_downsample(masks[:, None])[:, 0]
        decoded = self.network.decode(features, image, points, labels, dense)
        chosen = (
            select_single_mask(decoded)
            if self.network.configuration.single_mask
            else select_best_mask(decoded)
        )
        ones = torch.ones(len(masks), device=self.device)
        return NetworkOutput(
            logits, ones, high * ones, self._make_output(decoded, chosen, multimask=False).pointers
        )

    def _condition_features(self, coarse: Tensor, batch: QueryBatch) -> Tensor:
        queries = batch.queries
        if not queries[0].memory_references:
            return self.network.add_no_memory_embedding(coarse)
        shown = [
            [recall for recall in query.memory_references if recall.slot is not None]
            for query in queries
        ]
        pointed = [
            [recall for recall in query.memory_references if recall.age is not None]
            for query in queries
        ]
        count, hidden = len(queries), self.network.configuration.hidden
        pointers = [[recall.memory.pointer for recall in recalls] for recalls in pointed]
        tokens, slots, cells = self._gather_memories(batch, shown)
        recalled = MemoryInputs(
            features=tokens.to(coarse),
            slots=slots,
            pointers=self._to_tensor(pointers).view(count, -1, hidden),
            ages=self._to_tensor(
                [
                    self._normalise_ages(query, recalls)
                    for query, recalls in zip(queries, pointed, strict=True)
                ]
            ).view(count, -1),
            token_indices=cells,
        )
        return self.network.condition_on_memory(coarse, recalled, self._select_tokens(batch))

    def _gather_memories(
        self, batch: QueryBatch, references: Sequence[Sequence[MemoryReference]]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the network is shown: tokens (B, n, N, 64), slots (B, n), and cells (B, n, N) where they are not the whole grid.

        Of a memory of the whole grid, a Region is shown its own part; any other keeps its place. As
        they may be of several sizes, each token counts as a memory of its own then.
        """
        count, whole = len(references), batch.embedding.window
        slots = torch.tensor(
            [[recall.slot for recall in recalls] for recalls in references],
            dtype=torch.long,
            device=self.device,
        )
        kept = [
            [get_payload(recall, query) for recall in recalls]
            for query, recalls in zip(batch.queries, references, strict=True)
        ]
        grid = whole.size // STRIDE
        if (
            all(payload.window == whole for row in kept for payload in row)
            and batch.windows[0] == whole
        ):
            return (
                self._stack_tokens([payload.tokens for row in kept for payload in row]).view(
                    count, -1, grid**2, MEMORY_CHANNELS
                ),
                slots,
                None,
            )
        pieces = [
            [cut_tokens(payload, window, whole) for payload in row]
            for row, window in zip(kept, batch.windows, strict=True)
        ]
        tokens = torch.stack([torch.cat([piece[0] for piece in row]) for row in pieces])
        cells = torch.stack([torch.cat([piece[1] for piece in row]) for row in pieces])
        lengths = torch.tensor(
            [[len(piece[1]) for piece in row] for row in pieces], device=self.device
        )
        each = slots.flatten().repeat_interleave(lengths.flatten()).view(count, -1)
        return tokens[:, :, None], each, cells.to(self.device)[..., None]

    def _stack_tokens(self, tokens: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(tokens)) if tokens else torch.zeros(0, device=self.device)

    def _normalise_ages(self, query: Query, references: Sequence[MemoryReference]) -> list[float]:
        """Ages in parts of the oldest pointer's; in a short video that is the video's own length, as SAM 2 has it."""
        pointers = (
            self.card.pointers
            if query.video_length is None
            else min(query.video_length, self.card.pointers)
        )
        return [cast(int, recall.age) / max(1, pointers - 1) for recall in references]

    def _make_points(self, batch: QueryBatch) -> tuple[Tensor, Tensor]:
        """(B, P, 2) points (x, y) in 0..1 and (B, P) labels; the corners of a box come first."""
        places, labels = zip(
            *(_collect_points(query.prompts) for query in batch.queries), strict=True
        )
        inputs = batch.windows if self.regions is None else [batch.embedding.window] * len(places)
        yx = [
            window.to_model(np.array(each, dtype=np.float64).reshape(-1, 2))
            for each, window in zip(places, inputs, strict=True)
        ]
        xy = ((np.stack(yx)[..., ::-1] + 0.5) / inputs[0].size).astype(np.float32)
        kinds = torch.tensor(labels, dtype=torch.long, device=self.device)
        return torch.from_numpy(xy.copy()).to(self.device), kinds.view(len(batch.queries), -1)

    def _make_dense_prompt(
        self, batch: QueryBatch, points: Tensor, labels: Tensor
    ) -> Tensor | None:
        configuration, first = self.network.configuration, batch.queries[0]
        if configuration.propagated_mask and first.memory_references and first.logits is None:
            return self._make_propagated_prompt(batch)
        before = None
        if first.logits is not None and configuration.previous_logits:
            whole = batch.embedding.window
            given = [
                torch.from_numpy(np.array(query.logits, dtype=np.float32)).to(self.device)
                for query in batch.queries
            ]
            planes = self._resample_planes(
                given, [query.window or whole for query in batch.queries], batch.windows, whole
            )
            before = _resize_planes(planes, batch.size // 4, antialias=True).clamp(
                -MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT
            )
        if not configuration.dense_prompts:
            return before
        if not points.shape[1]:
            return before
        seen = self._select_tokens(batch)
        return prompt_tokens.draw_prompts(
            _to_selection_coordinates(points, seen) if seen else points,
            labels,
            batch.size // 4,
            before,
        )

    def _make_propagated_prompt(self, batch: QueryBatch) -> Tensor:
        """(B, h, w) logits of the last frame each track was on, if it is one of those just walked."""
        frame, side, reach = (
            batch.embedding.frame,
            batch.size // 4,
            max(1, self.card.memory_slots - 1),
        )
        planes, sources = [], []
        for query, window in batch.pairs:
            near = (
                memory
                for memory in query.memories
                if memory.present and abs(memory.frame - frame) <= reach
            )
            last = find_nearest_memory(near, frame)
            planes.append(
                prompt_tokens.make_empty_logits(side)
                if last is None
                else cast(MemoryPayload, last.features).mask
            )
            sources.append(window if last is None else cast(MemoryPayload, last.features).window)
        shown = [cast(Tensor, plane).to(self.device).float() for plane in planes]
        return prompt_tokens.clamp_logits(
            self._resample_planes(shown, sources, batch.windows, batch.embedding.window)
        )

    def _to_tensor(self, arrays: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.array(arrays, dtype=np.float32)).to(self.device)

    def _map_batches(
        self,
        kinds: Sequence[Hashable],
        tokens: Sequence[int],
        work: Callable[[list[int]], Iterable[_R]],
    ) -> list[_R]:
        """What `work` makes of things, told by their places: those of one kind together, as many as there is room for."""
        rooms = [self._compute_batch_size(each) for each in tokens]
        cores = self._count_threads(rooms)
        parts = group_by_kind(kinds, rooms, cores)

        @torch.inference_mode()
        def computed(part: list[int]) -> list[_R]:
            with use_precision(self.card.precision, self.device):
                return list(work(part))

        made = map_threads(computed, parts) if cores > 1 else map(computed, parts)
        found = dict(
            zip(
                (index for part in parts for index in part),
                (each for part in made for each in part),
                strict=True,
            )
        )
        return [found[index] for index in range(len(kinds))]

    def _count_threads(self, batch_sizes: Sequence[int]) -> int:
        """Those that compute a part each; 1 where all cores, or an accelerator, compute one part after another."""
        cores = torch.get_num_threads() if self.device == "cpu" else 1
        return cores if min(batch_sizes, default=1) > 1 and len(batch_sizes) >= 2 * cores else 1

    def _compute_batch_size(self, tokens: int) -> int:
        """Frames or tracks of so many tokens each that go through the network together."""
        return max(
            1, _BATCH_TOKENS.get(self.device.split(":")[0], _ACCELERATOR_BATCH_TOKENS) // tokens
        )


def _make_batch_key(query: Query) -> _BatchKey:
    said = query.prompts
    if not query.memory_references and said.mask is None and said.box is None and not said.points:
        raise PromptError(
            "nothing was said and nothing is remembered: give a prompt or recalls",
            track=query.track,
        )
    memories = sum(recall.slot is not None for recall in query.memory_references)
    pointers = sum(recall.age is not None for recall in query.memory_references)
    points = len(said.points) + (2 if said.box else 0)
    return _BatchKey(said.mask is not None, memories, pointers, points, query.logits is not None)


def _collect_points(frame_prompts: FramePrompts) -> tuple[list[tuple[float, float]], list[int]]:
    """Points (y, x) in data pixels and their labels."""
    box = [frame_prompts.box[:2], frame_prompts.box[2:]] if frame_prompts.box else []
    labels = [prompt_tokens.TOP_LEFT, prompt_tokens.BOTTOM_RIGHT] if frame_prompts.box else []
    return [*box, *frame_prompts.points], [
        *labels,
        *(
            prompt_tokens.POSITIVE if positive else prompt_tokens.NEGATIVE
            for positive in frame_prompts.positive
        ),
    ]


def _resample_mask(frame_prompts: FramePrompts, window: Window) -> np.ndarray:
    """(S, S) of 0 and 1: the mask as the network's input sees it.

    One too thin for half a pixel keeps its fullest pixels.
    """
    cover = window.crop(np.asarray(frame_prompts.mask, dtype=np.float32))
    return (cover >= min(0.5, float(cover.max()) or 0.5)).astype(np.float32)


def _to_selection_coordinates(points: Tensor, selection: TokenSelection) -> Tensor:
    """(B, P, 2) points (x, y) in 0..1 of the grid, in 0..1 of what is seen of it."""
    side = math.isqrt(selection.indices.shape[1])
    first = selection.indices[:, 0]
    corner = torch.stack([first % selection.grid, first // selection.grid], dim=1)[:, None]
    return (points * selection.grid - corner) / side


def _resize_planes(planes: Tensor, side: int, *, antialias: bool) -> Tensor:
    """(B, h, w) to (B, side, side), bilinear; antialiased where it may shrink."""
    if planes.shape[-1] == side and planes.shape[-2] == side:
        return planes
    return F.interpolate(
        planes[:, None],
        size=(side, side),
        mode="bilinear",
        align_corners=False,
        antialias=antialias,
    )[:, 0]
