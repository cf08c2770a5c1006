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

from napari_sam2.core.prompt import Said
from napari_sam2.core.result import ABSENT_LOGIT
from napari_sam2.models.network import prompt_tokens
from napari_sam2.models.network.mask_decoder import Chosen, Decoded, best, single
from napari_sam2.models.network.sam2_network import Features, Network, Recalled

Correct = Callable[[np.ndarray, np.ndarray], tuple[tuple[float, float], bool]]
"""From a wrong mask and the true one, (S, S) bool each, to a click (y, x) and whether it is positive."""

_GIVEN = 10.0  # logit of a mask that was given; as models.sam2
_CLAMP = 32.0  # of previous logits; as models.sam2
_MULTIMASK_POINTS = 1  # as models.sam2


@dataclass(frozen=True, eq=False)
class Batch:
    """Objects of several clips.

    frames (I, T, S, S) in 0..1; clip (B,) the clip of each object; masks (B, T, S, S) bool, the
    truth; said: what is said about each object on frame 0, in pixels of the clip.
    """

    frames: Tensor
    clip: Tensor
    masks: Tensor
    said: tuple[Said, ...]

    @property
    def size(self) -> int:
        """Side of the input in pixels."""
        return self.frames.shape[-1]

    def to(self, device: str) -> Batch:
        """The same on a device."""
        return replace(
            self,
            frames=self.frames.to(device),
            clip=self.clip.to(device),
            masks=self.masks.to(device),
        )


@dataclass(frozen=True)
class Script:
    """How a clip is walked.

    Parameters
    ----------
    recent, pointers
        Tracked memories and object pointers that are shown, as the model's card will say
        (`memory_slots` - 1, `pointers`).
    corrections
        Clicks on wrong masks by frame: {0: 2, 3: 1}.
    taught
        Presence is taken from the truth and not from the score, while that is not learned yet.
    older
        Frames added to the age of the first frame, as if the walk had begun long ago.
    """

    recent: int = 6
    pointers: int = 16
    corrections: Mapping[int, int] = field(default_factory=dict)
    taught: bool = False
    older: int = 0


@dataclass(frozen=True, eq=False)
class Attempt:
    """What the network answered for R objects on one frame: `rows` of the batch.

    `several`: the best of three answers.
    """

    frame: int
    kind: str
    rows: Tensor
    decoded: Decoded
    several: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """The answers of all B objects on a frame: logits (B, h, w), ious and present (B,), pointers (B, C)."""

    logits: Tensor
    ious: Tensor
    present: Tensor
    pointers: Tensor


@dataclass(frozen=True, eq=False)
class Rehearsed:
    """A walk: every attempt, the last answer on each frame, and the encoder's (I * T, …) finest level for its own loss."""

    attempts: list[Attempt]
    answers: list[Answer]
    finest: Tensor | None


@dataclass(frozen=True, eq=False)
class _Asked:
    """A question about R objects, as many points and memories each: `rows` of the batch, and what they answered before."""

    frame: int
    rows: Tensor
    said: Sequence[Said]
    before: Tensor | None

    @property
    def kind(self) -> str:
        """For people: "tracked", "click", "box" or "correction"."""
        if not self.said[0].points and self.said[0].box is None:
            return "tracked"
        return "correction" if self.before is not None else "box" if self.said[0].box else "click"


@dataclass(frozen=True, eq=False)
class _Kept:
    """What is remembered of a frame: conditioning (B,) bool, features (B, N, 64), and the answer."""

    frame: int
    conditioning: Tensor
    features: Tensor
    answer: Answer


def encode(network: Network, pixels: Tensor) -> tuple[Features, Tensor]:
    """(N, S, S) in 0..1 to features as `Network.embed` gives them, and the encoder's finest level."""
    levels = network.vision_encoder(pixels[:, None])
    return (
        network.mask_decoder.conv_s0(levels[0]),
        network.mask_decoder.conv_s1(levels[1]),
        levels[2],
    ), levels[0]


def rehearse(
    network: Network,
    batch: Batch,
    script: Script,
    correct: Correct,
    *,
    features: Features | None = None,
) -> Rehearsed:
    """Walk the clips forward from their first frame, prompted there.

    `features` of all frames in order, (I * T, …), spare the encoder where it is frozen.
    """
    finest = None
    if features is None:
        features, finest = encode(network, batch.frames.flatten(0, 1))
    walk = _Walk(network, batch, script, features)
    answers = [walk.frame(index, correct) for index in range(batch.frames.shape[1])]
    return Rehearsed(walk.attempts, answers, finest)


