"""Sam2: the network as a VideoModel. Here frames, windows and prompts become tensors, and tensors become Segments.

The rules of SAM 2 that concern one question are kept here; which questions are asked, and what is recalled, is the
engine's business.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import Said
from napari_sam2.core.result import ABSENT_LOGIT, Embedding, Memory, Query, Recall, Segment
from napari_sam2.core.video import Frame
from napari_sam2.core.window import Window
from napari_sam2.models import prompts
from napari_sam2.models.answers import Answer, segments_of
from napari_sam2.models.configs import MEMORY
from napari_sam2.models.decoder import Chosen, Decoded, best, single
from napari_sam2.models.framing import moved
from napari_sam2.models.network import STRIDE, Features, Network, Recalled

_PREVIOUS_LOGIT = 32.0  # previous logits are clamped to this before they are a prompt (Meta's demo and video predictor)
_MULTIMASK_POINTS = 1  # up to as many points (a box is two) three masks are offered (Meta's multimask_max_pt_num)
_GIVEN_LOGITS = (-10.0, 10.0)  # of a mask given by a person, outside and inside (Meta's _use_mask_as_output)
_TOKENS_AT_ONCE = {"cpu": 4_096}  # of frame and memory, over the tracks of one batch: on a CPU larger ones are no faster
_MANY_TOKENS = 262_144  # on an accelerator: about 4 GB of keys, values and activations
_T = TypeVar("_T")


class _Shape(NamedTuple):
    """What must agree for queries to share a batch, so that nothing has to be padded."""

    given: bool
    memories: int
    pointers: int
    points: int
    corrected: bool


class Payload(NamedTuple):
    """What is kept of a Segment: (N, 64) memory, the window it is of, and the (h, w) mask for networks that carry it."""

    tokens: Tensor
    window: Window
    mask: Tensor | None


class Looks(NamedTuple):
    """Queries about a frame that share a batch, each with the window it is looked at through."""

    embedding: Embedding
    queries: list[Query]
    windows: list[Window]

    @property
    def size(self) -> int:
        """Side of the network's input."""
        return self.embedding.window.size

    @property
    def pairs(self) -> list[tuple[Query, Window]]:
        """Each query with its window."""
        return list(zip(self.queries, self.windows, strict=True))


