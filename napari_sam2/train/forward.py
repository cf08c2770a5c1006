"""Forward: a clip walked as the engine walks it, with gradients, all objects of several clips together.

The network's own methods answer; what is here are the engine's rules (which frames are
conditioning, what is remembered and shown) in tensors, and the clicks of a simulated person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.sam2_constants import (
    ABSENT_LOGIT,
    MASK_PROMPT_LOGIT,
    MAX_PREVIOUS_LOGIT,
    MULTIMASK_MAX_POINTS,
    OBJECT_POINTERS,
    RECENT_MEMORIES,
)
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.mask_decoder import (
    DecoderOutput,
    SelectedMask,
    select_best_mask,
    select_single_mask,
)
from napari_sam2.models.network.sam2_network import Features, MemoryInputs, Sam2Network

CorrectionPolicy = Callable[[np.ndarray, np.ndarray], tuple[tuple[float, float], bool]]
"""From a wrong mask and the true one, (S, S) bool each, to a click (y, x) and whether it is positive."""


@dataclass(frozen=True, eq=False)
class PromptedBatch:
    """Objects of several clips.

    frames (I, T, S, S) in 0..1; clip (B,) the clip of each object; masks (B, T, S, S) bool, the
    truth; said: what is said about each object on frame 0, in pixels of the clip.
    """

    frames: Tensor
    clip: Tensor
    masks: Tensor
    prompts: tuple[FramePrompts, ...]

    @property
    def size(self) -> int:
        """Side of the input in pixels."""
        return self.frames.shape[-1]

    def to(self, device: str) -> PromptedBatch:
        """The same on a device."""
        return replace(
            self,
            frames=self.frames.to(device),
            clip=self.clip.to(device),
            masks=self.masks.to(device),
        )


@dataclass(frozen=True)
class PropagationOptions:
    """How a clip is walked.

    Parameters
    ----------
    recent, pointers
        Tracked memories and object pointers that are shown, as the model's card will say
        (`memory_slots` - 1, `pointers`).
    corrections
        Clicks on wrong masks by frame: {0: 2, 3: 1}.
    true_presence
        Presence is taken from the truth and not from the score, while that is not learned yet.
    age_offset
        Frames added to the age of the first frame, as if the walk had begun long ago.
    """

    recent: int = RECENT_MEMORIES
    pointers: int = OBJECT_POINTERS
    corrections: Mapping[int, int] = field(default_factory=dict)
    true_presence: bool = False
    age_offset: int = 0


@dataclass(frozen=True, eq=False)
class DecoderPass:
    """What the network answered for R objects on one frame: `rows` of the batch.

    `multimask`: the best of three answers.
    """

    frame: int
    kind: str
    rows: Tensor
    decoded: DecoderOutput
    multimask: bool


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """The answers of all B objects on a frame: logits (B, h, w), ious and present (B,), pointers (B, C)."""

    logits: Tensor
    ious: Tensor
    present: Tensor
    pointers: Tensor


@dataclass(frozen=True, eq=False)
class ClipPropagation:
    """A walk: every attempt, the last answer on each frame, and the encoder's (I * T, …) finest level for its own loss."""

    decoder_passes: list[DecoderPass]
    predictions: list[FramePrediction]
    finest_features: Tensor | None


@dataclass(frozen=True, eq=False)
class _DecoderQuery:
    """A question about R objects, as many points and memories each: `rows` of the batch, and what they answered before."""

    frame: int
    rows: Tensor
    frame_prompts: Sequence[FramePrompts]
    previous_logits: Tensor | None

    @property
    def kind(self) -> str:
        """For people: "tracked", "click", "box" or "correction"."""
        if not self.frame_prompts[0].points and self.frame_prompts[0].box is None:
            return "tracked"
        return (
            "correction"
            if self.previous_logits is not None
            else "box"
            if self.frame_prompts[0].box
            else "click"
        )


@dataclass(frozen=True, eq=False)
class _FrameMemory:
    """What is remembered of a frame: conditioning (B,) bool, features (B, N, 64), and the answer."""

    frame: int
    conditioning: Tensor
    features: Tensor
    prediction: FramePrediction


def encode_frames(network: Sam2Network, pixels: Tensor) -> tuple[Features, Tensor]:
    """(N, S, S) in 0..1 to features as `Sam2Network.embed` gives them, and the encoder's finest level."""
    levels = network.vision_encoder(pixels[:, None])
    return (
        network.mask_decoder.conv_s0(levels[0]),
        network.mask_decoder.conv_s1(levels[1]),
        levels[2],
    ), levels[0]