class _Walk:
    """One walk of one batch: what was attempted and what is remembered."""

    def __init__(self, network: Network, batch: Batch, script: Script, features: Features) -> None:
        self.network, self.batch, self.script = network, batch, script
        self.features = features
        self.attempts: list[Attempt] = []
        self.kept: list[_Kept] = []

    def frame(self, index: int, correct: Correct) -> Answer:
        """Answer a frame, correct it where the script says so, and remember it."""
        count = len(self.batch.said)
        every = torch.arange(count, device=self.batch.clip.device)
        said = list(self.batch.said) if index == 0 else [Said()] * count
        answer = self._ask(index, every, said, None)
        conditioning = torch.full((count,), index == 0, device=every.device)
        for _ in range(self.script.corrections.get(index, 0)):
            rows = self._wrong(index, said)
            if not len(rows):
                break
            said = self._clicked(index, rows, (said, answer), correct)
            again = self._ask(
                index, rows, [said[row] for row in rows.tolist()], answer.logits[rows]
            )
            answer = _merged(answer, again, rows)
            conditioning[rows] = True
        self._remember(index, answer, conditioning)
        return answer

    def _wrong(self, index: int, said: Sequence[Said]) -> Tensor:
        """Objects that can be corrected: those that are there, and whose mask was not given."""
        there = self.batch.masks[:, index].flatten(1).any(dim=1)
        given = torch.tensor([each.mask is not None for each in said], device=there.device)
        return torch.nonzero(there & ~given)[:, 0]

    def _clicked(
        self, index: int, rows: Tensor, so_far: tuple[list[Said], Answer], correct: Correct
    ) -> list[Said]:
        said, answer = list(so_far[0]), so_far[1]
        predicted = (_resized(answer.logits[rows].detach(), self.batch.size) > 0).cpu().numpy()
        truth = self.batch.masks[rows, index].cpu().numpy()
        for row, mask, true in zip(rows.tolist(), predicted, truth, strict=True):
            point, positive = correct(mask, true)
            said[row] = replace(
                said[row],
                points=(*said[row].points, point),
                positive=(*said[row].positive, positive),
            )
        return said

    def _ask(self, index: int, rows: Tensor, said: Sequence[Said], before: Tensor | None) -> Answer:
        """One answer for each of `rows`; those with as many points and memories go through the network together."""
        shown, pointed = self._shown(index, rows)
        alike: dict[tuple[object, ...], list[int]] = {}
        for place, each in enumerate(said):
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
            asked = _Asked(
                index,
                rows[chosen],
                [said[place] for place in places],
                None if before is None else before[chosen],
            )
            parts.append(self._together(asked, patterns))
        order = torch.tensor(
            [place for places in alike.values() for place in places], device=rows.device
        ).argsort()
        return _joined(parts, order)

    def _together(self, asked: _Asked, patterns: tuple[np.ndarray, np.ndarray]) -> Answer:
        features = self._features(asked.frame, asked.rows)
        if asked.said[0].mask is not None:
            return self._given(asked, features)
        points, labels = _points(asked.said, self.batch.size, asked.rows.device)
        image = self._conditioned(asked, features[2], patterns)
        decoded = self.network.decode(
            features, image, points, labels, self._dense(asked, points, labels)
        )
        several = points.shape[1] <= _MULTIMASK_POINTS or not self.network.configuration.single_mask
        self.attempts.append(Attempt(asked.frame, asked.kind, asked.rows, decoded, several))
        return self._answer(asked, decoded, best(decoded) if several else single(decoded))

    def _given(self, asked: _Asked, features: Features) -> Answer:
        """A mask is its own answer; the decoder, shown it, gives the pointer."""
        masks = torch.from_numpy(
            np.stack([np.asarray(each.mask, dtype=np.float32) for each in asked.said])
        ).to(asked.rows.device)
        logits = _shrunk(masks * (2 * _GIVEN) - _GIVEN, self.batch.size // 4)
        points, labels = _points(asked.said, self.batch.size, asked.rows.device)
        if self.network.configuration.dense_prompts:
            image, dense = self.network.unconditioned(features[2]), prompt_tokens.filled(logits)
        else:
            image, dense = features[2], self.network.mask_downsample(masks[:, None])[:, 0]
        decoded = self.network.decode(features, image, points, labels, dense)
        answer = self._answer(
            asked,
            decoded,
            single(decoded) if self.network.configuration.single_mask else best(decoded),
        )
        return replace(answer, logits=logits, present=torch.ones_like(answer.present))

    def _answer(self, asked: _Asked, decoded: Decoded, chosen: Chosen) -> Answer:
        """The chosen masks, empty where the object is thought absent."""
        trained = self.network.configuration.presence_head
        present = (decoded.scores if trained else chosen.logits.amax(dim=(1, 2))) > 0
        if self.script.taught:
            present = self.batch.masks[asked.rows, asked.frame].flatten(1).any(dim=1)
        logits = torch.where(present[:, None, None], chosen.logits, ABSENT_LOGIT)
        return Answer(
            logits,
            chosen.ious,
            present,
            self.network.pointers(chosen.tokens, present.float() - 0.5),
        )

    def _features(self, index: int, rows: Tensor) -> Features:
        where = self.batch.clip[rows] * self.batch.frames.shape[1] + index
        fine, middle, coarse = self.features
        return fine[where], middle[where], coarse[where]

    def _dense(self, asked: _Asked, points: Tensor, labels: Tensor) -> Tensor | None:
        configuration, before = self.network.configuration, asked.before
        if before is None and self.kept and configuration.carried:
            return prompt_tokens.filled(self._carried(asked))
        before = (
            before.clamp(-_CLAMP, _CLAMP)
            if before is not None and configuration.previous_logits
            else None
        )
        if not configuration.dense_prompts:
            return before
        return (
            prompt_tokens.drawn(points, labels, self.batch.size // 4, before)
            if points.shape[1]
            else before
        )

    def _carried(self, asked: _Asked) -> Tensor:
        """(R, h, w) logits of the last frame each object was on, if it is one of those just walked."""
        logits = torch.full_like(self.kept[-1].answer.logits[asked.rows], ABSENT_LOGIT)
        for kept in self.kept:
            if asked.frame - kept.frame <= max(1, self.script.recent):
                there = kept.answer.present[asked.rows, None, None]
                logits = torch.where(there, kept.answer.logits[asked.rows].detach(), logits)
        return logits

    def _shown(self, index: int, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """(R, frames kept) bool: whose features are shown, and whose pointers."""
        if not self.kept:
            return np.zeros((len(rows), 0), bool), np.zeros((len(rows), 0), bool)
        conditioning = (
            torch.stack([kept.conditioning for kept in self.kept], dim=1)[rows].cpu().numpy()
        )
        ages = np.array([index - kept.frame for kept in self.kept])
        return conditioning | (ages <= self.script.recent), conditioning | (
            ages < self.script.pointers
        )

    def _conditioned(
        self, asked: _Asked, coarse: Tensor, patterns: tuple[np.ndarray, np.ndarray]
    ) -> Tensor:
        if not self.kept:
            return self.network.unconditioned(coarse)
        index, rows = asked.frame, asked.rows
        shown, pointed = (
            [kept for kept, there in zip(self.kept, pattern, strict=True) if there]
            for pattern in patterns
        )
        slots = [torch.where(kept.conditioning[rows], 0, index - kept.frame) for kept in shown]
        ages = [
            torch.full((len(rows),), self._age(index, kept), device=rows.device) for kept in pointed
        ]
        recalled = Recalled(
            torch.stack([kept.features[rows] for kept in shown], dim=1),
            torch.stack(slots, dim=1),
            torch.stack([kept.answer.pointers[rows] for kept in pointed], dim=1),
            torch.stack(ages, dim=1),
        )
        return self.network.conditioned(coarse, recalled)

    def _age(self, index: int, kept: _Kept) -> float:
        """In parts of the oldest pointer's, as Sam2 gives it."""
        older = self.script.older if kept.frame == 0 else 0
        return (index - kept.frame + older) / max(1, self.script.pointers - 1)

    def _remember(self, index: int, answer: Answer, conditioning: Tensor) -> None:
        if index == self.batch.frames.shape[1] - 1:
            return  # nobody will ask
        rows = torch.arange(len(conditioning), device=conditioning.device)
        logits = _resized(answer.logits, self.batch.size)
        masks = torch.where(conditioning[:, None, None], (logits > 0).float(), logits.sigmoid())
        features = self.network.remember(self._features(index, rows)[2], masks, ~answer.present)
        self.kept.append(_Kept(index, conditioning.clone(), features, answer))


def _points(said: Sequence[Said], size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(R, P, 2) points (x, y) in 0..1 and (R, P) labels, the corners of a box first; all alike in number."""
    places, labels = [], []
    for each in said:
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
    yx = np.array(places, dtype=np.float64).reshape(len(said), -1, 2)
    xy = ((yx[..., ::-1] + 0.5) / size).astype(np.float32)
    return torch.from_numpy(xy.copy()).to(device), torch.tensor(
        labels, dtype=torch.long, device=device
    ).view(len(said), -1)


def _resized(logits: Tensor, side: int) -> Tensor:
    return functional.interpolate(
        logits[:, None], size=(side, side), mode="bilinear", align_corners=False
    )[:, 0]


def _shrunk(planes: Tensor, side: int) -> Tensor:
    return functional.interpolate(
        planes[:, None], size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )[:, 0]


def _joined(parts: Sequence[Answer], order: Tensor) -> Answer:
    """Answers one after the other, put in order."""
    if len(parts) == 1:
        return parts[0]
    columns = [
        torch.cat([getattr(part, name) for part in parts])[order]
        for name in ("logits", "ious", "present", "pointers")
    ]
    return Answer(*columns)


def _merged(old: Answer, new: Answer, rows: Tensor) -> Answer:
    """`old` with `new` in place of `rows`."""
    count = len(old.ious)
    source = torch.arange(count, device=rows.device)
    source[rows] = torch.arange(len(rows), device=rows.device) + count
    return _joined([old, new], source)