class Sam2:
    """SAM 2, SAM 2.1 or a relative of it. See `napari_sam2.core.protocols.VideoModel`."""

    def __init__(self, network: Network, card: ModelCard, device: str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.card = card
        self.device = device

    @torch.inference_mode()
    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Image features of several frames at once: three tensors each, at strides 4, 8 and 16."""
        found: dict[int, Embedding] = {}
        for part in _parts(views, lambda view: view[1].size, lambda view: self._room((view[1].size // STRIDE) ** 2)):
            planes = np.stack([window.crop(frame.pixels) for frame, window in (views[index] for index in part)])
            levels = self.network.embed(torch.from_numpy(planes)[:, None].to(self.device))
            for row, index in enumerate(part):
                own = tuple(level[row : row + 1].clone() if len(part) > 1 else level for level in levels)
                found[index] = Embedding(views[index][0].index, views[index][1], own)
        return [found[index] for index in range(len(views))]

    @torch.inference_mode()
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One Segment for each Query, in order; those alike go through the network together.

        Raises PromptError for a Query with neither a prompt nor recalls.
        """
        return self._segments(embedding, queries, [embedding.window] * len(queries))

    @torch.inference_mode()
    def remember(self, embedding: Embedding, segments: Sequence[Segment]) -> list[tuple[Any, ...]]:
        """Memory features of each Segment: an (N, 64) tensor in bfloat16, as SAM 2 keeps them, and where it was looked at."""
        size = embedding.window.size
        found: dict[int, tuple[Any, ...]] = {}
        for part in _parts(segments, lambda segment: segment.logits.shape, lambda _: self._room((size // STRIDE) ** 2)):
            alike = [segments[index] for index in part]
            features = self._features(embedding, [segment.window for segment in alike])
            small = self._stacked([segment.logits for segment in alike])
            logits = _resized(small, size, shrinking=False)
            hard = torch.tensor([segment.conditioning for segment in alike], device=self.device)[:, None, None]
            absent = torch.tensor([not segment.present for segment in alike], device=self.device)
            masks = torch.where(hard, (logits > 0).float(), logits.sigmoid())
            memories = self.network.remember(features[2], masks, absent).bfloat16()
            kept = prompts.filled(small).half() if self.network.configuration.carried else [None] * len(part)
            rows = zip(part, memories, alike, kept, strict=True)
            found.update((index, Payload(memory.clone(), segment.window, mask)) for index, memory, segment, mask in rows)
        return [found[index] for index in range(len(segments))]

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """float32 arrays: (1, C, h, w) for each of the three levels."""
        return tuple(level.float().cpu().numpy() for level in features)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """Features of float32 or float16 arrays, in float32 on this device."""
        return tuple(torch.from_numpy(np.array(array, dtype=np.float32)).to(self.device) for array in arrays)

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """Bytes these features take."""
        return sum(int(each.nbytes) for each in features if hasattr(each, "nbytes"))

    def _segments(self, embedding: Embedding, queries: Sequence[Query], windows: Sequence[Window]) -> list[Segment]:
        """Answers to queries, each looked at through its window; all windows are as large to the network."""
        tokens = (embedding.window.size // STRIDE) ** 2
        found: dict[int, Segment] = {}
        for part in _parts(queries, _shape, lambda query: self._room(tokens * (1 + _shape(query).memories))):
            looks = Looks(embedding, [queries[index] for index in part], [windows[index] for index in part])
            features = self._features(embedding, looks.windows)
            answer = self._given(features, looks) if _shape(looks.queries[0]).given else self._asked(features, looks)
            found.update(zip(part, segments_of(embedding.frame, looks.windows, looks.queries, answer), strict=True))
        return [found[index] for index in range(len(queries))]

    def _features(self, embedding: Embedding, windows: Sequence[Window]) -> Features:
        """Features of the frame in these windows: a batch of one where all are the same."""
        return cast(Features, embedding.features)

    def _asked(self, features: Features, looks: Looks) -> Answer:
        points, labels = self._points(looks)
        decoded = self._decoded(features, looks, points, labels)
        several = points.shape[1] <= _MULTIMASK_POINTS or not self.network.configuration.single_mask
        return self._chosen(decoded, best(decoded) if several else single(decoded), several=several)

    def _decoded(self, features: Features, looks: Looks, points: Tensor, labels: Tensor) -> Decoded:
        image = self._conditioned(features[2], looks)
        return self.network.decode(features, image, points, labels, self._dense(looks, points, labels))

    def _chosen(self, decoded: Decoded, chosen: Chosen, *, several: bool) -> Answer:
        trained = self.network.configuration.presence_head
        scores = decoded.scores if trained else chosen.logits.amax(dim=(1, 2))
        logits = torch.where(scores[:, None, None] > 0, chosen.logits, ABSENT_LOGIT)
        return Answer(logits, chosen.ious, scores, self.network.pointers(chosen.tokens, scores), decoded if several else None)

    def _given(self, features: Features, looks: Looks) -> Answer:
        """A mask is its own answer; the decoder, shown it, gives the pointer (Meta's _use_mask_as_output)."""
        masks = self._stacked([_fitted(query.said, window) for query, window in zip(looks.queries, looks.windows, strict=True)])
        low, high = _GIVEN_LOGITS
        logits = _resized(masks * (high - low) + low, looks.size // 4, shrinking=True)
        points, labels = self._points(looks)
        if self.network.configuration.dense_prompts:
            image, dense = self.network.unconditioned(features[2]), prompts.filled(logits)
        else:
            image, dense = features[2], self.network.mask_downsample(masks[:, None])[:, 0]
        decoded = self.network.decode(features, image, points, labels, dense)
        chosen = single(decoded) if self.network.configuration.single_mask else best(decoded)
        ones = torch.ones(len(masks), device=self.device)
        return Answer(logits, ones, high * ones, self._chosen(decoded, chosen, several=False).pointers)

    def _conditioned(self, coarse: Tensor, looks: Looks) -> Tensor:
        queries = looks.queries
        if not queries[0].recalls:
            return self.network.unconditioned(coarse)
        shown = [[recall for recall in query.recalls if recall.slot is not None] for query in queries]
        pointed = [[recall for recall in query.recalls if recall.age is not None] for query in queries]
        count, tokens, hidden = len(queries), coarse.shape[-1] ** 2, self.network.configuration.hidden
        pointers = [[recall.memory.pointer for recall in recalls] for recalls in pointed]
        recalled = Recalled(
            features=self._remembered(looks, shown, coarse).view(count, -1, tokens, MEMORY),
            slots=torch.tensor([[recall.slot for recall in recalls] for recalls in shown], dtype=torch.long, device=self.device),
            pointers=self._stacked(pointers).view(count, -1, hidden),
            ages=self._stacked([self._ages(query, recalls) for query, recalls in zip(queries, pointed, strict=True)]).view(count, -1),
        )
        return self.network.conditioned(coarse, recalled)

    def _remembered(self, looks: Looks, shown: Sequence[Sequence[Recall]], coarse: Tensor) -> Tensor:
        """(memories, N, 64) of all recalls, one query after another, as they lie in its window."""
        kept = [_payload(recall, query) for query, recalls in zip(looks.queries, shown, strict=True) for recall in recalls]
        if not kept:
            return coarse.new_zeros(0)
        tokens = torch.stack([payload.tokens for payload in kept]).to(coarse)
        sources = [payload.window for payload in kept]
        targets = [window for window, recalls in zip(looks.windows, shown, strict=True) for _ in recalls]
        if sources == targets:
            return tokens
        side = coarse.shape[-1]
        return moved(tokens.transpose(1, 2).unflatten(2, (side, side)), sources, targets).flatten(2).transpose(1, 2)

    def _ages(self, query: Query, recalls: Sequence[Recall]) -> list[float]:
        """Ages in parts of the oldest pointer's; in a short video that is the video's own length, as SAM 2 has it."""
        pointers = self.card.pointers if query.length is None else min(query.length, self.card.pointers)
        return [cast(int, recall.age) / max(1, pointers - 1) for recall in recalls]

    def _points(self, looks: Looks) -> tuple[Tensor, Tensor]:
        """(B, P, 2) points (x, y) in 0..1 and (B, P) labels; the corners of a box come first."""
        places, labels = zip(*(_told(query.said) for query in looks.queries), strict=True)
        yx = [window.to_model(np.array(each, dtype=np.float64).reshape(-1, 2)) for each, window in zip(places, looks.windows, strict=True)]
        xy = ((np.stack(yx)[..., ::-1] + 0.5) / looks.size).astype(np.float32)
        kinds = torch.tensor(labels, dtype=torch.long, device=self.device)
        return torch.from_numpy(xy.copy()).to(self.device), kinds.view(len(looks.queries), -1)

    def _dense(self, looks: Looks, points: Tensor, labels: Tensor) -> Tensor | None:
        configuration, first = self.network.configuration, looks.queries[0]
        if configuration.carried and first.recalls and first.logits is None:
            return self._carried(looks)
        before = None
        if first.logits is not None and configuration.previous_logits:
            planes = self._stacked([query.logits for query in looks.queries])
            planes = moved(planes[:, None], [query.window or looks.embedding.window for query in looks.queries], looks.windows)[:, 0]
            before = _resized(planes, looks.size // 4, shrinking=True).clamp(-_PREVIOUS_LOGIT, _PREVIOUS_LOGIT)
        if not configuration.dense_prompts:
            return before
        return prompts.drawn(points, labels, looks.size // 4, before) if points.shape[1] else before

    def _carried(self, looks: Looks) -> Tensor:
        """(B, h, w) logits of the last frame each track was on, if it is one of those just walked."""
        frame, side, reach = looks.embedding.frame, looks.size // 4, max(1, self.card.memory_slots - 1)
        planes, sources = [], []
        for query, window in looks.pairs:
            near = (memory for memory in query.memories if memory.present and abs(memory.frame - frame) <= reach)
            last = nearest(near, frame)
            planes.append(prompts.nothing(side) if last is None else cast(Payload, last.features).mask)
            sources.append(window if last is None else cast(Payload, last.features).window)
        shown = torch.stack([cast(Tensor, plane).to(self.device).float() for plane in planes])
        return moved(shown[:, None], sources, looks.windows)[:, 0]

    def _stacked(self, arrays: Sequence[Any]) -> Tensor:
        return torch.from_numpy(np.array(arrays, dtype=np.float32)).to(self.device)

    def _room(self, tokens: int) -> int:
        """Frames or tracks of so many tokens each that go through the network together."""
        return max(1, _TOKENS_AT_ONCE.get(self.device.split(":")[0], _MANY_TOKENS) // tokens)


def nearest(memories: Iterable[Memory], frame: int) -> Memory | None:
    """The memory of the nearest frame; None where there is none."""
    return min(memories, key=lambda memory: abs(memory.frame - frame), default=None)


def _shape(query: Query) -> _Shape:
    said = query.said
    if not query.recalls and said.mask is None and said.box is None and not said.points:
        raise PromptError("nothing was said and nothing is remembered: give a prompt or recalls", track=query.track)
    memories = sum(recall.slot is not None for recall in query.recalls)
    pointers = sum(recall.age is not None for recall in query.recalls)
    points = len(said.points) + (2 if said.box else 0)
    return _Shape(said.mask is not None, memories, pointers, points, query.logits is not None)


def _told(said: Said) -> tuple[list[tuple[float, float]], list[int]]:
    """Points (y, x) in data pixels and their labels."""
    box = [said.box[:2], said.box[2:]] if said.box else []
    labels = [prompts.TOP_LEFT, prompts.BOTTOM_RIGHT] if said.box else []
    return [*box, *said.points], [*labels, *(prompts.POSITIVE if positive else prompts.NEGATIVE for positive in said.positive)]


def _fitted(said: Said, window: Window) -> np.ndarray:
    """(S, S) of 0 and 1: the mask as the network's input sees it. One too thin for half a pixel keeps its fullest pixels."""
    cover = window.crop(np.asarray(said.mask, dtype=np.float32))
    return (cover >= min(0.5, float(cover.max()) or 0.5)).astype(np.float32)


def _payload(recall: Recall, query: Query) -> Payload:
    if recall.memory.features is None:
        forgotten = f"the memory of frame {recall.memory.frame} is to be shown in slot {recall.slot}, but its features are forgotten"
        raise PromptError(f"{forgotten}: remember it again", track=query.track)
    return cast(Payload, recall.memory.features)


def _resized(planes: Tensor, side: int, *, shrinking: bool) -> Tensor:
    """(B, h, w) to (B, side, side), bilinear; antialiased where it may shrink."""
    if planes.shape[-1] == side and planes.shape[-2] == side:
        return planes
    return F.interpolate(planes[:, None], size=(side, side), mode="bilinear", align_corners=False, antialias=shrinking)[:, 0]


def _parts(items: Sequence[_T], kind: Callable[[_T], Hashable], room: Callable[[_T], int]) -> Iterator[list[int]]:
    """Indices of items of one kind, as many at once as there is room for."""
    kinds: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        kinds.setdefault(kind(item), []).append(index)
    for indices in kinds.values():
        step = room(items[indices[0]])
        yield from (indices[start : start + step] for start in range(0, len(indices), step))
