"""Embedding, Query, Segment and Memory: what goes into a model and comes out of it."""

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
    """The image features of one frame in one window.

    Parameters
    ----------
    features
        The model's own; no other code reads them.
    get_or_make_part
        Caches the embeddings of other windows of the same frame. It takes such a window and a
        function that computes its embedding. None: nothing is cached.
    """

    frame: int
    window: Window
    features: tuple[Any, ...]
    get_or_make_part: Callable[[Window, Callable[[], Embedding]], Embedding] | None = None

    def get_part(self, window: Window, make: Callable[[], Embedding]) -> Embedding:
        """The embedding of another window of the frame: cached, or computed by `make`."""
        return self.get_or_make_part(window, make) if self.get_or_make_part else make()


class ObjectPosition(NamedTuple):
    """The centre of an object's mask and the diameter of a disc of the same area.

    All in data pixels.
    """

    y: float
    x: float
    diameter_px: float


@dataclass(frozen=True, eq=False)
class Memory:
    """The memory of one segment of a track.

    Parameters
    ----------
    conditioning
        Whether the frame was prompted or locked.
    pointer
        The object pointer, (C,) float32.
    features
        Encoded mask and image, the model's own; None after they were dropped. They can be encoded
        again from the segment.
    position
        None if it is not known or the object was absent.
    """

    frame: int
    conditioning: bool
    pointer: np.ndarray
    present: bool = True
    iou: float = 1.0
    features: tuple[Any, ...] | None = None
    position: ObjectPosition | None = None

    def without_features(self) -> Memory:
        """The same memory, its features dropped."""
        return replace(self, features=None)


@dataclass(frozen=True, eq=False)
class MemoryReference:
    """A memory as the model gets it.

    Parameters
    ----------
    slot
        Temporal slot of the features: 0 for a conditioning frame, n for the n-th frame back. None
        if only the pointer is used.
    age
        Signed number of frames the memory lies back in the direction of propagation, for the
        pointer. None if the pointer is not used.
    """

    memory: Memory
    slot: int | None
    age: int | None


@dataclass(frozen=True, eq=False)
class Query:
    """The input of a model for one track on one frame: prompts, memories, or both.

    Parameters
    ----------
    prompts
        Coordinates are data pixels; the model converts them through the window.
    logits
        Previous (h, w) mask logits of this frame, for a correction.
    window
        The window of `logits`; that of the embedding if None.
    video_length
        Frames of the video. SAM 2 scales the age of pointers by it in short videos.
    """

    track: int
    prompts: FramePrompts = field(default_factory=FramePrompts)
    memory_references: tuple[MemoryReference, ...] = ()
    logits: np.ndarray | None = None
    window: Window | None = None
    video_length: int | None = None

    @property
    def memories(self) -> list[Memory]:
        """The memories whose features are used."""
        return [each.memory for each in self.memory_references if each.slot is not None]


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another mask for the same prompt: (h, w) float32 logits and the predicted IoU."""

    logits: np.ndarray
    iou: float


@dataclass(frozen=True, eq=False)
class Segment:
    """The mask of one track on one frame.

    Parameters
    ----------
    logits
        (h, w) float32 over `window`, above 0 inside the object; `sam2_constants.ABSENT_LOGIT`
        everywhere for an absent object.
    iou
        The IoU the model predicts for its own mask, about 0..1.
    presence_score
        Logit, above 0 if the object is on this frame.
    pointer
        Object pointer, (C,) float32, for memory.
    presence
        State of the track on this frame, see `Presence`.
    alternatives
        All masks of an ambiguous prompt, best first; empty if the model gave only one.
    local_memory
        Whether memory covers only the part of the frame around the object, although the model
        read more.
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
        """Whether the object is on this frame, according to the model."""
        return self.presence_score > 0

    @property
    def position(self) -> ObjectPosition | None:
        """Centre and size of the object; None if no logit is positive."""
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
        """Whether this is a conditioning frame: prompted or locked."""
        return self.presence in CONDITIONING_PRESENCES


@dataclass(frozen=True, eq=False)
class FrameDetections:
    """What a detector sees on one frame, with no prompt.

    Parameters
    ----------
    labels
        (H, W) int32: 0 background, 1..n the detected objects.
    foreground
        (H, W) uint8: the probability of any object at a pixel, 0..255.
    sureness
        (n,) float32 in 0..1, one value per object: how clearly it is an object.
    ids
        (n,) the identity of each object in the whole video, e.g. in a z-stack detected as a
        volume; None if the frames were detected one by one.
    """

    labels: np.ndarray
    foreground: np.ndarray
    sureness: np.ndarray
    ids: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class DetectedObject:
    """A detected object.

    Parameters
    ----------
    mask
        (h, w) bool: the rectangle of the frame whose first pixel is `corner`, (y, x).
    sureness
        0..1: how clearly it is an object of its own.
    """

    mask: np.ndarray
    corner: tuple[int, int]
    sureness: float

    @classmethod
    def of(cls, labels: np.ndarray, label: int, sureness: float) -> DetectedObject:
        """The object of one label of a (H, W) plane."""
        rows, columns = (np.flatnonzero((labels == label).any(axis=axis)) for axis in (1, 0))
        y, x = int(rows[0]), int(columns[0])
        part = labels[y : int(rows[-1]) + 1, x : int(columns[-1]) + 1]
        return cls(part == label, (y, x), float(sureness))

    @property
    def area_px(self) -> int:
        """Pixels of the mask."""
        return int(self.mask.sum())

    @property
    def diameter_px(self) -> float:
        """Diameter of a disc of the same area."""
        return float(2 * np.sqrt(self.area_px / np.pi))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(y, x, y2, x2): the outer edges of its pixels."""
        (y, x), (height, width) = self.corner, self.mask.shape
        return (y - 0.5, x - 0.5, y + height - 0.5, x + width - 0.5)

    def contains(self, yx: tuple[float, float]) -> bool:
        """Whether a (y, x) position in data pixels is on the mask."""
        row, column = (round(value) - low for value, low in zip(yx, self.corner, strict=True))
        inside = 0 <= row < self.mask.shape[0] and 0 <= column < self.mask.shape[1]
        return inside and bool(self.mask[row, column])

    def fill_plane(self, shape: tuple[int, int]) -> np.ndarray:
        """Its (H, W) bool mask on a whole frame."""
        plane = np.zeros(shape, dtype=bool)
        (y, x), (height, width) = self.corner, self.mask.shape
        plane[y : y + height, x : x + width] = self.mask
        return plane


def compute_segment_iou(one: Segment, other: Segment) -> float:
    """IoU of two masks in pixels of the frame, as in a label plane; 1 if both are empty."""
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
