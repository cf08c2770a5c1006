"""Run: a Propagation being executed, with progress and cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from threading import Event

from napari_sam2.core.plan import Propagation
from napari_sam2.propagation.propagate import PropagationStep

Progress = Callable[[PropagationStep], None]


class RunState(StrEnum):
    """Where a Run is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Run:
    """A Propagation being executed. Iterate over it for its steps, or `finish` it.

    `cancel` may be called from any thread; it is obeyed before the next frame, and what is done
    stays. Cancelling is a result, not an error: the Run ends in `RunState.CANCELLED`, and the next
    propagation goes on from there.
    """

    def __init__(self, plan: Propagation, steps: Iterator[PropagationStep]) -> None:
        self.plan = plan
        self.state = RunState.WAITING
        self.last_step: PropagationStep | None = None
        self._steps = steps
        self._cancelled = Event()

    def __iter__(self) -> Iterator[PropagationStep]:
        self.state = RunState.RUNNING
        while not self._cancelled.is_set():
            try:
                stepped = next(self._steps, None)
            except BaseException:
                self.state = RunState.FAILED
                raise
            if stepped is None:
                self.state = RunState.DONE
                return
            self.last_step = stepped
            yield stepped
        self.state = RunState.CANCELLED

    def cancel(self) -> None:
        """Stop before the next frame."""
        self._cancelled.set()

    def finish(self, progress: Progress | None = None) -> Run:
        """Carry out all steps that are left; `progress` is called after each."""
        for stepped in self:
            if progress:
                progress(stepped)
        return self
