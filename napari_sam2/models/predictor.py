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

from napari_sam2.core.card import Attention, ModelCard
from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import Said
from napari_sam2.core.result import ABSENT_LOGIT, Embedding, Query, Recall, Segment
from napari_sam2.core.video import Frame
from napari_sam2.core.window import Window
from napari_sam2.models.answers import Answer, segments_of
from napari_sam2.models.attention_selection import least, stays_whole
from napari_sam2.models.cropping import Corners, extent
from napari_sam2.models.local_attention import Cells, Regions, brought, holds
from napari_sam2.models.memory_payload import Payload, nearest, payload_of, piece, tokens_shown
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.configs import MEMORY
from napari_sam2.models.network.mask_decoder import Chosen, Decoded, best, single
from napari_sam2.models.network.sam2_network import STRIDE, Features, Network, Recalled, Seen
from napari_sam2.models.parallel import alike, side_by_side
from napari_sam2.models.precision import computing

# previous logits are clamped to this before they are a prompt (Meta's demo and video predictor)
_PREVIOUS_LOGIT = 32.0
_MULTIMASK_POINTS = (
    1  # up to as many points (a box is two) three masks are offered (Meta's multimask_max_pt_num)
)
_GIVEN_LOGITS = (
    -10.0,
    10.0,
)  # of a mask given by a person, outside and inside (Meta's _use_mask_as_output)
_TOKENS_AT_ONCE = {
    "cpu": 4_096
}  # of frame and memory, over the tracks of one batch: on a CPU larger ones are no faster
_MANY_TOKENS = 262_144  # on an accelerator: about 4 GB of keys, values and activations
_R = TypeVar("_R")


class _Shape(NamedTuple):
    """What must agree for queries to share a batch, so that nothing has to be padded."""

    given: bool
    memories: int
    pointers: int
    points: int
    corrected: bool


class Looks(NamedTuple):
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


