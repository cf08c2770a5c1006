"""What a model answers and what is remembered of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.track import CONDITIONING_PRESENCES, Presence
from napari_sam2.core.window import Window


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the image encoder makes of one Frame in one Window.

    `features` are the model's own; nobody else reads them.

    `get_or_make_part` is how whoever holds this keeps parts: what the model makes of other Windows of the same
    Frame when it is asked about them. Given such a Window and how to make its Embedding, it gives
    the one that was kept, or the one that is made. None: nothing is kept.
    """

    frame: int
    window: Window
    features: tuple[Any, ...]
    get_or_make_part: Callable[[Window, Callable[[], Embedding]], Embedding] | None = None

    def get_part(self, window: Window, make: Callable[[], Embedding]) -> Embedding:
        """The Embedding of another Window of the Frame: that which was kept, else what `make` gives."""
        return self.get_or_make_part(window, make) if self.get_or_make_part else make()


class ObjectPosition(NamedTuple):
    """Where an object is: the middle of its mask, and how wide a disc of as many pixels is.

    All in data pixels.
    """

    y: float
    x: float
    diameter_px: float


@dataclass(frozen=True, eq=False)
class Memory:
    """What is kept of one Segment of one Track.

    `features` (the mask on the image) and `pointer` (the object as a whole) are the model's own.
    `features` is None once they are forgotten; they can be made again from the Segment.
    `conditioning` frames were prompted or locked. `position` are where the object was, None
    where that is not known or it was nowhere.
    """

    frame: int
    conditioning: bool
    pointer: np.ndarray
    present: bool = True
    iou: float = 1.0
    features: tuple[Any, ...] | None = None
    position: ObjectPosition | None = None

    def without_features(self) -> Memory:
        """The same, its features forgotten."""
        return replace(self, features=None)


@dataclass(frozen=True, eq=False)
class MemoryReference:
    """One Memory as it is shown to the model.

    `slot` is the temporal slot of its features: 0 for a conditioning frame, n for the n-th frame
    back; None where only the pointer is shown. `age` is the signed number of frames it lies back in
    the walk's direction, for the pointer; None where the pointer is not shown.
    """

    memory: Memory
    slot: int | None
    age: int | None


@dataclass(frozen=True, eq=False)
class Query:
    """What a model is asked about one Track on one Frame.

    With neither prompt nor recalls the question has no answer. `logits` are the previous (h, w)
    answer for this frame, given along with a correction, over `window` (that of the embedding where
    None). All coordinates are data pixels; the model takes them through the Window. `video_length` is the
    number of frames of the video: SAM 2 measures the age of pointers against it where it is short.
    """

    track: int
    prompts: FramePrompts = field(default_factory=FramePrompts)
    memory_references: tuple[MemoryReference, ...] = ()
    logits: np.ndarray | None = None
    window: Window | None = None
    video_length: int | None = None

    @property
    def memories(self) -> list[Memory]:
        """Those whose features are shown."""
        return [recall.memory for recall in self.memory_references if recall.slot is not None]


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another mask the model offers for the same prompt: (h, w) float32 logits and its predicted IoU."""

    logits: np.ndarray
    iou: float


@dataclass(frozen=True, eq=False)
class Segment:
    """A model's answer for one Track on one Frame.

    Parameters
    ----------
    logits
        (h, w) float32 over `window`, above 0 where the object is; `sam2_constants.ABSENT_LOGIT` everywhere for an
        absent object.
    iou
        The IoU the model predicts for its own mask, about 0..1.
    presence_score
        Logit: above 0 where the object is on this frame.
    pointer
        (C,) float32, the object as a whole, for memory.
    presence
        What the swim lanes draw, see `Presence`.
    alternatives
        All masks offered, best first; empty where the model gave one.
    local_memory
        Whether no more than what is around the object is remembered, though more was looked at: so
        a model decided.
    """

    track: int
    frame: int
    window: Window
    logits: np.ndarray
    iou: float
    presence_score: float
    pointer: np.ndarray
    presence: Presence = Presence.TRACKED
    alternatives: tuple[Alternative, ...] = ()
    local_memory: bool = False

    @property
    def present(self) -> bool:
        """Whether the model says the object is on this frame."""
        return self.presence_score > 0

    @property
    def position(self) -> ObjectPosition | None:
        """Where the object is; None where no cell is positive."""
        cells = np.argwhere(self.logits > 0)
        if not len(cells):
            return None
        height, width = (
            self.window.height / self.logits.shape[0],
            self.window.width / self.logits.shape[1],
        )
        y, x = (cells.mean(axis=0) + 0.5) * (height, width) + (
            self.window.top - 0.5,
            self.window.left - 0.5,
        )
        return ObjectPosition(
            float(y), float(x), float(2 * np.sqrt(len(cells) * height * width / np.pi))
        )

    @property
    def conditioning(self) -> bool:
        """Whether this frame is one the others are conditioned on: prompted or locked."""
        return self.presence in CONDITIONING_PRESENCES


def compute_segment_iou(one: Segment, other: Segment) -> float:
    """The IoU of two masks in pixels of the frame, as they are drawn in a label plane; 1 where both are empty."""
    limits = (np.iinfo(np.int32).max,) * 2
    areas = [
        segment.window.find_positive_region(segment.logits, limits) for segment in (one, other)
    ]
    rows, columns = (
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(*areas, strict=True)
    )
    first, second = (
        segment.window.paste(segment.logits, rows, columns) > 0 for segment in (one, other)
    )
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 1.0
