"""ToyModel: a video model in NumPy that is exact on the scenes of `napari_sam2.testing.scenes`, and says what it was asked.

It needs no weights and no torch, takes milliseconds, and depends on all that an engine has to get
right: which memories it is shown, in which slots, whether they came with their pointers, which
logits go along with a correction. It is strict where a real model would compute something
meaningless: a memory without its features, or of another grid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import ModelError
from napari_sam2.core.presence import Presence
from napari_sam2.core.result import ABSENT_LOGIT, Alternative, Embedding, Query, Recall, Segment
from napari_sam2.core.video import Frame
from napari_sam2.core.window import Window
from napari_sam2.testing import regions

FOREGROUND = 0.5
"""Pixels above this are objects; the scenes keep theirs above 0.6 of the brightest."""

_LEVELS = 65535  # features are 16-bit counts, so that a round trip through any file is exact
_LOGIT = 8.0
_MEMORY = 10.0  # SAM 2 remembers masks as 20 × probability - 10
_POINTER = 4  # level, area, y, x


@dataclass(frozen=True)
class Shown:
    """One Recall as the model got it."""

    frame: int
    slot: int | None
    age: int | None
    conditioning: bool


@dataclass(frozen=True)
class Call:
    """One call of the toy model.

    `shown` and `logits` go with `tracks`: the memories shown, and the largest absolute value of the
    previous logits (None where none were given). `frames` are several for "embed" alone,
    `conditioning` is filled for "remember" alone.
    """

    kind: Literal["embed", "segment", "remember"]
    frames: tuple[int, ...]
    tracks: tuple[int, ...] = ()
    shown: tuple[tuple[Shown, ...], ...] = ()
    logits: tuple[float | None, ...] = ()
    conditioning: tuple[bool, ...] = ()

    @property
    def frame(self) -> int:
        """The one frame of a "segment" or "remember" call."""
        return self.frames[0]


@dataclass(frozen=True, eq=False)
class _Answer:
    mask: np.ndarray  # (h, w) bool
    seed: np.ndarray | None = (
        None  # (y, x) cell where the model is most certain; None: equally everywhere
    )
    distance: int = 0  # frames to the memory it came from


class ToyModel:
    """A VideoModel that sees objects as connected regions of one grey value.

    A click gives the region at the click, a box the commonest grey value inside it, a mask itself.
    With memories, the object is what has the grey value of the nearest pointer shown and overlaps
    the nearest mask shown that it overlaps at all; without a pointer, any bright region will do;
    where nothing overlaps, it is absent. A correction starts from the previous logits, else from
    the memories. Negative clicks take the cells nearest to them.

    Parameters
    ----------
    tolerance
        Grey values (0..1) that differ by no more belong together. The default tells neighbouring
        12-bit values apart; raise it for scenes with noise.
    stride
        Input pixels per cell of the features and logits (SAM 2: 4). At 1, answers are exact to the
        pixel.
    input_sizes
        As in `ModelCard`.
    """

    def __init__(
        self,
        *,
        tolerance: float = 1e-4,
        stride: int = 1,
        input_sizes: tuple[int, ...] = (64, 128, 256),
    ) -> None:
        identity = f"toy|{tolerance}|{stride}|{input_sizes}"
        self.card = ModelCard(
            "toy",
            description="connected regions of one grey value, for tests",
            licence="BSD-3-Clause",
            sha256=hashlib.sha256(identity.encode()).hexdigest(),
            input_sizes=input_sizes,
        )
        self.device = "cpu"
        self.calls: list[Call] = []
        self._tolerance = tolerance
        self._stride = stride

    @property
    def embedded_frames(self) -> list[int]:
        """Every frame embedded so far, in order, as often as it was."""
        return [frame for call in self.calls if call.kind == "embed" for frame in call.frames]

    def asked_frames(self, track: int) -> list[int]:
        """Every frame this track was segmented on so far, in order, as often as it was."""
        return [
            call.frame for call in self.calls if call.kind == "segment" and track in call.tracks
        ]

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Features: one (h, w) uint16 picture, the pixels nearest to the cells' centres."""
        self.calls.append(Call("embed", tuple(frame.index for frame, _ in views)))
        return [
            Embedding(
                frame.index,
                window,
                (self._sampled(frame.pixels * _LEVELS, window).round().astype(np.uint16),),
            )
            for frame, window in views
        ]

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One Segment for each Query, in order.

        The predicted IoU tells what was shown: 0.9, and 0.04 more with a prompt, 0.02 with logits,
        0.02 with a conditioning memory, 0.01 less for each frame to the memory that was followed
        (0.09 at most).
        """
        self.calls.append(
            Call(
                "segment",
                (embedding.frame,),
                tuple(query.track for query in queries),
                tuple(tuple(_shown(recall) for recall in query.recalls) for query in queries),
                tuple(
                    None if query.logits is None else float(np.abs(query.logits).max())
                    for query in queries
                ),
            )
        )
        return [self._segment(embedding, query) for query in queries]

    def remember(self, embedding: Embedding, segments: Sequence[Segment]) -> list[tuple[Any, ...]]:
        """Features: one (h, w) float32 mask, ±10 where conditioning, else 20 × probability - 10."""
        self.calls.append(
            Call(
                "remember",
                (embedding.frame,),
                tuple(each.track for each in segments),
                conditioning=tuple(each.conditioning for each in segments),
            )
        )
        for each in segments:
            if (each.frame, each.window) != (embedding.frame, embedding.window):
                raise ModelError(
                    f"a segment of frame {each.frame} in {each.window!r} cannot be remembered "
                    "with the embedding of frame "
                    f"{embedding.frame} in {embedding.window!r}: give the embedding it came from",
                    track=each.track,
                )
            _same_grid(each.logits, embedding, each.track)
        return [(_remembered(each),) for each in segments]

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """High and low bytes of the picture."""
        high, low = np.divmod(features[0], 256)
        return high.astype(np.uint8), low.astype(np.uint8)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse, from numbers of any type."""
        high, low = (each.astype(np.uint16) for each in arrays)
        return (high * np.uint16(256) + low,)

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """Bytes these features take."""
        return sum(int(each.nbytes) for each in features)

    def _segment(self, embedding: Embedding, query: Query) -> Segment:
        pixels = embedding.features[0].astype(np.float32) / _LEVELS
        answer = self._answer(pixels, embedding, query)
        logits = _logits(answer)
        offered = (
            self._whole(pixels, answer) if len(query.said.points) == 1 and not query.recalls else ()
        )
        iou = _trust(query, answer) if answer.mask.any() else 0.0
        return Segment(
            track=query.track,
            frame=embedding.frame,
            window=embedding.window,
            logits=logits,
            iou=iou,
            presence_score=_LOGIT if answer.mask.any() else -_LOGIT,
            pointer=_pointer(pixels, answer.mask),
            presence=_presence(query, answer.mask),
            alternatives=(Alternative(logits, iou), *offered) if offered else (),
        )

    def _answer(self, pixels: np.ndarray, embedding: Embedding, query: Query) -> _Answer:
        said = query.said
        if said.mask is not None:
            return _Answer(self._sampled(said.mask, embedding.window))
        if not said.points and said.box is None:
            if not query.recalls:
                raise ModelError(
                    "asked with neither prompt nor memory: give one of them",
                    frame=embedding.frame,
                    track=query.track,
                )
            return self._recalled(pixels, embedding, query)
        base = self._base(pixels, embedding, query)
        cells = [self._cell(point, embedding.window) for point in said.points]
        mask = base.mask.copy()
        for cell, positive in zip(cells, said.positive, strict=True):
            if positive and all(
                0 <= place < length for place, length in zip(cell, mask.shape, strict=True)
            ):
                mask |= regions.at(self._alike(pixels, float(pixels[cell])), cell)
        clicked = [cell for cell, positive in zip(cells, said.positive, strict=True) if positive]
        seed = np.mean(clicked, axis=0) if clicked else base.seed
        return _Answer(regions.carved(mask, cells, said.positive), seed, base.distance)

    def _base(self, pixels: np.ndarray, embedding: Embedding, query: Query) -> _Answer:
        """What the clicks add to and take from: the box, else the previous answer, else the memories, else nothing."""
        if query.said.box is not None:
            return _Answer(self._boxed(pixels, query.said.box, embedding.window))
        if query.logits is not None:
            _same_grid(query.logits, embedding, query.track)
            return _Answer(np.asarray(query.logits > 0))
        if query.recalls:
            return self._recalled(pixels, embedding, query)
        return _Answer(np.zeros(pixels.shape, dtype=bool))

    def _recalled(self, pixels: np.ndarray, embedding: Embedding, query: Query) -> _Answer:
        level = _level(query.recalls)
        alike = pixels > FOREGROUND if level is None else self._alike(pixels, level)
        for distance, recall in sorted(_in_slots(query, embedding.frame), key=lambda each: each[0]):
            past = _past(recall, embedding, query.track)
            found = regions.overlapping(alike, past)
            if found.any():
                return _Answer(found, regions.centre(past), distance)
        return _Answer(np.zeros(pixels.shape, dtype=bool))

    def _boxed(
        self, pixels: np.ndarray, box: tuple[float, float, float, float], window: Window
    ) -> np.ndarray:
        low = self._cells(
            np.array(box[:2]) - 0.5, window
        )  # corners are pixel centres: the pixels there are inside
        high = self._cells(np.array(box[2:]) + 0.5, window)
        bright = regions.inside(pixels.shape, low, high) & (pixels > FOREGROUND)
        if not bright.any():
            return bright
        levels, counts = np.unique(pixels[bright], return_counts=True)
        return np.asarray(bright & self._alike(pixels, float(levels[counts.argmax()])))

    def _whole(self, pixels: np.ndarray, answer: _Answer) -> tuple[Alternative, ...]:
        """The other reading of one click: everything bright that hangs together with the answer."""
        whole = _Answer(regions.overlapping(pixels > FOREGROUND, answer.mask), answer.seed)
        return (Alternative(_logits(whole), 0.5),) if whole.mask.any() else ()

    def _alike(self, pixels: np.ndarray, level: float) -> np.ndarray:
        return np.asarray((pixels > FOREGROUND) & (np.abs(pixels - level) <= self._tolerance))

    def _sampled(self, plane: np.ndarray, window: Window) -> np.ndarray:
        """(H, W) plane at the cells' centres: the nearest pixel, edges repeated, so that grey values are never mixed."""
        cells = max(1, window.size // self._stride)
        centres = (np.arange(cells) + 0.5) * self._stride - 0.5
        places = window.to_frame(np.stack([centres, centres], axis=-1))
        rows, columns = (
            np.clip(np.floor(places[:, i] + 0.5).astype(int), 0, plane.shape[i] - 1)
            for i in range(2)
        )
        return np.asarray(plane[np.ix_(rows, columns)])

    def _cells(self, yx: np.ndarray, window: Window) -> np.ndarray:
        return np.asarray((window.to_model(yx) + 0.5) / self._stride - 0.5)

    def _cell(self, yx: tuple[float, float], window: Window) -> regions.Cell:
        y, x = np.floor(self._cells(np.array(yx), window) + 0.5).astype(int)
        return int(y), int(x)


def _in_slots(query: Query, frame: int) -> list[tuple[int, Recall]]:
    """The memories whose masks are shown, with their distance: the slot, for conditioning frames the true one."""
    return [
        (recall.slot or abs(frame - recall.memory.frame), recall)
        for recall in query.recalls
        if recall.slot is not None
    ]


def _level(recalls: Sequence[Recall]) -> float | None:
    """The grey value of the object as the nearest pointer shown has it; None where no pointer of it is shown."""
    shown = [
        (abs(recall.age), float(recall.memory.pointer[0]))
        for recall in recalls
        if recall.age is not None and recall.memory.pointer[0] > 0
    ]
    return min(shown)[1] if shown else None


def _past(recall: Recall, embedding: Embedding, track: int) -> np.ndarray:
    memory = recall.memory
    if memory.features is None:
        raise ModelError(
            f"the memory of frame {memory.frame} is shown in slot {recall.slot} without "
            "features: make them again",
            track=track,
        )
    _same_grid(memory.features[0], embedding, track)
    return np.asarray(memory.features[0] > 0)


def _same_grid(grid: np.ndarray, embedding: Embedding, track: int) -> None:
    expected = embedding.features[0].shape
    if grid.shape != expected:
        raise ModelError(
            f"logits or memory of shape {grid.shape!r}: expected {expected!r}, as the embedding",
            frame=embedding.frame,
            track=track,
        )


def _logits(answer: _Answer) -> np.ndarray:
    """(h, w) float32: ±10 for a mask that was given, else ±8 at the seed and falling off around it, of one sign."""
    if not answer.mask.any():
        return np.full(answer.mask.shape, ABSENT_LOGIT, dtype=np.float32)
    if answer.seed is None:
        return np.where(answer.mask, _MEMORY, -_MEMORY).astype(np.float32)
    rows, columns = np.indices(answer.mask.shape)
    away = np.hypot(rows - answer.seed[0], columns - answer.seed[1]) / max(answer.mask.shape)
    certain = np.asarray(_LOGIT * np.exp(-away), dtype=np.float32)
    return np.where(answer.mask, certain, -certain)


def _remembered(segment: Segment) -> np.ndarray:
    if segment.conditioning:
        return np.where(segment.logits > 0, _MEMORY, -_MEMORY).astype(np.float32)
    probability = 0.5 * (1.0 + np.tanh(0.5 * segment.logits.astype(np.float64)))
    return np.asarray(2 * _MEMORY * probability - _MEMORY, dtype=np.float32)


def _pointer(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return np.zeros(_POINTER, dtype=np.float32)
    return np.array([np.median(pixels[mask]), mask.sum(), *regions.centre(mask)], dtype=np.float32)


def _presence(query: Query, mask: np.ndarray) -> Presence:
    if query.said.points or query.said.box is not None or query.said.mask is not None:
        return Presence.PROMPTED
    return Presence.TRACKED if mask.any() else Presence.ABSENT


def _trust(query: Query, answer: _Answer) -> float:
    prompted = _presence(query, answer.mask) is Presence.PROMPTED
    conditioned = any(recall.memory.conditioning for recall in query.recalls)
    return (
        0.9
        + 0.04 * prompted
        + 0.02 * (query.logits is not None)
        + 0.02 * conditioned
        - 0.01 * min(9, answer.distance)
    )


def _shown(recall: Recall) -> Shown:
    return Shown(recall.memory.frame, recall.slot, recall.age, recall.memory.conditioning)
