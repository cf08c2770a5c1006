"""View: what the controller asks of a window, and the frozen picture of the state it hands over.

No Qt, no napari.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import numpy as np

from napari_sam2.core.inference_options import Attention, Precision, Windows
from napari_sam2.core.prompt import BoxPrompt, PointPrompt, PromptLog
from napari_sam2.core.stack import Stack
from napari_sam2.gui.app.counting_task import Seed
from napari_sam2.measurement.track_status import TrackStatus

T = TypeVar("T")


class Stage(StrEnum):
    """What is going on."""

    EMPTY = "empty"
    """No image is chosen."""
    READY = "ready"
    BUSY = "busy"
    """Something is computed that has no steps to count: a model is loaded, a click answered, a file written."""
    RUNNING = "running"
    """Objects are carried, frame by frame."""
    PAUSED = "paused"


@dataclass(frozen=True)
class ImageSelection:
    """What is worked on: a stack, the axis it is walked along, and the channel the model sees.

    `layer_key` names the image among those that are open; two choices with the same key, axis and channel
    are the same.
    """

    layer_key: str
    stack: Stack = field(compare=False)
    along: str
    channel: int | None
    name: str = field(default="", compare=False)

    @property
    def length(self) -> int:
        """Frames along the axis."""
        return self.stack.sizes.get(self.along, 1)


@dataclass(frozen=True)
class SessionKey:
    """A Choice at one position of its other axes, e.g. along z at the time point 3: what one Session is about."""

    selection: ImageSelection
    at: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ObjectRow:
    """One line of the list of objects: `frame_count` is where it is seen, `uncertain_count` where somebody should look.

    `needs_propagation`: it was corrected, and not carried since.
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
        """One word or two for people."""
        if not self.frame_count and not self.prompted_count:
            return "new"
        if self.locked_count and self.locked_count >= self.frame_count:
            return "locked"
        if self.needs_propagation:
            return "propagate"
        if self.uncertain_count:
            return f"check {self.uncertain_count}"
        return "prompted" if self.frame_count <= self.prompted_count else "tracked"


@dataclass(frozen=True)
class Snapshot:
    """All that a window shows of the state, at one moment.

    `done` of `total` steps of a run; `mask_alternatives` is the mask shown and how many the model offers for
    the last click, (0, 0) where it offers one. `precisions` are those that the model can be changed
    to.
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
    device: str = ""
    attention: Attention = "global"
    windows: Windows = "whole"
    precision: Precision = "float32"
    precisions: tuple[Precision, ...] = ("float32",)

    @property
    def has_prompts(self) -> bool:
        """Whether there is anything to carry."""
        return any(row.prompted_count for row in self.objects)


@dataclass(frozen=True)
class TrackPrompts:
    """The clicks and boxes of one track on all frames, as a window shows them."""

    track: int = 0
    points: tuple[PointPrompt, ...] = ()
    boxes: tuple[BoxPrompt, ...] = ()

    @classmethod
    def of(cls, log: PromptLog, track: int) -> TrackPrompts:
        """What counts: a box or a mask took the place of what was said before it."""
        points, boxes = [], []
        for frame in log.prompted_frames(track):
            said = log.frame_prompts(track, frame)
            if said.points:
                points.append(PointPrompt(frame, track, said.points, said.positive))
            if said.box is not None:
                boxes.append(BoxPrompt(frame, track, said.box))
        return cls(track, tuple(points), tuple(boxes))


class View(Protocol):
    """A window, or what stands for one in a test. Called in the main thread only."""

    def show_state(self, snapshot: Snapshot) -> None:
        """Show the state."""
        ...

    def draw_planes(self, key: SessionKey, planes: Mapping[int, np.ndarray]) -> None:
        """Show these (H, W) label planes, by frame."""
        ...

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        """Show the clicks and boxes of the current object."""
        ...

    def draw_seeds(self, key: SessionKey, seeds: Sequence[Seed]) -> None:
        """Show what a search has found so far, to be edited."""
        ...

    def notify(self, text: str, *, is_error: bool = False) -> None:
        """Say one sentence, loudly: something is done, or went `is_error`."""
        ...

    def update_statuses(
        self,
        key: SessionKey,
        statuses: Mapping[tuple[int, int], TrackStatus],
        new: Mapping[tuple[int, int], TrackStatus] | None,
    ) -> None:
        """All that is known of every track on every frame, after it changed: `new` of it, or all where that is None."""
        ...


TaskFunction = Callable[[], T]


class Worker(Protocol):
    """One thread that does one piece of work after the other; what comes of it is handed over in the main thread."""

    def submit(
        self,
        work: TaskFunction[T],
        on_result: Callable[[T], Any],
        on_error: Callable[[Exception], Any],
    ) -> None:
        """Do `run_pending` after all that was submitted before it, then call `on_result` with its result, or `on_error`."""
        ...


class InlineWorker:
    """A Worker that does everything at once, or only when told to (`manual`): for tests and scripts without a window."""

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
            except Exception as error:  # noqa: BLE001 - any error is the caller's to show, as in the thread
                on_error(error)
            else:
                on_result(result)

        self._queue.append(do)
        if not self._manual and not self._working:
            self.run_pending()

    def run_pending(self, max_tasks: int | None = None) -> int:
        """Do what waits, or so many pieces of it; how many were done."""
        count, self._working = 0, True
        while self._queue and count != max_tasks:
            self._queue.pop(0)()
            count += 1
        self._working = False
        return count
