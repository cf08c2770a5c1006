"""Protocols of what other packages can add: models, memory policies, detectors, sinks.

Each has a contract suite in `napari_sam2.testing`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from napari_sam2.core.card import ModelCard
from napari_sam2.core.plan import Step
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.result import (
    Embedding,
    FrameDetections,
    Memory,
    MemoryReference,
    Query,
    Segment,
)
from napari_sam2.core.stack import Frame, Video
from napari_sam2.core.window import Window

OBJECT_MAPS = ("foreground", "boundary", "centre", "size")
"""What the maps of an `ObjectMapModel` are, in order."""
SIZE_OCTAVES = 6.0
"""The size map is log2(size in pixels) / SIZE_OCTAVES: 1 to 64 px fill 0 to 1."""
WORKING_DIAMETER = 24.0
"""Pixels that a typical object is wide on the planes an `ObjectMapModel` gets."""


class VideoModel(Protocol):
    """A promptable video model, batched over tracks; it has no state but its weights."""

    @property
    def card(self) -> ModelCard:
        """Identity and expected input of the model."""
        ...

    @property
    def device(self) -> str:
        """The device it runs on: "cpu", "cuda", "cuda:1", "mps"."""
        ...

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Image features of several frames at once.

        A model that encodes other windows of a frame on demand calls `Embedding.get_part`, so that
        its caller decides about caching. The features of such parts go through `to_arrays`,
        `from_arrays` and `nbytes` too.
        """
        ...

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One segment per query, in order: many tracks on one frame at once.

        A query with a mask gives that mask. A query without memory references is answered without
        memory. Queries must not influence each other. The window of a segment is that of the
        embedding, except for models with object crops, local attention or tiles: there each
        segment has its own. `presence` is PROMPTED for a query with prompts, else TRACKED or
        ABSENT.
        """
        ...

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """Memory features of segments on one frame.

        Masks of conditioning frames are encoded binarised, others as probabilities.
        """
        ...

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """The features of an embedding as NumPy arrays, to be stored on disk."""
        ...

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse of `to_arrays`, on the model's device."""
        ...

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """Size of the features in bytes."""
        ...


class WrappedModel:
    """Base of a `VideoModel` around another one: what is not overridden is that of `inner`."""

    def __init__(self, inner: VideoModel) -> None:
        self.inner = inner

    @property
    def card(self) -> ModelCard:
        """See `VideoModel`."""
        return self.inner.card

    @property
    def device(self) -> str:
        """See `VideoModel`."""
        return self.inner.device

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """See `VideoModel`."""
        return self.inner.embed(views)

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """See `VideoModel`."""
        return self.inner.segment(embedding, queries)

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """See `VideoModel`."""
        return self.inner.encode_memory(embedding, segments)

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """See `VideoModel`."""
        return self.inner.to_arrays(features)

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """See `VideoModel`."""
        return self.inner.from_arrays(arrays)

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """See `VideoModel`."""
        return self.inner.nbytes(features)


class MemoryPolicy(Protocol):
    """The rule that selects the memories a model gets, and those to keep.

    It has no state. `memories` are those of one track, ascending by frame; `step` is the frame to
    segment and the direction of propagation.
    """

    @property
    def name(self) -> str:
        """Its name in the provenance."""
        ...

    def select(self, memories: Sequence[Memory], step: Step) -> Sequence[MemoryReference]:
        """The memories the model gets on this step."""
        ...

    def retain(self, memories: Sequence[Memory], step: Step) -> Sequence[Memory]:
        """The memories to keep after this step, some without their features.

        Dropped ones can be encoded again.
        """
        ...

    @property
    def reach(self) -> int:
        """Number of frames back beyond which a tracked memory is never selected."""
        ...


class Detector(Protocol):
    """Detects the objects of one frame, without prompts and without tracks."""

    @property
    def name(self) -> str:
        """Its name in the provenance."""
        ...

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """One prompt per object on this frame; an empty frame gives an empty list.

        The same frame must always give the same prompts.

        Parameters
        ----------
        first_track
            Track ids are numbered from here.
        occupied
            (H, W) bool, pixels of known objects: detections mostly on them are left out.
        """
        ...


@runtime_checkable
class VolumeDetector(Detector, Protocol):
    """A detector that identifies objects across frames, e.g. in a z-stack as a volume."""

    def detect_volume(self, video: Video) -> Callable[[int], np.ndarray] | None:
        """A function of the frame that gives its (H, W) labels, one label per object in all frames.

        None if it cannot do so for this video.
        """
        ...


@runtime_checkable
class SteppedDetector(Detector, Protocol):
    """A detector that takes long, and says between its steps how far it is.

    Both methods are generators that yield (steps done, steps in all) and return what `detect` and
    `detect_volume` do. Closing them cancels.
    """

    def detect_in_steps(
        self, video: Video, frame: int, *, occupied: np.ndarray | None = None
    ) -> Generator[tuple[int, int], None, list[Prompt]]:
        """See `Detector.detect`."""
        ...

    def detect_volume_in_steps(
        self, video: Video
    ) -> Generator[tuple[int, int], None, Callable[[int], np.ndarray] | None]:
        """See `VolumeDetector.detect_volume`."""
        ...


@runtime_checkable
class ExplainingDetector(Detector, Protocol):
    """A detector that says what it took for granted, and when its result is in doubt."""

    def get_notes(self, video: Video) -> list[str]:
        """Sentences for the provenance and the report, the doubt among them."""
        ...

    def get_doubt(self, video: Video) -> str:
        """One sentence why the result is in doubt, and what to do; empty if it is not."""
        ...


class ObjectMapModel(Protocol):
    """A network that says, for every pixel, whether and where in an object it lies.

    The four maps, `OBJECT_MAPS`, are foreground, distance to the object's boundary and to its
    centre (each 0..1 within the object), and size, see `SIZE_OCTAVES`.
    """

    @property
    def sha256(self) -> str:
        """Hash of the weights: part of the identity of every result."""
        ...

    def predict(self, planes: np.ndarray) -> np.ndarray:
        """(N, 4, H, W) float32 maps in 0..1 of (N, H, W) float32 planes in 0..1.

        Objects must be about `WORKING_DIAMETER` wide; zooming and tiling are the caller's.
        """
        ...


class ObjectEvidence(Protocol):
    """Detections of a video that is known already: evidence for prompts and propagation."""

    @property
    def name(self) -> str:
        """Its name in the provenance."""
        ...

    def get_frame(self, frame: int) -> FrameDetections:
        """The detections on a frame, always the same for the same frame."""
        ...


@runtime_checkable
class SteppedEvidence(ObjectEvidence, Protocol):
    """Evidence that detects all frames of a volume together, when the first is asked for."""

    on_progress: Callable[[int, int], Any]
    """Called after each step of that, with the steps done, and all."""


class Sink(Protocol):
    """A writer of label planes, used as a context manager.

    After an exception, the files are as they were before.
    """

    def __enter__(self) -> Sink: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...

    def put(self, frame: int, plane: np.ndarray) -> None:
        """Write the (H, W) label plane of one frame; every frame once, in any order."""
        ...

    @property
    def path(self) -> Path:
        """The file or folder that exists after a clean exit."""
        ...