def propagate_batch(
    network: Sam2Network,
    batch: PromptedBatch,
    options: PropagationOptions,
    correct: CorrectionPolicy,
    *,
    features: Features | None = None,
) -> ClipPropagation:
    """Walk the clips forward from their first frame, prompted there.

    `features` of all frames in order, (I * T, …), spare the encoder where it is frozen.
    """
    finest = None
    if features is None:
        features, finest = encode_frames(network, batch.frames.flatten(0, 1))
    walk = _BatchPropagator(network, batch, options, features)
    answers = [walk.predict_frame(index, correct) for index in range(batch.frames.shape[1])]
    return ClipPropagation(walk.decoder_passes, answers, finest)


class _BatchPropagator:
    """One walk of one batch: what was attempted and what is remembered."""

    def __init__(
        self,
        network: Sam2Network,
        batch: PromptedBatch,
        options: PropagationOptions,
        features: Features,
    ) -> None:
        self.network, self.batch, self.options = network, batch, options
        self.features = features
        self.decoder_passes: list[DecoderPass] = []
        self.memories: list[_FrameMemory] = []

    def predict_frame(self, index: int, correct: CorrectionPolicy) -> FramePrediction:
        """Answer a frame, correct it where the script says so, and remember it."""
        count = len(self.batch.prompts)
        every = torch.arange(count, device=self.batch.clip.device)
        said = list(self.batch.prompts) if index == 0 else [FramePrompts()] * count
        answer = self._predict(index, every, said, None)
        conditioning = torch.full((count,), index == 0, device=every.device)
        for _ in range(self.options.corrections.get(index, 0)):
            rows = self._find_correctable(index, said)
            if not len(rows):
                break
            said = self._add_correction_clicks(index, rows, (said, answer), correct)
            again = self._predict(
                index, rows, [said[row] for row in rows.tolist()], answer.logits[rows]
            )
            answer = _replace_rows(answer, again, rows)
            conditioning[rows] = True
        self._encode_memory(index, answer, conditioning)
        return answer

    def _find_correctable(self, index: int, frame_prompts: Sequence[FramePrompts]) -> Tensor:
        """Objects that can be corrected: those that are there, and whose mask was not given."""
        there = self.batch.masks[:, index].flatten(1).any(dim=1)
        given = torch.tensor([each.mask is not None for each in frame_prompts], device=there.device)
        return torch.nonzero(there & ~given)[:, 0]

    def _add_correction_clicks(
        self,
        index: int,
        rows: Tensor,
        previous: tuple[list[FramePrompts], FramePrediction],
        correct: CorrectionPolicy,
    ) -> list[FramePrompts]:
        said, answer = list(previous[0]), previous[1]
        predicted = (_resize(answer.logits[rows].detach(), self.batch.size) > 0).cpu().numpy()
        truth = self.batch.masks[rows, index].cpu().numpy()
        for row, mask, true in zip(rows.tolist(), predicted, truth, strict=True):
            point, positive = correct(mask, true)
            said[row] = replace(
                said[row],
                points=(*said[row].points, point),
                positive=(*said[row].positive, positive),
            )
        return said

    def _predict(
        self,
        index: int,
        rows: Tensor,
        frame_prompts: Sequence[FramePrompts],
        previous_logits: Tensor | None,
    ) -> FramePrediction:
        """One answer for each of `rows`; those with as many points and memories go through the network together."""
        shown, pointed = self._select_memories(index, rows)
        alike: dict[tuple[object, ...], list[int]] = {}
        for place, each in enumerate(frame_prompts):
            points = len(each.points) + (2 if each.box else 0)
            key = (
                each.mask is not None,
                points,
                tuple(shown[place].tolist()),
                tuple(pointed[place].tolist()),
            )
            alike.setdefault(key, []).append(place)
        parts = []
        for places in alike.values():
            chosen = torch.tensor(places, device=rows.device)
            patterns = (shown[places[0]], pointed[places[0]])
            asked = _DecoderQuery(
                index,
                rows[chosen],
                [frame_prompts[place] for place in places],
                None if previous_logits is None else previous_logits[chosen],
            )
            parts.append(self._predict_group(asked, patterns))
        order = torch.tensor(
            [place for places in alike.values() for place in places], device=rows.device
        ).argsort()
        return _concatenate_predictions(parts, order)

    def _predict_group(
        self, query: _DecoderQuery, patterns: tuple[np.ndarray, np.ndarray]
    ) -> FramePrediction:
        features = self._select_features(query.frame, query.rows)
        if query.frame_prompts[0].mask is not None:
            return self._use_mask_prompts(query, features)
        points, labels = _make_points(query.frame_prompts, self.batch.size, query.rows.device)
        image = self._condition_features(query, features[2], patterns)
        decoded = self.network.decode(
            features, image, points, labels, self._make_dense_prompts(query, points, labels)
        )
        several = (
            points.shape[1] <= MULTIMASK_MAX_POINTS or not self.network.configuration.single_mask
        )
        self.decoder_passes.append(
            DecoderPass(query.frame, query.kind, query.rows, decoded, several)
        )
        return self._make_prediction(
            query, decoded, select_best_mask(decoded) if several else select_single_mask(decoded)
        )

    def _use_mask_prompts(self, query: _DecoderQuery, features: Features) -> FramePrediction:
        """A mask is its own answer; the decoder, shown it, gives the pointer."""
        masks = torch.from_numpy(
            np.stack([np.asarray(each.mask, dtype=np.float32) for each in query.frame_prompts])
        ).to(query.rows.device)
        logits = _downsample(
            masks * (2 * MASK_PROMPT_LOGIT) - MASK_PROMPT_LOGIT, self.batch.size // 4
        )
        points, labels = _make_points(query.frame_prompts, self.batch.size, query.rows.device)
        if self.network.configuration.dense_prompts:
            image, dense = (
                self.network.add_no_memory_embedding(features[2]),
                prompt_tokens.clamp_logits(logits),
            )
        else:
            image, dense = features[2], self.network.mask_downsample(masks[:, None])[:, 0]
        decoded = self.network.decode(features, image, points, labels, dense)
        answer = self._make_prediction(
            query,
            decoded,
            select_single_mask(decoded)
            if self.network.configuration.single_mask
            else select_best_mask(decoded),
        )
        return replace(answer, logits=logits, present=torch.ones_like(answer.present))

    def _make_prediction(
        self, query: _DecoderQuery, decoded: DecoderOutput, chosen: SelectedMask
    ) -> FramePrediction:
        """The chosen masks, empty where the object is thought absent."""
        trained = self.network.configuration.presence_head
        present = (decoded.scores if trained else chosen.logits.amax(dim=(1, 2))) > 0
        if self.options.true_presence:
            present = self.batch.masks[query.rows, query.frame].flatten(1).any(dim=1)
        logits = torch.where(present[:, None, None], chosen.logits, ABSENT_LOGIT)
        return FramePrediction(
            logits,
            chosen.ious,
            present,
            self.network.project_pointers(chosen.tokens, present.float() - 0.5),
        )

    def _select_features(self, index: int, rows: Tensor) -> Features:
        where = self.batch.clip[rows] * self.batch.frames.shape[1] + index
        fine, middle, coarse = self.features
        return fine[where], middle[where], coarse[where]

    def _make_dense_prompts(
        self, query: _DecoderQuery, points: Tensor, labels: Tensor
    ) -> Tensor | None:
        configuration, before = self.network.configuration, query.previous_logits
        if before is None and self.memories and configuration.propagated_mask:
            return prompt_tokens.clamp_logits(self._get_propagated_logits(query))
        before = (
            before.clamp(-MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT)
            if before is not None and configuration.previous_logits
            else None
        )
        if not configuration.dense_prompts:
            return before
        return (
            prompt_tokens.draw_prompts(points, labels, self.batch.size // 4, before)
            if points.shape[1]
            else before
        )

    def _get_propagated_logits(self, query: _DecoderQuery) -> Tensor:
        """(R, h, w) logits of the last frame each object was on, if it is one of those just walked."""
        logits = torch.full_like(self.memories[-1].prediction.logits[query.rows], ABSENT_LOGIT)
        for kept in self.memories:
            if query.frame - kept.frame <= max(1, self.options.recent):
                there = kept.prediction.present[query.rows, None, None]
                logits = torch.where(there, kept.prediction.logits[query.rows].detach(), logits)
        return logits

    def _select_memories(self, index: int, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(R, frames kept) bool: whose features are shown, and whose pointers."""
        if not self.memories:
            return np.zeros((len(rows), 0), bool), np.zeros((len(rows), 0), bool)
        conditioning = (
            torch.stack([kept.conditioning for kept in self.memories], dim=1)[rows].cpu().numpy()
        )
        ages = np.array([index - kept.frame for kept in self.memories])
        return conditioning | (ages <= self.options.recent), conditioning | (
            ages < self.options.pointers
        )

    def _condition_features(
        self, query: _DecoderQuery, coarse: Tensor, patterns: tuple[np.ndarray, np.ndarray]
    ) -> Tensor:
        if not self.memories:
            return self.network.add_no_memory_embedding(coarse)
        index, rows = query.frame, query.rows
        shown, pointed = (
            [kept for kept, there in zip(self.memories, pattern, strict=True) if there]
            for pattern in patterns
        )
        slots = [torch.where(kept.conditioning[rows], 0, index - kept.frame) for kept in shown]
        ages = [
            torch.full((len(rows),), self._compute_age(index, kept), device=rows.device)
            for kept in pointed
        ]
        recalled = MemoryInputs(
            torch.stack([kept.features[rows] for kept in shown], dim=1),
            torch.stack(slots, dim=1),
            torch.stack([kept.prediction.pointers[rows] for kept in pointed], dim=1),
            torch.stack(ages, dim=1),
        )
        return self.network.condition_on_memory(coarse, recalled)

    def _compute_age(self, index: int, memory: _FrameMemory) -> float:
        """In parts of the oldest pointer's, as Sam2 gives it."""
        older = self.options.age_offset if memory.frame == 0 else 0
        return (index - memory.frame + older) / max(1, self.options.pointers - 1)

    def _encode_memory(self, index: int, prediction: FramePrediction, conditioning: Tensor) -> None:
        if index == self.batch.frames.shape[1] - 1:
            return  # nobody will ask
        rows = torch.arange(len(conditioning), device=conditioning.device)
        logits = _resize(prediction.logits, self.batch.size)
        masks = torch.where(conditioning[:, None, None], (logits > 0).float(), logits.sigmoid())
        features = self.network.encode_memory(
            self._select_features(index, rows)[2], masks, ~prediction.present
        )
        self.memories.append(_FrameMemory(index, conditioning.clone(), features, prediction))


def _make_points(
    frame_prompts: Sequence[FramePrompts], size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(R, P, 2) points (x, y) in 0..1 and (R, P) labels, the corners of a box first; all alike in number."""
    places, labels = [], []
    for each in frame_prompts:
        box = [each.box[:2], each.box[2:]] if each.box else []
        places.append([*box, *each.points])
        corners = [prompt_tokens.TOP_LEFT, prompt_tokens.BOTTOM_RIGHT] if each.box else []
        labels.append(
            [
                *corners,
                *(
                    prompt_tokens.POSITIVE if positive else prompt_tokens.NEGATIVE
                    for positive in each.positive
                ),
            ]
        )
    yx = np.array(places, dtype=np.float64).reshape(len(frame_prompts), -1, 2)
    xy = ((yx[..., ::-1] + 0.5) / size).astype(np.float32)
    return torch.from_numpy(xy.copy()).to(device), torch.tensor(
        labels, dtype=torch.long, device=device
    ).view(len(frame_prompts), -1)


def _resize(logits: Tensor, side: int) -> Tensor:
    return functional.interpolate(
        logits[:, None], size=(side, side), mode="bilinear", align_corners=False
    )[:, 0]


def _downsample(planes: Tensor, side: int) -> Tensor:
    return functional.interpolate(
        planes[:, None], size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )[:, 0]


def _concatenate_predictions(parts: Sequence[FramePrediction], order: Tensor) -> FramePrediction:
    """Answers one after the other, put in order."""
    if len(parts) == 1:
        return parts[0]
    columns = [
        torch.cat([getattr(part, name) for part in parts])[order]
        for name in ("logits", "ious", "present", "pointers")
    ]
    return FramePrediction(*columns)


def _replace_rows(old: FramePrediction, new: FramePrediction, rows: Tensor) -> FramePrediction:
    """`old` with `new` in place of `rows`."""
    count = len(old.ious)
    source = torch.arange(count, device=rows.device)
    source[rows] = torch.arange(len(rows), device=rows.device) + count
    return _concatenate_predictions([old, new], source)
