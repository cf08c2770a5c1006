"""What can be plugged in: models, memory policies, prompt sources, sinks.

Each has a contract suite in `napari_sam2.testing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from napari_sam2.core.card import ModelCard
from napari_sam2.core.plan import Step
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame, Video
from napari_sam2.core.window import Window


class VideoModel(Protocol):
    """A promptable video model, batched over tracks.

    It keeps nothing between calls but its weights.
    """

    @property
    def card(self) -> ModelCard:
        """What it is."""
        ...

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "cuda", "cuda:1", "mps"."""
        ...

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """Image features of several frames at once.

        A model that encodes parts of a frame only when it is asked about them gets each by
        `Embedding.part`, and so leaves it to others whether they are kept. Parts go through
        `to_arrays`, `from_arrays` and `nbytes` as frames do.
        """
        ...

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        """One Segment for each Query, in order: many tracks on one frame at once.

        A Query with a mask is answered by that mask. One without recalls is answered without
        memory. The answer to one Query must not depend on the others. Its window is that of the
        embedding, unless the card says that the model follows, attends near or looks by tiles: then
        each has its own. `presence` is PROMPTED where something was said, else TRACKED or ABSENT.
        """
        ...

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        """The memory features of these Segments on their frame: binarised masks where conditioning, else probabilities."""
        ...

    def to_arrays(self, features: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
        """The features of an Embedding as NumPy arrays, to be kept on disk."""
        ...

    def from_arrays(self, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """The inverse of `to_arrays`, on the model's device."""
        ...

    def nbytes(self, features: tuple[Any, ...]) -> int:
        """Bytes these features take."""
        ...


class MemoryPolicy(Protocol):
    """The rule choosing which memories are shown and which are kept.

    Pure: the same input, the same answer.

    `memories` are those of one track, ascending by frame; `step` is the frame asked about and the
    way of the walk.
    """

    @property
    def name(self) -> str:
        """What it goes by in the provenance."""
        ...

    def select(self, memories: Sequence[Memory], step: Step) -> Sequence[MemoryReference]:
        """What the model is shown on this step."""
        ...

    def retain(self, memories: Sequence[Memory], step: Step) -> Sequence[Memory]:
        """What is kept in memory after this step, some without their features; what is dropped can be made again."""
        ...

    @property
    def reach(self) -> int:
        """Frames back in the walk's direction beyond which a tracked memory is never selected."""
        ...


class Detector(Protocol):
    """Finds objects that nobody clicked.

    It says where they are on one frame; it carries nothing and keeps no tracks.
    """

    @property
    def name(self) -> str:
        """What it goes by in the provenance."""
        ...

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """One Prompt for each object found on this frame, its tracks numbered from `first_track`; the same frame, the same answer.

        `occupied` is (H, W) bool: pixels of objects that are known. What lies mostly on them is left
        out. A frame that shows nothing gives none.
        """
        ...


@runtime_checkable
class VolumeDetector(Detector, Protocol):
    """A source that knows which object of one frame is which on the next, as one that sees a z-stack as a volume does."""

    def detect_volume(self, video: Video) -> Callable[[int], np.ndarray] | None:
        """The (H, W) label plane of each frame, one label for one object on all of them; None where it does not know for this video."""
        ...


class Sink(Protocol):
    """Where label planes go.

    Used as a context manager: on an exception nothing is left behind but what was there before.
    """

    def __enter__(self) -> Sink: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None: ...

    def put(self, frame: int, plane: np.ndarray) -> None:
        """Write the (H, W) label plane of one frame; every frame once, in any order."""
        ...

    @property
    def path(self) -> Path:
        """What is there after a clean exit."""
        ...
