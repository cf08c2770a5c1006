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
from napari_sam2.core.result import (
    Alternative,
    Embedding,
    MemoryReference,
    Query,
    Segment,
)
from napari_sam2.core.sam2_constants import (
    ABSENT_LOGIT,
    MASK_PROMPT_LOGIT,
    MEMORY_MASK_BIAS,
    MEMORY_MASK_SCALE,
)
from napari_sam2.core.stack import Frame
from napari_sam2.core.track import Presence
from napari_sam2.core.window import Window
from napari_sam2.testing import regions

FOREGROUND = 0.5
"""Pixels above this are objects; the scenes keep theirs above 0.6 of the brightest."""

_LEVELS = 65535  # features are 16-bit counts, so that a round trip through any file is exact
_PRESENT_LOGIT = 8.0
_POINTER_LENGTH = 4  # level, area, y, x


@dataclass(frozen=True)
class ShownMemory:
    """One Recall as the model got it."""

    frame: int
    slot: int | None
    age: int | None
    conditioning: bool


@dataclass(frozen=True)
class ModelCall:
    """One call of the toy model.

    `shown_memories` and `max_logits` go with `tracks`: the memories shown, and the largest absolute value of the
    previous logits (None where none were given). `frames` are several for "embed" alone,
    `conditioning` is filled for "encode_memory" alone.
    """

    kind: Literal["embed", "segment", "encode_memory"]
    frames: tuple[int, ...]
    tracks: tuple[int, ...] = ()
    shown_memories: tuple[tuple[ShownMemory, ...], ...] = ()
    max_logits: tuple[float | None, ...] = ()
    conditioning: tuple[bool, ...] = ()

    @property
    def frame(self) -> int:
        """The one frame of a "segment" or "encode_memory" call."""
        return self.frames[0]