class Sam2:
    """SAM 2, SAM 2.1 or a relative of it. See `napari_sam2.core.protocols.VideoModel`.

    `regions` say by what part of the grid tracks are looked at that are carried along, None that it
    is the whole of it. First prompts, and tracks that were lost or are too large, are looked at by
    the whole grid always; with the attention "auto" those too whose Region does not show the same:
    see `models.sight`.
    """

    def __init__(self, network: Network, card: ModelCard, device: str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.card = card
        self.device = device
        self.regions: Regions | None = (
            None if card.attention == "whole" or card.follows else Regions()
        )

    def by(self, attention: Attention) -> Self:
        """The same network by another attention."""
        return type(self)(self.network, replace(self.card, attention=attention), self.device)

    @torch.inference_mode()
    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Image features of several frames at once: three tensors each, at strides 4, 8 and 16."""
        found: dict[int, Embedding] = {}
        sizes = [window.size for _, window in views]
        for part in alike(sizes, [self._room((size // STRIDE) ** 2) for size in sizes]):
            planes = np.stack(
                [window.crop(frame.pixels) for frame, window in (views[index] for index in part)]
            )
            with computing(self.card.precision, self.device):
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
        windows = [self._window(embedding, query) for query in queries]
        ask = partial(self._segments, embedding)
        return (
            least(ask, queries, windows, embedding, cast(Regions, self.regions))
            if self._compares
            else ask(queries, windows)
        )

    @torch.inference_mode()
    def remember(self, embedding: Embedding, segments: Sequence[Segment]) -> list[tuple[Any, ...]]:
        """Memory features of each Segment: an (N, 64) tensor in bfloat16, as SAM 2 keeps them, and where it was looked at."""
        whole = embedding.window
        corners = [
            extent(segment.logits, segment.window) if segment.present else None
            for segment in segments
        ]
        windows = [self._kept(whole, *each) for each in zip(segments, corners, strict=True)]

        def remembered(part: list[int]) -> list[tuple[Any, ...]]:
            alike, places = [segments[index] for index in part], [windows[index] for index in part]
            shown = [
                torch.from_numpy(np.array(segment.logits, dtype=np.float32)).to(self.device)
                for segment in alike
            ]
            small = self._brought(shown, [segment.window for segment in alike], places, whole)
            memories = self._memories(
                self._features(embedding, places),
                alike,
                _resized(small, places[0].size, shrinking=False),
            )
            kept = (
                prompt_tokens.filled(small).half()
                if self.network.configuration.carried
                else [None] * len(part)
            )
            made = zip(
                memories, places, [corners[index] for index in part], kept, alike, strict=True
            )
            return [
                Payload(memory.clone(), place, extents, mask, segment.window)
                for memory, place, extents, mask, segment in made
            ]

        sizes = [window.size for window in windows]
        return self._each(sizes, [(size // STRIDE) ** 2 for size in sizes], remembered)

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
    def _compares(self) -> bool:
        """Whether what Regions show is compared with what the whole grid does."""
        return self.regions is not None and self.card.attention == "auto"

    def _segments(
        self, embedding: Embedding, queries: Sequence[Query], windows: Sequence[Window]
    ) -> list[Segment]:
        """Answers to queries, each looked at through its window; all windows are as large to the network."""
        whole = embedding.window
        kinds = [
            (_shape(query), window.size, tokens_shown(query, window, whole))
            for query, window in zip(queries, windows, strict=True)
        ]

        def answered(part: list[int]) -> Iterator[Segment]:
            looks = Looks(
                embedding, [queries[index] for index in part], [windows[index] for index in part]
            )
            features = self._features(embedding, looks.windows)
            answer = (
                self._given(features, looks)
                if kinds[part[0]][0].given
                else self._asked(features, looks)
            )
            return segments_of(embedding.frame, looks.windows, looks.queries, answer)

        return self._each(
            kinds, [(size // STRIDE) ** 2 + shown for _, size, shown in kinds], answered
        )

    def _window(self, embedding: Embedding, query: Query) -> Window:
        """What a query is looked at by: a Region where one is enough, else all that was encoded."""
        whole, said = embedding.window, query.said
        if self.regions is None or said.mask is not None or said.box is not None:
            return whole
        if said.points:
            seen = query.window if query.logits is not None else None
            return seen if seen and holds(seen, said.points) else whole
        last = nearest(query.memories, embedding.frame)
        if (
            last is None
            or not last.present
            or last.features is None
            or (self._compares and stays_whole(query, embedding.frame, whole))
        ):
            return whole
        corners = cast(Payload, last.features).corners
        return self.regions.around(corners, whole) if corners else whole

    def _kept(self, whole: Window, segment: Segment, corners: Corners | None) -> Window:
        """What is remembered of the frame along with a Segment."""
        if (
            self.regions is None
            or corners is None
            or (self._compares and segment.window == whole and not segment.narrow)
        ):
            return segment.window
        return self.regions.around(corners, whole)

    def _memories(self, features: Features, segments: Sequence[Segment], logits: Tensor) -> Tensor:
        """(B, N, 64) of Segments with (B, S, S) logits."""
        hard = torch.tensor([segment.conditioning for segment in segments], device=self.device)[
            :, None, None
        ]
        absent = torch.tensor([not segment.present for segment in segments], device=self.device)
        masks = torch.where(hard, (logits > 0).float(), logits.sigmoid())
        return self.network.remember(features[2], masks, absent).bfloat16()

    def _features(self, embedding: Embedding, windows: Sequence[Window]) -> Features:
        """Features of the frame in these windows: a batch of one where all are the same."""
        whole, levels = embedding.window, cast(Features, embedding.features)
        if windows[0] == whole:
            return levels
        cells, grid = [Cells.of(window, whole) for window in windows], whole.size // STRIDE
        fine, middle, coarse = (
            torch.cat([each.cut(level, grid) for each in cells]) for level in levels
        )
        return fine, middle, coarse

    def _seen(self, looks: Looks) -> Seen | None:
        """The cells that queries are looked at by, where these are not all there are."""
        whole = looks.embedding.window
        if self.regions is None or looks.windows[0] == whole:
            return None
        grid = whole.size // STRIDE
        places = torch.stack([Cells.of(window, whole).places(grid) for window in looks.windows])
        return Seen(places.to(self.device), grid)

    def _brought(
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
                brought(plane, source, target, whole, _GIVEN_LOGITS[0])
                for plane, source, target in pairs
            ]
        )

    def _asked(self, features: Features, looks: Looks) -> Answer:
        points, labels = self._points(looks)
        decoded = self._decoded(features, looks, points, labels)
        several = points.shape[1] <= _MULTIMASK_POINTS or not self.network.configuration.single_mask
        return self._chosen(decoded, best(decoded) if several else single(decoded), several=several)

    def _decoded(self, features: Features, looks: Looks, points: Tensor, labels: Tensor) -> Decoded:
        image = self._conditioned(features[2], looks)
        return self.network.decode(
            features, image, points, labels, self._dense(looks, points, labels), self._seen(looks)
        )

    def _chosen(self, decoded: Decoded, chosen: Chosen, *, several: bool) -> Answer:
        trained = self.network.configuration.presence_head
        scores = decoded.scores if trained else chosen.logits.amax(dim=(1, 2))
        logits = torch.where(scores[:, None, None] > 0, chosen.logits, ABSENT_LOGIT)
        return Answer(
            logits,
            chosen.ious,
            scores,
            self.network.pointers(chosen.tokens, scores),
            decoded if several else None,
        )

    def _given(self, features: Features, looks: Looks) -> Answer:
        """A mask is its own answer; the decoder, shown it, gives the pointer (Meta's _use_mask_as_output)."""
        masks = self._stacked(
            [
                _fitted(query.said, window)
                for query, window in zip(looks.queries, looks.windows, strict=True)
            ]
        )
        low, high = _GIVEN_LOGITS
        logits = _resized(masks * (high - low) + low, looks.size // 4, shrinking=True)
        points, labels = self._points(looks)
        if self.network.configuration.dense_prompts:
            image, dense = self.network.unconditioned(features[2]), prompt_tokens.filled(logits)
        else:
            image, dense = features[2], self.network.mask_downsample(masks[:, None])[:, 0]
        decoded = self.network.decode(features, image, points, labels, dense)
        chosen = single(decoded) if self.network.configuration.single_mask else best(decoded)
        ones = torch.ones(len(masks), device=self.device)
        return Answer(
            logits, ones, high * ones, self._chosen(decoded, chosen, several=False).pointers
        )

    def _conditioned(self, coarse: Tensor, looks: Looks) -> Tensor:
        queries = looks.queries
        if not queries[0].recalls:
            return self.network.unconditioned(coarse)
        shown = [
            [recall for recall in query.recalls if recall.slot is not None] for query in queries
        ]
        pointed = [
            [recall for recall in query.recalls if recall.age is not None] for query in queries
        ]
        count, hidden = len(queries), self.network.configuration.hidden
        pointers = [[recall.memory.pointer for recall in recalls] for recalls in pointed]
        tokens, slots, cells = self._remembered(looks, shown)
        recalled = Recalled(
            features=tokens.to(coarse),
            slots=slots,
            pointers=self._stacked(pointers).view(count, -1, hidden),
            ages=self._stacked(
                [
                    self._ages(query, recalls)
                    for query, recalls in zip(queries, pointed, strict=True)
                ]
            ).view(count, -1),
            cells=cells,
        )
        return self.network.conditioned(coarse, recalled, self._seen(looks))

    def _remembered(
        self, looks: Looks, shown: Sequence[Sequence[Recall]]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the network is shown: tokens (B, n, N, 64), slots (B, n), and cells (B, n, N) where they are not the whole grid.

        Of a memory of the whole grid, a Region is shown its own part; any other keeps its place. As
        they may be of several sizes, each token counts as a memory of its own then.
        """
        count, whole = len(shown), looks.embedding.window
        slots = torch.tensor(
            [[recall.slot for recall in recalls] for recalls in shown],
            dtype=torch.long,
            device=self.device,
        )
        kept = [
            [payload_of(recall, query) for recall in recalls]
            for query, recalls in zip(looks.queries, shown, strict=True)
        ]
        grid = whole.size // STRIDE
        if (
            all(payload.window == whole for row in kept for payload in row)
            and looks.windows[0] == whole
        ):
            return (
                self._stack([payload.tokens for row in kept for payload in row]).view(
                    count, -1, grid**2, MEMORY
                ),
                slots,
                None,
            )
        pieces = [
            [piece(payload, window, whole) for payload in row]
            for row, window in zip(kept, looks.windows, strict=True)
        ]
        tokens = torch.stack([torch.cat([piece[0] for piece in row]) for row in pieces])
        cells = torch.stack([torch.cat([piece[1] for piece in row]) for row in pieces])
        lengths = torch.tensor(
            [[len(piece[1]) for piece in row] for row in pieces], device=self.device
        )
        each = slots.flatten().repeat_interleave(lengths.flatten()).view(count, -1)
        return tokens[:, :, None], each, cells.to(self.device)[..., None]

    def _stack(self, tokens: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(tokens)) if tokens else torch.zeros(0, device=self.device)

    def _ages(self, query: Query, recalls: Sequence[Recall]) -> list[float]:
        """Ages in parts of the oldest pointer's; in a short video that is the video's own length, as SAM 2 has it."""
        pointers = (
            self.card.pointers if query.length is None else min(query.length, self.card.pointers)
        )
        return [cast(int, recall.age) / max(1, pointers - 1) for recall in recalls]

    def _points(self, looks: Looks) -> tuple[Tensor, Tensor]:
        """(B, P, 2) points (x, y) in 0..1 and (B, P) labels; the corners of a box come first."""
        places, labels = zip(*(_told(query.said) for query in looks.queries), strict=True)
        inputs = looks.windows if self.regions is None else [looks.embedding.window] * len(places)
        yx = [
            window.to_model(np.array(each, dtype=np.float64).reshape(-1, 2))
            for each, window in zip(places, inputs, strict=True)
        ]
        xy = ((np.stack(yx)[..., ::-1] + 0.5) / inputs[0].size).astype(np.float32)
        kinds = torch.tensor(labels, dtype=torch.long, device=self.device)
        return torch.from_numpy(xy.copy()).to(self.device), kinds.view(len(looks.queries), -1)

    def _dense(self, looks: Looks, points: Tensor, labels: Tensor) -> Tensor | None:
        configuration, first = self.network.configuration, looks.queries[0]
        if configuration.carried and first.recalls and first.logits is None:
            return self._carried(looks)
        before = None
        if first.logits is not None and configuration.previous_logits:
            whole = looks.embedding.window
            given = [
                torch.from_numpy(np.array(query.logits, dtype=np.float32)).to(self.device)
                for query in looks.queries
            ]
            planes = self._brought(
                given, [query.window or whole for query in looks.queries], looks.windows, whole
            )
            before = _resized(planes, looks.size // 4, shrinking=True).clamp(
                -_PREVIOUS_LOGIT, _PREVIOUS_LOGIT
            )
        if not configuration.dense_prompts:
            return before
        if not points.shape[1]:
            return before
        seen = self._seen(looks)
        return prompt_tokens.drawn(
            _inside(points, seen) if seen else points, labels, looks.size // 4, before
        )

    def _carried(self, looks: Looks) -> Tensor:
        """(B, h, w) logits of the last frame each track was on, if it is one of those just walked."""
        frame, side, reach = (
            looks.embedding.frame,
            looks.size // 4,
            max(1, self.card.memory_slots - 1),
        )
        planes, sources = [], []
        for query, window in looks.pairs:
            near = (
                memory
                for memory in query.memories
                if memory.present and abs(memory.frame - frame) <= reach
            )
            last = nearest(near, frame)
            planes.append(
                prompt_tokens.nothing(side) if last is None else cast(Payload, last.features).mask
            )
            sources.append(window if last is None else cast(Payload, last.features).window)
        shown = [cast(Tensor, plane).to(self.device).float() for plane in planes]
        return prompt_tokens.filled(
            self._brought(shown, sources, looks.windows, looks.embedding.window)
        )

    def _stacked(self, arrays: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.array(arrays, dtype=np.float32)).to(self.device)

    def _each(
        self,
        kinds: Sequence[Hashable],
        tokens: Sequence[int],
        work: Callable[[list[int]], Iterable[_R]],
    ) -> list[_R]:
        """What `work` makes of things, told by their places: those of one kind together, as many as there is room for."""
        rooms = [self._room(each) for each in tokens]
        cores = self._cores(rooms)
        parts = alike(kinds, rooms, cores)

        @torch.inference_mode()
        def computed(part: list[int]) -> list[_R]:
            with computing(self.card.precision, self.device):
                return list(work(part))

        made = side_by_side(computed, parts) if cores > 1 else map(computed, parts)
        found = dict(
            zip(
                (index for part in parts for index in part),
                (each for part in made for each in part),
                strict=True,
            )
        )
        return [found[index] for index in range(len(kinds))]

    def _cores(self, rooms: Sequence[int]) -> int:
        """Those that compute a part each; 1 where all cores, or an accelerator, compute one part after another."""
        cores = torch.get_num_threads() if self.device == "cpu" else 1
        return cores if min(rooms, default=1) > 1 and len(rooms) >= 2 * cores else 1

    def _room(self, tokens: int) -> int:
        """Frames or tracks of so many tokens each that go through the network together."""
        return max(1, _TOKENS_AT_ONCE.get(self.device.split(":")[0], _MANY_TOKENS) // tokens)


def _shape(query: Query) -> _Shape:
    said = query.said
    if not query.recalls and said.mask is None and said.box is None and not said.points:
        raise PromptError(
            "nothing was said and nothing is remembered: give a prompt or recalls",
            track=query.track,
        )
    memories = sum(recall.slot is not None for recall in query.recalls)
    pointers = sum(recall.age is not None for recall in query.recalls)
    points = len(said.points) + (2 if said.box else 0)
    return _Shape(said.mask is not None, memories, pointers, points, query.logits is not None)


def _told(said: Said) -> tuple[list[tuple[float, float]], list[int]]:
    """Points (y, x) in data pixels and their labels."""
    box = [said.box[:2], said.box[2:]] if said.box else []
    labels = [prompt_tokens.TOP_LEFT, prompt_tokens.BOTTOM_RIGHT] if said.box else []
    return [*box, *said.points], [
        *labels,
        *(
            prompt_tokens.POSITIVE if positive else prompt_tokens.NEGATIVE
            for positive in said.positive
        ),
    ]


def _fitted(said: Said, window: Window) -> np.ndarray:
    """(S, S) of 0 and 1: the mask as the network's input sees it.

    One too thin for half a pixel keeps its fullest pixels.
    """
    cover = window.crop(np.asarray(said.mask, dtype=np.float32))
    return (cover >= min(0.5, float(cover.max()) or 0.5)).astype(np.float32)


def _inside(points: Tensor, seen: Seen) -> Tensor:
    """(B, P, 2) points (x, y) in 0..1 of the grid, in 0..1 of what is seen of it."""
    side = math.isqrt(seen.places.shape[1])
    first = seen.places[:, 0]
    corner = torch.stack([first % seen.grid, first // seen.grid], dim=1)[:, None]
    return (points * seen.grid - corner) / side


def _resized(planes: Tensor, side: int, *, shrinking: bool) -> Tensor:
    """(B, h, w) to (B, side, side), bilinear; antialiased where it may shrink."""
    if planes.shape[-1] == side and planes.shape[-2] == side:
        return planes
    return F.interpolate(
        planes[:, None],
        size=(side, side),
        mode="bilinear",
        align_corners=False,
        antialias=shrinking,
    )[:, 0]
