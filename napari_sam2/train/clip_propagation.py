"""Propagation of training clips with gradients, all objects of several clips together.

The network's own methods predict. This module adds, in tensors, the rules of `propagation`
(which frames are conditioning frames, what is kept in memory and shown to the network), and
simulated correction clicks.
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
"""Maps a predicted and a true mask, (S, S) bool each, to a click (y, x) and its sign."""


@dataclass(frozen=True)
class MemoryLimits:
    """How many memories the network sees, besides those of conditioning frames.

    Parameters
    ----------
    recent
        Tracked memories (a model card's `memory_slots` - 1).
    pointers
        Object pointers.
    """

    recent: int = RECENT_MEMORIES
    pointers: int = OBJECT_POINTERS


@dataclass(frozen=True, eq=False)
class PromptedBatch:
    """B objects of I clips, each with its truth and its first prompt.

    Parameters
    ----------
    frames
        (I, T, S, S) pixels in 0..1.
    clip
        (B,) the clip of each object.
    masks
        (B, T, S, S) bool, the truth.
    prompts
        The prompt of each object on frame 0, in pixels of the clip.
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
        """Return a copy on a device."""
        return replace(
            self,
            frames=self.frames.to(device),
            clip=self.clip.to(device),
            masks=self.masks.to(device),
        )


@dataclass(frozen=True)
class PropagationOptions:
    """How a clip is propagated.

    Parameters
    ----------
    memory_limits
        Memories and object pointers that the network sees.
    corrections
        Number of correction clicks by frame, e.g. {0: 2, 3: 1}.
    true_presence
        Take presence from the truth and not from the object score, which is not trained yet.
    age_offset
        Frames added to the age of the first frame, as if propagation had begun long ago.
    """

    memory_limits: MemoryLimits = MemoryLimits()
    corrections: Mapping[int, int] = field(default_factory=dict)
    true_presence: bool = False
    age_offset: int = 0


@dataclass(frozen=True, eq=False)
class DecoderPass:
    """The decoder's output for R objects on one frame.

    Parameters
    ----------
    frame, kind
        Frame, and what prompted the objects: "tracked", "click", "box" or "correction".
    rows
        (R,) the objects' rows in the batch.
    decoded
        All masks, with their scores.
    multimask
        Whether the mask used is the best of three.
    """

    frame: int
    kind: str
    rows: Tensor
    decoded: DecoderOutput
    multimask: bool


@dataclass(frozen=True, eq=False)
class FramePrediction:
    """Predictions for B objects on a frame.

    Logits (B, h, w), predicted IoUs (B,), presence (B,) bool and object pointers (B, C).
    """

    logits: Tensor
    ious: Tensor
    present: Tensor
    pointers: Tensor


@dataclass(frozen=True, eq=False)
class ClipPropagation:
    """The result of propagating a batch.

    Parameters
    ----------
    decoder_passes
        Every output of the decoder, corrected ones included.
    predictions
        The last prediction on each frame.
    finest_features
        (I * T, …) the encoder's finest level, for the outline loss; None if features were given.
    """

    decoder_passes: list[DecoderPass]
    predictions: list[FramePrediction]
    finest_features: Tensor | None


@dataclass(frozen=True, eq=False)
class _DecoderQuery:
    """A query for R objects that have equally many points and memories.

    Parameters
    ----------
    rows
        (R,) the objects' rows in the batch.
    previous_logits
        (R, h, w) logits of the mask to correct; None for a first prediction.
    """

    frame: int
    rows: Tensor
    frame_prompts: Sequence[FramePrompts]
    previous_logits: Tensor | None

    @property
    def kind(self) -> str:
        """What prompts the objects: "tracked", "click", "box" or "correction"."""
        first = self.frame_prompts[0]
        if not first.points and first.box is None:
            return "tracked"
        if self.previous_logits is not None:
            return "correction"
        return "box" if first.box else "click"


@dataclass(frozen=True, eq=False)
class _FrameMemory:
    """Memory of a frame: conditioning (B,) bool, features (B, N, 64), and the prediction."""

    frame: int
    conditioning: Tensor
    features: Tensor
    prediction: FramePrediction


def encode_frames(network: Sam2Network, pixels: Tensor) -> tuple[Features, Tensor]:
    """Encode (N, S, S) pixels in 0..1.

    Returns
    -------
    features
        As `Sam2Network.embed` returns them.
    finest
        The encoder's finest level.
    """
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
    """Propagate all clips forward from their first frame, where every object is prompted.

    Parameters
    ----------
    correct
        Chooses the clicks of `options.corrections`.
    features
        (I * T, …) features of all frames in order, if the encoder is frozen. Encoded if not given.
    """
    finest = None
    if features is None:
        features, finest = encode_frames(network, batch.frames.flatten(0, 1))
    propagator = _BatchPropagator(network, batch, options, features)
    predictions = [
        propagator.predict_frame(index, correct) for index in range(batch.frames.shape[1])
    ]
    return ClipPropagation(propagator.decoder_passes, predictions, finest)


class _BatchPropagator:
    """Propagates one batch, and keeps its decoder passes and memories."""

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
        """Predict a frame, correct it if the options say so, and encode its memory."""
        count = len(self.batch.prompts)
        all_rows = torch.arange(count, device=self.batch.clip.device)
        prompts = list(self.batch.prompts) if index == 0 else [FramePrompts()] * count
        prediction = self._predict(index, all_rows, prompts, None)
        conditioning = torch.full((count,), index == 0, device=all_rows.device)
        for _ in range(self.options.corrections.get(index, 0)):
            rows = self._find_correctable(index, prompts)
            if not len(rows):
                break
            prompts = self._add_correction_clicks(index, rows, (prompts, prediction), correct)
            corrected = self._predict(
                index, rows, [prompts[row] for row in rows.tolist()], prediction.logits[rows]
            )
            prediction = _replace_rows(prediction, corrected, rows)
            conditioning[rows] = True
        self._encode_memory(index, prediction, conditioning)
        return prediction

    def _find_correctable(self, index: int, frame_prompts: Sequence[FramePrompts]) -> Tensor:
        """Find the rows of objects that are present and were not prompted by a mask."""
        present = self.batch.masks[:, index].flatten(1).any(dim=1)
        has_mask = torch.tensor(
            [each.mask is not None for each in frame_prompts], device=present.device
        )
        return torch.nonzero(present & ~has_mask)[:, 0]

    def _add_correction_clicks(
        self,
        index: int,
        rows: Tensor,
        previous: tuple[list[FramePrompts], FramePrediction],
        correct: CorrectionPolicy,
    ) -> list[FramePrompts]:
        prompts, prediction = list(previous[0]), previous[1]
        predicted = (
            (resize_logits(prediction.logits[rows].detach(), self.batch.size) > 0).cpu().numpy()
        )
        truth = self.batch.masks[rows, index].cpu().numpy()
        for row, mask, true_mask in zip(rows.tolist(), predicted, truth, strict=True):
            point, positive = correct(mask, true_mask)
            prompts[row] = replace(
                prompts[row],
                points=(*prompts[row].points, point),
                positive=(*prompts[row].positive, positive),
            )
        return prompts

    def _predict(
        self,
        index: int,
        rows: Tensor,
        frame_prompts: Sequence[FramePrompts],
        previous_logits: Tensor | None,
    ) -> FramePrediction:
        """Predict each of `rows`; equally many points and memories make a batch."""
        features_shown, pointers_shown = self._select_memories(index, rows)
        groups: dict[tuple[object, ...], list[int]] = {}
        for position, each in enumerate(frame_prompts):
            points = len(each.points) + (2 if each.box else 0)
            key = (
                each.mask is not None,
                points,
                tuple(features_shown[position].tolist()),
                tuple(pointers_shown[position].tolist()),
            )
            groups.setdefault(key, []).append(position)
        parts = []
        for positions in groups.values():
            selection = torch.tensor(positions, device=rows.device)
            patterns = (features_shown[positions[0]], pointers_shown[positions[0]])
            query = _DecoderQuery(
                index,
                rows[selection],
                [frame_prompts[position] for position in positions],
                None if previous_logits is None else previous_logits[selection],
            )
            parts.append(self._predict_group(query, patterns))
        order = torch.tensor(
            [position for positions in groups.values() for position in positions],
            device=rows.device,
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
        multimask = (
            points.shape[1] <= MULTIMASK_MAX_POINTS or not self.network.configuration.single_mask
        )
        self.decoder_passes.append(
            DecoderPass(query.frame, query.kind, query.rows, decoded, multimask)
        )
        return self._make_prediction(
            query, decoded, select_best_mask(decoded) if multimask else select_single_mask(decoded)
        )

    def _use_mask_prompts(self, query: _DecoderQuery, features: Features) -> FramePrediction:
        """Return the prompted masks themselves; the decoder gives their object pointers."""
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
        single_mask = self.network.configuration.single_mask
        selected = select_single_mask(decoded) if single_mask else select_best_mask(decoded)
        prediction = self._make_prediction(query, decoded, selected)
        return replace(prediction, logits=logits, present=torch.ones_like(prediction.present))

    def _make_prediction(
        self, query: _DecoderQuery, decoded: DecoderOutput, chosen: SelectedMask
    ) -> FramePrediction:
        """Make a prediction of the chosen masks; masks of absent objects are empty."""
        has_head = self.network.configuration.presence_head
        present = (decoded.scores if has_head else chosen.logits.amax(dim=(1, 2))) > 0
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
        indices = self.batch.clip[rows] * self.batch.frames.shape[1] + index
        fine, middle, coarse = self.features
        return fine[indices], middle[indices], coarse[indices]

    def _make_dense_prompts(
        self, query: _DecoderQuery, points: Tensor, labels: Tensor
    ) -> Tensor | None:
        configuration, previous = self.network.configuration, query.previous_logits
        if previous is None and self.memories and configuration.propagated_mask:
            return prompt_tokens.clamp_logits(self._get_propagated_logits(query))
        if previous is not None and configuration.previous_logits:
            previous = previous.clamp(-MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT)
        else:
            previous = None
        if not configuration.dense_prompts or not points.shape[1]:
            return previous
        return prompt_tokens.draw_prompts(points, labels, self.batch.size // 4, previous)

    def _get_propagated_logits(self, query: _DecoderQuery) -> Tensor:
        """Return (R, h, w) logits of the last of the recent frames that shows each object."""
        logits = torch.full_like(self.memories[-1].prediction.logits[query.rows], ABSENT_LOGIT)
        for memory in self.memories:
            if query.frame - memory.frame <= max(1, self.options.memory_limits.recent):
                present = memory.prediction.present[query.rows, None, None]
                logits = torch.where(present, memory.prediction.logits[query.rows].detach(), logits)
        return logits

    def _select_memories(self, index: int, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Select by (R, memories) bool whose features and whose pointers the network sees."""
        if not self.memories:
            return np.zeros((len(rows), 0), bool), np.zeros((len(rows), 0), bool)
        conditioning = torch.stack([memory.conditioning for memory in self.memories], dim=1)
        is_conditioning = conditioning[rows].cpu().numpy()
        ages = np.array([index - memory.frame for memory in self.memories])
        limits = self.options.memory_limits
        return is_conditioning | (ages <= limits.recent), is_conditioning | (ages < limits.pointers)

    def _condition_features(
        self, query: _DecoderQuery, coarse: Tensor, patterns: tuple[np.ndarray, np.ndarray]
    ) -> Tensor:
        if not self.memories:
            return self.network.add_no_memory_embedding(coarse)
        index, rows = query.frame, query.rows
        by_features, by_pointers = (
            [memory for memory, selected in zip(self.memories, pattern, strict=True) if selected]
            for pattern in patterns
        )
        slots = [
            torch.where(memory.conditioning[rows], 0, index - memory.frame)
            for memory in by_features
        ]
        ages = [
            torch.full((len(rows),), self._compute_age(index, memory), device=rows.device)
            for memory in by_pointers
        ]
        inputs = MemoryInputs(
            torch.stack([memory.features[rows] for memory in by_features], dim=1),
            torch.stack(slots, dim=1),
            torch.stack([memory.prediction.pointers[rows] for memory in by_pointers], dim=1),
            torch.stack(ages, dim=1),
        )
        return self.network.condition_on_memory(coarse, inputs)

    def _compute_age(self, index: int, memory: _FrameMemory) -> float:
        """Compute a pointer's age as a share of the highest one, as `Sam2Predictor` does."""
        offset = self.options.age_offset if memory.frame == 0 else 0
        return (index - memory.frame + offset) / max(1, self.options.memory_limits.pointers - 1)

    def _encode_memory(self, index: int, prediction: FramePrediction, conditioning: Tensor) -> None:
        if index == self.batch.frames.shape[1] - 1:
            return  # no later frame reads it
        rows = torch.arange(len(conditioning), device=conditioning.device)
        logits = resize_logits(prediction.logits, self.batch.size)
        masks = torch.where(conditioning[:, None, None], (logits > 0).float(), logits.sigmoid())
        features = self.network.encode_memory(
            self._select_features(index, rows)[2], masks, ~prediction.present
        )
        self.memories.append(_FrameMemory(index, conditioning.clone(), features, prediction))


def _make_points(
    frame_prompts: Sequence[FramePrompts], size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Make (R, P, 2) points (x, y) in 0..1 and (R, P) labels, the corners of a box first.

    All of `frame_prompts` have equally many points.
    """
    positions, labels = [], []
    for each in frame_prompts:
        box = [each.box[:2], each.box[2:]] if each.box else []
        corners = [prompt_tokens.TOP_LEFT, prompt_tokens.BOTTOM_RIGHT] if each.box else []
        signs = [
            prompt_tokens.POSITIVE if positive else prompt_tokens.NEGATIVE
            for positive in each.positive
        ]
        positions.append([*box, *each.points])
        labels.append([*corners, *signs])
    yx = np.array(positions, dtype=np.float64).reshape(len(frame_prompts), -1, 2)
    xy = ((yx[..., ::-1] + 0.5) / size).astype(np.float32)
    label_tensor = torch.tensor(labels, dtype=torch.long, device=device)
    return torch.from_numpy(xy.copy()).to(device), label_tensor.view(len(frame_prompts), -1)


def resize_logits(logits: Tensor, side: int) -> Tensor:
    """Resize (B, h, w) logits to (B, side, side), bilinearly."""
    return functional.interpolate(
        logits[:, None], size=(side, side), mode="bilinear", align_corners=False
    )[:, 0]


def _downsample(planes: Tensor, side: int) -> Tensor:
    return functional.interpolate(
        planes[:, None], size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )[:, 0]


def _concatenate_predictions(parts: Sequence[FramePrediction], order: Tensor) -> FramePrediction:
    """Concatenate predictions, then put their rows in `order`."""
    if len(parts) == 1:
        return parts[0]
    columns = [
        torch.cat([getattr(part, name) for part in parts])[order]
        for name in ("logits", "ious", "present", "pointers")
    ]
    return FramePrediction(*columns)


def _replace_rows(old: FramePrediction, new: FramePrediction, rows: Tensor) -> FramePrediction:
    """Return `old` with `rows` replaced by `new`."""
    count = len(old.ious)
    source = torch.arange(count, device=rows.device)
    source[rows] = torch.arange(len(rows), device=rows.device) + count
    return _concatenate_predictions([old, new], source)