@dataclass(frozen=True, eq=False)
class _ToyAnswer:
    mask: np.ndarray  # (h, w) bool
    seed: np.ndarray | None = (
        None  # (y, x) cell where the model is most certain; None: equally everywhere
    )
    memory_distance: int = 0  # frames to the memory it came from


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
        self.calls: list[ModelCall] = []
        self._tolerance = tolerance
        self._stride = stride

    @property
    def embedded_frames(self) -> list[int]:
        """Every frame embedded so far, in order, as often as it was."""
        return [frame for call in self.calls if call.kind == "embed" for frame in call.frames]

    def get_segmented_frames(self, track: int) -> list[int]:
        """Every frame this track was segmented on so far, in order, as often as it was."""
        return [
            call.frame for call in self.calls if call.kind == "segment" and track in call.tracks
        ]

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Features: one (h, w) uint16 picture, the pixels nearest to the cells' centres."""
        self.calls.append(ModelCall("embed", tuple(frame.index for frame, _ in views)))
        return [
            Embedding(
                frame.index,
                window,
                (self._sample_plane(frame.pixels * _LEVELS, window).round().astype(np.uint16),),
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
            ModelCall(
                "segment",
                (embedding.frame,),
                tuple(query.track for query in queries),
                tuple(
                    tuple(_describe_memory(recall) for recall in query.memory_references)
                    for query in queries
                ),
                tuple(
                    None if query.logits is None else float(np.abs(query.logits).max())
                    for query in queries
                ),
            )
        )
        return [self._segment(embedding, query) for query in queries]

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """Features: one (h, w) float32 mask, ±10 where conditioning, else 20 × probability - 10."""
        self.calls.append(
            ModelCall(
                "encode_memory",
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
            _check_same_grid(each.logits, embedding, each.track)
        return [(_encode_memory(each),) for each in segments]

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
        answer = self._compute_answer(pixels, embedding, query)
        logits = _compute_logits(answer)
        offered = (
            self._make_alternatives(pixels, answer)
            if len(query.prompts.points) == 1 and not query.memory_references
            else ()
        )
        iou = _predict_iou(query, answer) if answer.mask.any() else 0.0
        return Segment(
            track=query.track,
            frame=embedding.frame,
            window=embedding.window,
            logits=logits,
            iou=iou,
            presence_score=_PRESENT_LOGIT if answer.mask.any() else -_PRESENT_LOGIT,
            pointer=_compute_pointer(pixels, answer.mask),
            presence=_compute_presence(query, answer.mask),
            alternatives=(Alternative(logits, iou), *offered) if offered else (),
        )

    def _compute_answer(self, pixels: np.ndarray, embedding: Embedding, query: Query) -> _ToyAnswer:
        said = query.prompts
        if said.mask is not None:
            return _ToyAnswer(self._sample_plane(said.mask, embedding.window))
        if not said.points and said.box is None:
            if not query.memory_references:
                raise ModelError(
                    "asked with neither prompt nor memory: give one of them",
                    frame=embedding.frame,
                    track=query.track,
                )
            return self._answer_from_memory(pixels, embedding, query)
        base = self._compute_base(pixels, embedding, query)
        cells = [self._find_cell(point, embedding.window) for point in said.points]
        mask = base.mask.copy()
        for cell, positive in zip(cells, said.positive, strict=True):
            if positive and all(
                0 <= place < length for place, length in zip(cell, mask.shape, strict=True)
            ):
                mask |= regions.find_part_at(
                    self._find_same_level(pixels, float(pixels[cell])), cell
                )
        clicked = [cell for cell, positive in zip(cells, said.positive, strict=True) if positive]
        seed = np.mean(clicked, axis=0) if clicked else base.seed
        return _ToyAnswer(
            regions.remove_negative_clicks(mask, cells, said.positive), seed, base.memory_distance
        )

    def _compute_base(self, pixels: np.ndarray, embedding: Embedding, query: Query) -> _ToyAnswer:
        """What the clicks add to and take from: the box, else the previous answer, else the memories, else nothing."""
        if query.prompts.box is not None:
            return _ToyAnswer(self._find_in_box(pixels, query.prompts.box, embedding.window))
        if query.logits is not None:
            _check_same_grid(query.logits, embedding, query.track)
            return _ToyAnswer(np.asarray(query.logits > 0))
        if query.memory_references:
            return self._answer_from_memory(pixels, embedding, query)
        return _ToyAnswer(np.zeros(pixels.shape, dtype=bool))

    def _answer_from_memory(
        self, pixels: np.ndarray, embedding: Embedding, query: Query
    ) -> _ToyAnswer:
        level = _find_level(query.memory_references)
        alike = pixels > FOREGROUND if level is None else self._find_same_level(pixels, level)
        for distance, recall in sorted(
            _list_slot_memories(query, embedding.frame), key=lambda each: each[0]
        ):
            past = _get_memory_mask(recall, embedding, query.track)
            found = regions.find_overlapping_parts(alike, past)
            if found.any():
                return _ToyAnswer(found, regions.compute_centre(past), distance)
        return _ToyAnswer(np.zeros(pixels.shape, dtype=bool))

    def _find_in_box(
        self, pixels: np.ndarray, box: tuple[float, float, float, float], window: Window
    ) -> np.ndarray:
        low = self._convert_to_cells(
            np.array(box[:2]) - 0.5, window
        )  # corners are pixel centres: the pixels there are inside
        high = self._convert_to_cells(np.array(box[2:]) + 0.5, window)
        bright = regions.make_box_mask(pixels.shape, low, high) & (pixels > FOREGROUND)
        if not bright.any():
            return bright
        levels, counts = np.unique(pixels[bright], return_counts=True)
        return np.asarray(bright & self._find_same_level(pixels, float(levels[counts.argmax()])))

    def _make_alternatives(self, pixels: np.ndarray, answer: _ToyAnswer) -> tuple[Alternative, ...]:
        """The other reading of one click: everything bright that hangs together with the answer."""
        whole = _ToyAnswer(
            regions.find_overlapping_parts(pixels > FOREGROUND, answer.mask), answer.seed
        )
        return (Alternative(_compute_logits(whole), 0.5),) if whole.mask.any() else ()

    def _find_same_level(self, pixels: np.ndarray, level: float) -> np.ndarray:
        return np.asarray((pixels > FOREGROUND) & (np.abs(pixels - level) <= self._tolerance))

    def _sample_plane(self, plane: np.ndarray, window: Window) -> np.ndarray:
        """(H, W) plane at the cells' centres: the nearest pixel, edges repeated, so that grey values are never mixed."""
        cells = max(1, window.size // self._stride)
        centres = (np.arange(cells) + 0.5) * self._stride - 0.5
        places = window.to_frame(np.stack([centres, centres], axis=-1))
        rows, columns = (
            np.clip(np.floor(places[:, i] + 0.5).astype(int), 0, plane.shape[i] - 1)
            for i in range(2)
        )
        return np.asarray(plane[np.ix_(rows, columns)])

    def _convert_to_cells(self, yx: np.ndarray, window: Window) -> np.ndarray:
        return np.asarray((window.to_model(yx) + 0.5) / self._stride - 0.5)

    def _find_cell(self, yx: tuple[float, float], window: Window) -> regions.GridCell:
        y, x = np.floor(self._convert_to_cells(np.array(yx), window) + 0.5).astype(int)
        return int(y), int(x)


def _list_slot_memories(query: Query, frame: int) -> list[tuple[int, MemoryReference]]:
    """The memories whose masks are shown, with their distance: the slot, for conditioning frames the true one."""
    return [
        (recall.slot or abs(frame - recall.memory.frame), recall)
        for recall in query.memory_references
        if recall.slot is not None
    ]


def _find_level(references: Sequence[MemoryReference]) -> float | None:
    """The grey value of the object as the nearest pointer shown has it; None where no pointer of it is shown."""
    shown = [
        (abs(recall.age), float(recall.memory.pointer[0]))
        for recall in references
        if recall.age is not None and recall.memory.pointer[0] > 0
    ]
    return min(shown)[1] if shown else None


def _get_memory_mask(reference: MemoryReference, embedding: Embedding, track: int) -> np.ndarray:
    memory = reference.memory
    if memory.features is None:
        raise ModelError(
            f"the memory of frame {memory.frame} is shown in slot {reference.slot} without "
            "features: make them again",
            track=track,
        )
    _check_same_grid(memory.features[0], embedding, track)
    return np.asarray(memory.features[0] > 0)


def _check_same_grid(grid: np.ndarray, embedding: Embedding, track: int) -> None:
    expected = embedding.features[0].shape
    if grid.shape != expected:
        raise ModelError(
            f"logits or memory of shape {grid.shape!r}: expected {expected!r}, as the embedding",
            frame=embedding.frame,
            track=track,
        )


def _compute_logits(answer: _ToyAnswer) -> np.ndarray:
    """(h, w) float32: ±10 for a mask that was given, else ±8 at the seed and falling off around it, of one sign."""
    if not answer.mask.any():
        return np.full(answer.mask.shape, ABSENT_LOGIT, dtype=np.float32)
    if answer.seed is None:
        return np.where(answer.mask, MASK_PROMPT_LOGIT, -MASK_PROMPT_LOGIT).astype(np.float32)
    rows, columns = np.indices(answer.mask.shape)
    away = np.hypot(rows - answer.seed[0], columns - answer.seed[1]) / max(answer.mask.shape)
    certain = np.asarray(_PRESENT_LOGIT * np.exp(-away), dtype=np.float32)
    return np.where(answer.mask, certain, -certain)


def _encode_memory(segment: Segment) -> np.ndarray:
    if segment.conditioning:
        return np.where(segment.logits > 0, MASK_PROMPT_LOGIT, -MASK_PROMPT_LOGIT).astype(
            np.float32
        )
    probability = 0.5 * (1.0 + np.tanh(0.5 * segment.logits.astype(np.float64)))
    return np.asarray(MEMORY_MASK_SCALE * probability + MEMORY_MASK_BIAS, dtype=np.float32)


def _compute_pointer(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        return np.zeros(_POINTER_LENGTH, dtype=np.float32)
    return np.array(
        [np.median(pixels[mask]), mask.sum(), *regions.compute_centre(mask)], dtype=np.float32
    )


def _compute_presence(query: Query, mask: np.ndarray) -> Presence:
    if query.prompts.points or query.prompts.box is not None or query.prompts.mask is not None:
        return Presence.PROMPTED
    return Presence.TRACKED if mask.any() else Presence.ABSENT


def _predict_iou(query: Query, answer: _ToyAnswer) -> float:
    prompted = _compute_presence(query, answer.mask) is Presence.PROMPTED
    conditioned = any(recall.memory.conditioning for recall in query.memory_references)
    return (
        0.9
        + 0.04 * prompted
        + 0.02 * (query.logits is not None)
        + 0.02 * conditioned
        - 0.01 * min(9, answer.memory_distance)
    )


def _describe_memory(reference: MemoryReference) -> ShownMemory:
    return ShownMemory(
        reference.memory.frame, reference.slot, reference.age, reference.memory.conditioning
    )
