"""View: what the controller needs of a window, and the frozen state that a window shows.

No Qt, no napari.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import numpy as np

from napari_sam2.core.inference_options import InferenceOptions, Precision
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, PromptLog
from napari_sam2.core.stack import Stack
from napari_sam2.measurement.track_status import TrackStatus
from napari_sam2.tracking.seeds import Seed

T = TypeVar("T")


class Stage(StrEnum):
    """What is going on."""

    EMPTY = "empty"
    """No image is chosen."""
    READY = "ready"
    BUSY = "busy"
    """Work without steps to count is going on: a model is loaded, a file is written."""
    RUNNING = "running"
    """A propagation or a count is going on, frame by frame."""
    PAUSED = "paused"


@dataclass(frozen=True)
class ImageSelection:
    """An image layer, the axis that objects are propagated along, and the channel of the model.

    `layer_key` identifies the layer. Selections are equal if key, axis and channel are.
    """

    layer_key: str
    stack: Stack = field(compare=False)
    along: str
    channel: int | None
    name: str = field(default="", compare=False)

    @property
    def length(self) -> int:
        """The number of frames along the axis."""
        return self.stack.sizes.get(self.along, 1)


@dataclass(frozen=True)
class SessionKey:
    """What one session is about: an image at one position of its other axes, e.g. at t = 3."""

    selection: ImageSelection
    at: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ObjectRow:
    """One row of the list of objects.

    The counts are numbers of frames: those with the object, and those of them that were prompted,
    are uncertain, or are locked. `needs_propagation`: prompts changed since it was propagated.
    """

    track: int
    name: str
    category: str
    frame_count: int
    prompted_count: int
    uncertain_count: int
    locked_count: int
    needs_propagation: bool = False

    @property
    def state(self) -> str:
        """The state in one or two words."""
        if not self.frame_count and not self.prompted_count:
            return "new"
        if self.locked_count and self.locked_count >= self.frame_count:
            return "locked"
        if self.needs_propagation:
            return "propagate"
        if self.uncertain_count:
            return f"check {self.uncertain_count}"
        return "prompted" if self.frame_count <= self.prompted_count else "tracked"


NO_MODEL_OPTIONS = InferenceOptions(device="", attention="global")
"""The options that a window shows before a model was loaded."""


@dataclass(frozen=True)
class Snapshot:
    """All that a window shows of the state, at one moment.

    Parameters
    ----------
    done, total
        Steps of the run that is going on.
    mask_alternatives
        The number of the mask shown, and how many the model offers for the last click; (0, 0) if
        there is no choice.
    options
        How the model computes. Its device is "" before a model was loaded.
    precisions
        The precisions that the model can change to.
    evidence
        What detections are used for; see `SessionSettings`.
    """

    stage: Stage = Stage.EMPTY
    message: str = ""
    objects: tuple[ObjectRow, ...] = ()
    current: int = 0
    done: int = 0
    total: int = 0
    undoable: bool = False
    redoable: bool = False
    unfinished: bool = False
    mask_alternatives: tuple[int, int] = (0, 0)
    model: str = ""
    options: InferenceOptions = NO_MODEL_OPTIONS
    precisions: tuple[Precision, ...] = ("float32",)
    evidence: str = "none"

    @property
    def has_prompts(self) -> bool:
        """Whether there is anything to propagate."""
        return any(row.prompted_count for row in self.objects)


@dataclass(frozen=True)
class TrackPrompts:
    """The clicks and boxes of one track on all frames."""

    track: int = 0
    points: tuple[PointPrompt, ...] = ()
    boxes: tuple[BoxPrompt, ...] = ()

    @classmethod
    def of(cls, log: PromptLog, track: int) -> TrackPrompts:
        """Those of a track that still count: a box or a mask replaces earlier prompts."""
        points, boxes = [], []
        for frame in log.find_prompted_frames(track):
            prompts = log.combine_prompts(track, frame)
            if prompts.points:
                points.append(PointPrompt(frame, track, prompts.points, prompts.positive))
            if prompts.box is not None:
                boxes.append(BoxPrompt(frame, track, prompts.box))
        return cls(track, tuple(points), tuple(boxes))


class View(Protocol):
    """A window, or its double in a test. Called in the main thread only."""

    def show_state(self, snapshot: Snapshot) -> None:
        """Show the state."""
        ...

    def draw_planes(self, key: SessionKey, planes: Mapping[int, np.ndarray]) -> None:
        """Draw these (H, W) label planes, by frame."""
        ...

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        """Draw the clicks and boxes of the current object."""
        ...

    def draw_seeds(self, key: SessionKey, seeds: Sequence[Seed]) -> None:
        """Draw the seeds detected so far, to be edited."""
        ...

    def notify(self, text: str, *, is_error: bool = False) -> None:
        """Notify the person of a result or an error, in one sentence."""
        ...

    def update_statuses(
        self,
        key: SessionKey,
        statuses: Mapping[tuple[int, int], TrackStatus],
        new: Mapping[tuple[int, int], TrackStatus] | None,
    ) -> None:
        """Take over all statuses by (track, frame); `new` are those that changed, None: all did."""
        ...


TaskFunction = Callable[[], T]


class Worker(Protocol):
    """One thread that does one task after the other. Results are delivered in the main thread."""

    def submit(
        self,
        work: TaskFunction[T],
        on_result: Callable[[T], Any],
        on_error: Callable[[Exception], Any],
    ) -> None:
        """Run `work` after all earlier tasks, then call `on_result` or `on_error`."""
        ...

    def post(self, call: Callable[[], Any]) -> None:
        """Have `call` called in the main thread; for tasks that report their progress."""
        ...


class InlineWorker:
    """A Worker without a thread: it runs tasks at once, or, if `manual`, in `run_pending`."""

    def __init__(self, *, manual: bool = False) -> None:
        self._manual = manual
        self._working = False
        self._queue: list[Callable[[], None]] = []

    def submit(
        self,
        work: TaskFunction[T],
        on_result: Callable[[T], Any],
        on_error: Callable[[Exception], Any],
    ) -> None:
        """See `Worker`."""

        def do() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - delivered, as by the thread
                on_error(error)
            else:
                on_result(result)

        self._queue.append(do)
        if not self._manual and not self._working:
            self.run_pending()

    def post(self, call: Callable[[], Any]) -> None:
        """See `Worker`."""
        call()

    def run_pending(self, max_tasks: int | None = None) -> int:
        """Run the pending tasks, at most `max_tasks`; returns how many were run."""
        count, self._working = 0, True
        while self._queue and count != max_tasks:
            self._queue.pop(0)()
            count += 1
        self._working = False
        return count
