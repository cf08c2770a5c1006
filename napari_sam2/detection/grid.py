"""Grids: the model is asked at every place, and its sure and stable answers are objects, as SAM's automatic masks are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.errors import PlanError
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, Prompt, Said
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.video import Video
from napari_sam2.detection.options import Hints
from napari_sam2.detection.seeds import _Sized, mask_prompt

PREDICTED_IOU = 0.7
STABILITY = 0.75
# logits up and down: how far the mask's edge is moved to see whether it is stable (SAM's own)
_OFFSET = 1.0
_SAME_IOU = 0.5  # from here on two answers are one object
_INSIDE = 0.8  # of the smaller one's pixels: then one answer is part of another
_LARGEST = 0.4  # of the frame: what covers more is background
_SIDE = 32  # points along the longer side where no size is known (SAM's own)
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Answer:
    """One mask the model gave: where on the frame, how sure, how stable, and where it was asked."""

    mask: np.ndarray
    corner: tuple[int, int]
    score: float
    place: tuple[float, float]

    @classmethod
    def of(
        cls,
        segment: Segment,
        shape: tuple[int, ...],
        score: float,
        place: tuple[float, float] = (0.0, 0.0),
    ) -> Answer | None:
        """What a model answered on a frame of `shape` (H, W), None where that is nothing."""
        if not segment.present:
            return None
        rows, columns = segment.window.region(segment.logits, (shape[0], shape[1]))
        mask = segment.window.paste(segment.logits, rows, columns) > 0
        return cls(mask, (rows.start, columns.start), score, place) if mask.any() else None

    @property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.mask))

    def whole(self, shape: tuple[int, ...]) -> np.ndarray:
        """(H, W) bool of the whole frame."""
        plane = np.zeros(shape, dtype=bool)
        plane[
            tuple(
                slice(low, low + side)
                for low, side in zip(self.corner, self.mask.shape, strict=True)
            )
        ] = self.mask
        return plane


class Grid(_Sized):
    """Points about half a diameter apart, and what the model says to them."""

    name = "grid"

    def __init__(self, hints: Hints | None = None) -> None:
        super().__init__(hints)
        if self.hints.model is None:
            raise PlanError(f"the source {self.name!r} asks a model: give one")
        self.model: VideoModel = self.hints.model

    def places(self, video: Video, frame: int) -> np.ndarray:
        """(n, 2) places (y, x) where the model is asked."""
        scale = self.scale(video)
        step = max(4.0, 0.5 * scale.diameter_px) if scale else max(video.shape[1:]) / _SIDE
        return lattice(video.shape[1:], step)

    def prompts(
        self, video: Video, frame: int, *, first: int = 1, taken: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `PromptSource`.

        The answers become masks, boxes or the clicks that gave them, see `Hints.kind`.
        """
        places = self.places(video, frame)
        if taken is not None:
            places = places[~taken[tuple(places.round().astype(int).T)]]
        kept = apart(self.answers(video, frame, places), video.shape[1:])
        free = [each for each in kept if taken is None or _free(each, taken)]
        return [
            self._prompt(each, video, frame, first + number) for number, each in enumerate(free)
        ]

    def answers(self, video: Video, frame: int, places: np.ndarray) -> list[Answer]:
        """The sure and stable answers at these places, all masks that the model offers for each."""
        if not len(places):
            return []
        window = self.model.card.window(video.shape[1:])
        embedding = self.model.embed([(video.frame(frame), window)])[0]
        queries = [
            Query(number + 1, Said(((float(y), float(x)),), (True,)))
            for number, (y, x) in enumerate(places)
        ]
        found = []
        for start in range(0, len(queries), _AT_ONCE):
            for segment, place in zip(
                self.model.segment(embedding, queries[start : start + _AT_ONCE]),
                places[start:],
                strict=False,
            ):
                found += _offered(segment, (float(place[0]), float(place[1])), video.shape[1:])
        return found

    def _prompt(self, answer: Answer, video: Video, frame: int, track: int) -> Prompt:
        if self.hints.kind == "point":
            return PointPrompt(frame, track, [answer.place], [True])
        return mask_prompt(
            answer.mask, answer.corner, video.shape[1:], frame, track, self.hints.kind
        )


class Everything(Grid):
    """Points 32 along the longer side, whatever the size of objects: SAM's "everything"."""

    name = "everything"

    def places(self, video: Video, frame: int) -> np.ndarray:
        """(n, 2) places (y, x) where the model is asked."""
        return lattice(video.shape[1:], max(video.shape[1:]) / _SIDE)


def lattice(shape: tuple[int, ...], step: float) -> np.ndarray:
    """(n, 2) places (y, x) about `step` pixels apart, half a step from the edges."""
    axes = [
        (np.arange(max(1, round(side / step))) + 0.5) * side / max(1, round(side / step)) - 0.5
        for side in shape
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def apart(answers: Sequence[Answer], shape: tuple[int, ...]) -> list[Answer]:
    """The best of each group of answers that are one object, best first; a part of a better one is left out."""
    taken = np.zeros(shape, dtype=np.int32)
    kept: list[Answer] = []
    for answer in sorted(answers, key=lambda each: (-each.score, each.corner)):
        place = tuple(
            slice(low, low + side)
            for low, side in zip(answer.corner, answer.mask.shape, strict=True)
        )
        under, pixels = np.unique(taken[place][answer.mask], return_counts=True)
        rivals = [
            (int(n), kept[int(code) - 1].area)
            for code, n in zip(under, pixels, strict=True)
            if code
        ]
        if any(
            n / (area + answer.area - n) >= _SAME_IOU or n >= _INSIDE * min(area, answer.area)
            for n, area in rivals
        ):
            continue
        kept.append(answer)
        taken[place][answer.mask & (taken[place] == 0)] = len(kept)
    return kept


def said(prompt: Prompt) -> Said:
    """What a model is asked with by this one prompt."""
    if isinstance(prompt, PointPrompt):
        return Said(prompt.yx, prompt.positive)
    return Said(box=prompt.box) if isinstance(prompt, BoxPrompt) else Said(mask=prompt.mask)


def _offered(segment: Segment, place: tuple[float, float], shape: tuple[int, ...]) -> list[Answer]:
    if not segment.present:
        return []
    offers = [(each.logits, each.iou) for each in segment.alternatives] or [
        (segment.logits, segment.iou)
    ]
    found = []
    for logits, iou in offers:
        stable = stability(logits)
        if iou < PREDICTED_IOU or stable < STABILITY:
            continue
        rows, columns = segment.window.region(logits, (shape[0], shape[1]))
        mask = segment.window.paste(logits, rows, columns) > 0
        if 0 < np.count_nonzero(mask) <= _LARGEST * shape[0] * shape[1]:
            found.append(Answer(mask, (rows.start, columns.start), float(iou * stable), place))
    return found


def stability(logits: np.ndarray) -> float:
    """IoU of the mask with its edge moved out and in: near 1 for a sharp edge, 0 where there is no mask."""
    wide = np.count_nonzero(logits > -_OFFSET)
    return np.count_nonzero(logits > _OFFSET) / wide if wide else 0.0


def _free(answer: Answer, taken: np.ndarray) -> bool:
    place = tuple(
        slice(low, low + side) for low, side in zip(answer.corner, answer.mask.shape, strict=True)
    )
    return bool(np.count_nonzero(answer.mask & taken[place]) <= 0.5 * answer.area)
