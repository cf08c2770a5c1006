"""A video model in NumPy that is exact on the scenes of `testing.scenes`, and records its calls.

It needs no weights and no torch, takes milliseconds, and depends on everything that propagation has
to get right: which memories it gets, in which slots, with which pointers, and which logits come
with a correction. It raises an error if a real model would compute something meaningless: for a
memory without features, or of another grid.
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
"""Pixels above this are objects; those of the scenes are above 0.6 of the brightest."""

_LEVELS = 65535  # features are 16-bit integers, which every file format keeps exactly
_PRESENT_LOGIT = 8.0
_POINTER_LENGTH = 4  # level, area, y, x


@dataclass(frozen=True)
class ShownMemory:
    """A memory reference that the model got."""

    frame: int
    slot: int | None
    age: int | None
    conditioning: bool


@dataclass(frozen=True)
class ModelCall:
    """A call of the toy model.

    Parameters
    ----------
    kind
        Method that was called.
    frames
        Frames of the call; several for "embed" only.
    tracks
        Tracks of the queries or segments, in order.
    shown_memories, max_logits
        By track: the memories of the query, and the largest absolute value of its previous logits
        (None if it has none).
    conditioning
        By track, for "encode_memory" only.
    """

    kind: Literal["embed", "segment", "encode_memory"]
    frames: tuple[int, ...]
    tracks: tuple[int, ...] = ()
    shown_memories: tuple[tuple[ShownMemory, ...], ...] = ()
    max_logits: tuple[float | None, ...] = ()
    conditioning: tuple[bool, ...] = ()

    @property
    def frame(self) -> int:
        """The frame of a "segment" or "encode_memory" call."""
        return self.frames[0]


@dataclass(frozen=True, eq=False)
class _ToyMask:
    """A predicted mask.

    Parameters
    ----------
    mask
        (h, w) bool.
    seed
        (y, x) cell where the model is most certain; None if it is equally certain everywhere.
    memory_distance
        Frames to the memory that the mask came from.
    """

    mask: np.ndarray
    seed: np.ndarray | None = None
    memory_distance: int = 0


class ToyModel:
    """A VideoModel whose objects are connected regions of one grey value.

    A click gives the region at the click, a box the most frequent grey value inside it, a mask
    itself. With memories, the object is the region that has the grey value of the nearest pointer,
    and overlaps the nearest mask that overlaps any such region. Without a pointer, any bright
    region will do. If nothing overlaps, the object is absent. A correction starts from the
    previous logits, else from the memories. Negative clicks take the cells nearest to them.

    Parameters
    ----------
    tolerance
        Largest difference of two equal grey values (0..1). The default separates neighbouring
        12-bit values; raise it for scenes with noise.
    stride
        Input pixels per cell of the features and logits (SAM 2: 4). With 1, masks are exact to the
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
        """All frames embedded so far, in order, with repeats."""
        return [frame for call in self.calls if call.kind == "embed" for frame in call.frames]

    def get_segmented_frames(self, track: int) -> list[int]:
        """Return all frames on which a track was segmented so far, in order, with repeats."""
        return [
            call.frame for call in self.calls if call.kind == "segment" and track in call.tracks
        ]

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Make features: one (h, w) uint16 picture of the pixels nearest to the cells' centres."""
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
        """Return a Segment for each Query, in order.

        The predicted IoU depends on the query: it is 0.9, plus 0.04 with a prompt, 0.02 with
        logits and 0.02 with a conditioning memory, less 0.01 for each frame to the memory that the
        mask came from (at most 0.09).
        """
        self.calls.append(
            ModelCall(
                "segment",
                (embedding.frame,),
                tuple(query.track for query in queries),
                tuple(_describe_memories(query) for query in queries),
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
        """Make features: a (h, w) float32 mask, ±10 if conditioning, else 20 × probability - 10."""
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
                    f"the memory of a segment of frame {each.frame} in {each.window!r} cannot be "
                    f"encoded with the embedding of frame {embedding.frame} in "
                    f"{embedding.window!r}: give the embedding it came from",
                    track=each.track,
                )
            _check_same_grid(each.logits, embedding, each.track)
        return [(_encode_memory(each),) for each in segments]

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """Split the picture into high and low bytes."""
        high, low = np.divmod(features[0], 256)
        return high.astype(np.uint8), low.astype(np.uint8)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """Invert `to_arrays`, for numbers of any type."""
        high, low = (each.astype(np.uint16) for each in arrays)
        return (high * np.uint16(256) + low,)

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """Return the bytes that features take."""
        return sum(int(each.nbytes) for each in features)

    def _segment(self, embedding: Embedding, query: Query) -> Segment:
        pixels = embedding.features[0].astype(np.float32) / _LEVELS
        found = self._predict(pixels, embedding, query)
        logits = _compute_logits(found)
        is_first_click = len(query.prompts.points) == 1 and not query.memory_references
        others = self._make_alternatives(pixels, found) if is_first_click else ()
        iou = _predict_iou(query, found) if found.mask.any() else 0.0
        return Segment(
            track=query.track,
            frame=embedding.frame,
            window=embedding.window,
            logits=logits,
            iou=iou,
            presence_score=_PRESENT_LOGIT if found.mask.any() else -_PRESENT_LOGIT,
            pointer=_compute_pointer(pixels, found.mask),
            presence=_compute_presence(query, found.mask),
            alternatives=(Alternative(logits, iou), *others) if others else (),
        )

    def _predict(self, pixels: np.ndarray, embedding: Embedding, query: Query) -> _ToyMask:
        prompts = query.prompts
        if prompts.mask is not None:
            return _ToyMask(self._sample_plane(prompts.mask, embedding.window))
        if not prompts.points and prompts.box is None:
            if not query.memory_references:
                raise ModelError(
                    "the query has neither a prompt nor a memory: give one of them",
                    frame=embedding.frame,
                    track=query.track,
                )
            return self._predict_from_memory(pixels, embedding, query)
        base = self._compute_base(pixels, embedding, query)
        cells = [self._find_cell(point, embedding.window) for point in prompts.points]
        positive = [cell for cell, sign in zip(cells, prompts.positive, strict=True) if sign]
        mask = self._add_clicked_regions(pixels, base.mask, positive)
        return _ToyMask(
            regions.remove_negative_clicks(mask, cells, prompts.positive),
            np.mean(positive, axis=0) if positive else base.seed,
            base.memory_distance,
        )

    def _compute_base(self, pixels: np.ndarray, embedding: Embedding, query: Query) -> _ToyMask:
        """Compute the mask that clicks change: of the box, the previous logits or the memories."""
        if query.prompts.box is not None:
            return _ToyMask(self._find_in_box(pixels, query.prompts.box, embedding.window))
        if query.logits is not None:
            _check_same_grid(query.logits, embedding, query.track)
            return _ToyMask(np.asarray(query.logits > 0))
        if query.memory_references:
            return self._predict_from_memory(pixels, embedding, query)
        return _ToyMask(np.zeros(pixels.shape, dtype=bool))

    def _add_clicked_regions(
        self, pixels: np.ndarray, mask: np.ndarray, cells: Sequence[regions.GridCell]
    ) -> np.ndarray:
        added = mask.copy()
        for cell in cells:
            if all(0 <= index < length for index, length in zip(cell, mask.shape, strict=True)):
                same_level = self._find_same_level(pixels, float(pixels[cell]))
                added |= regions.find_part_at(same_level, cell)
        return added

    def _predict_from_memory(
        self, pixels: np.ndarray, embedding: Embedding, query: Query
    ) -> _ToyMask:
        level = _find_level(query.memory_references)
        candidates = pixels > FOREGROUND if level is None else self._find_same_level(pixels, level)
        for distance, reference in sorted(
            _list_slot_memories(query, embedding.frame), key=lambda each: each[0]
        ):
            past = _get_memory_mask(reference, embedding, query.track)
            found = regions.find_overlapping_parts(candidates, past)
            if found.any():
                return _ToyMask(found, regions.compute_centre(past), distance)
        return _ToyMask(np.zeros(pixels.shape, dtype=bool))

    def _find_in_box(
        self, pixels: np.ndarray, box: tuple[float, float, float, float], window: Window
    ) -> np.ndarray:
        # corners are pixel centres, and these pixels are inside
        low = self._convert_to_cells(np.array(box[:2]) - 0.5, window)
        high = self._convert_to_cells(np.array(box[2:]) + 0.5, window)
        bright = regions.make_box_mask(pixels.shape, low, high) & (pixels > FOREGROUND)
        if not bright.any():
            return bright
        levels, counts = np.unique(pixels[bright], return_counts=True)
        return np.asarray(bright & self._find_same_level(pixels, float(levels[counts.argmax()])))

    def _make_alternatives(self, pixels: np.ndarray, found: _ToyMask) -> tuple[Alternative, ...]:
        """Make the other mask of one click: everything bright that is connected to the first."""
        bright = regions.find_overlapping_parts(pixels > FOREGROUND, found.mask)
        if not bright.any():
            return ()
        return (Alternative(_compute_logits(_ToyMask(bright, found.seed)), 0.5),)

    def _find_same_level(self, pixels: np.ndarray, level: float) -> np.ndarray:
        return np.asarray((pixels > FOREGROUND) & (np.abs(pixels - level) <= self._tolerance))

    def _sample_plane(self, plane: np.ndarray, window: Window) -> np.ndarray:
        """Sample an (H, W) plane at the cells' centres, without mixing grey values.

        The nearest pixel is taken; edges are repeated.
        """
        cells = max(1, window.size // self._stride)
        centres = (np.arange(cells) + 0.5) * self._stride - 0.5
        positions = window.to_frame(np.stack([centres, centres], axis=-1))
        rows, columns = (
            np.clip(np.floor(positions[:, i] + 0.5).astype(int), 0, plane.shape[i] - 1)
            for i in range(2)
        )
        return np.asarray(plane[np.ix_(rows, columns)])

    def _convert_to_cells(self, yx: np.ndarray, window: Window) -> np.ndarray:
        return np.asarray((window.to_model(yx) + 0.5) / self._stride - 0.5)

    def _find_cell(self, yx: tuple[float, float], window: Window) -> regions.GridCell:
        y, x = np.floor(self._convert_to_cells(np.array(yx), window) + 0.5).astype(int)
        return int(y), int(x)


def _list_slot_memories(query: Query, frame: int) -> list[tuple[int, MemoryReference]]:
    """List the memories with a slot, and their distances.

    The distance is the slot, or the number of frames for a conditioning frame.
    """
    return [
        (reference.slot or abs(frame - reference.memory.frame), reference)
        for reference in query.memory_references
        if reference.slot is not None
    ]


def _find_level(references: Sequence[MemoryReference]) -> float | None:
    """Find the object's grey value in its nearest pointer; None if there is no pointer."""
    levels = [
        (abs(reference.age), float(reference.memory.pointer[0]))
        for reference in references
        if reference.age is not None and reference.memory.pointer[0] > 0
    ]
    return min(levels)[1] if levels else None


def _get_memory_mask(reference: MemoryReference, embedding: Embedding, track: int) -> np.ndarray:
    memory = reference.memory
    if memory.features is None:
        raise ModelError(
            f"the memory of frame {memory.frame} in slot {reference.slot} has no features: encode "
            "it again",
            track=track,
        )
    _check_same_grid(memory.features[0], embedding, track)
    return np.asarray(memory.features[0] > 0)


def _check_same_grid(grid: np.ndarray, embedding: Embedding, track: int) -> None:
    expected = embedding.features[0].shape
    if grid.shape != expected:
        raise ModelError(
            f"logits or memory of shape {grid.shape!r}: expected {expected!r}, that of the "
            "embedding",
            frame=embedding.frame,
            track=track,
        )


def _compute_logits(found: _ToyMask) -> np.ndarray:
    """Compute (h, w) float32 logits: ±10 without a seed, else ±8 at the seed and less around it."""
    if not found.mask.any():
        return np.full(found.mask.shape, ABSENT_LOGIT, dtype=np.float32)
    if found.seed is None:
        return np.where(found.mask, MASK_PROMPT_LOGIT, -MASK_PROMPT_LOGIT).astype(np.float32)
    rows, columns = np.indices(found.mask.shape)
    distance = np.hypot(rows - found.seed[0], columns - found.seed[1]) / max(found.mask.shape)
    magnitude = np.asarray(_PRESENT_LOGIT * np.exp(-distance), dtype=np.float32)
    return np.where(found.mask, magnitude, -magnitude)


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


def _predict_iou(query: Query, found: _ToyMask) -> float:
    prompted = _compute_presence(query, found.mask) is Presence.PROMPTED
    conditioned = any(each.memory.conditioning for each in query.memory_references)
    return (
        0.9
        + 0.04 * prompted
        + 0.02 * (query.logits is not None)
        + 0.02 * conditioned
        - 0.01 * min(9, found.memory_distance)
    )


def _describe_memories(query: Query) -> tuple[ShownMemory, ...]:
    return tuple(
        ShownMemory(each.memory.frame, each.slot, each.age, each.memory.conditioning)
        for each in query.memory_references
    )
