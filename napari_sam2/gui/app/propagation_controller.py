"""Carrying: the run that is going on.

One frame is asked for at a time, so that clicks, pause and cancel come in between.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_sam2.gui.app.session_registry import ModelLoader
from napari_sam2.gui.app.session_update import SessionUpdate
from napari_sam2.gui.app.task_queue import TaskQueue
from napari_sam2.gui.app.view import SessionKey, Stage, View, Worker


class PropagationController(TaskQueue):
    """Requests, and one run at most that goes on frame by frame until it is done, paused or interrupted."""

    def __init__(
        self, view: View, worker: Worker, *, load: ModelLoader, model: str, root: Path | None
    ) -> None:
        super().__init__(view, worker, load=load, model=model, root=root)
        self._step_pending = False
        self._running_key: SessionKey | None = None
        self._action_count = 0
        self._on_run_end: Callable[[], Any] | None = None

    def pause(self) -> None:
        """Hold before the next frame, or go on."""
        if self._stage is Stage.RUNNING:
            self._stage, self._message = Stage.PAUSED, f"Paused at {self._done} of {self._total}."
            self._show_state()
        elif self._stage is Stage.PAUSED:
            self._resume()

    def cancel(self) -> None:
        """Stop before the next frame. What is done stays, and carrying again goes on from there."""
        if self._interrupt():
            self._message = "Stopped. What is done stays; carry again to go on from here."
            self._show_state()

    def _begin_stepping(self, key: SessionKey, update: SessionUpdate, action_count: int) -> None:
        """A run has begun: do its first step.

        Where the person did something else since (`action_count` is old), it ends at once.
        """
        self._stage, self._running_key = Stage.RUNNING, key
        self._done, self._total = update.done, update.total
        if action_count == self._action_count:
            self._submit_step()
        else:
            self._interrupt()

    def _resume(self) -> None:
        self._stage = Stage.RUNNING
        self._submit_step()
        self._show_state()

    def _submit_step(self) -> None:
        """One frame more, unless one is on its way."""
        if self._step_pending or self._running_key is None:
            return
        self._step_pending, place = True, self._running_key
        self._task_number += 1
        number = self._task_number

        def arrived(changed: SessionUpdate | None) -> None:
            self._step_pending = False
            if changed is not None:
                self._done, self._total = changed.done, changed.total
                self._apply_update(place, changed, number)
            if self._stage is Stage.RUNNING:
                self._handle_step(place, changed)

        def failed(error: Exception) -> None:
            self._step_pending, self._running_key, self._stage, self._on_run_end = (
                False,
                None,
                Stage.READY,
                None,
            )
            self._show_error(error)

        self._submit(self._bind_worker(place, lambda desk: desk.step()), arrived, failed)

    def _handle_step(self, key: SessionKey, update: SessionUpdate | None) -> None:
        if update is not None:
            self._message = update.message or f"{self._done} of {self._total} frames"
            self._submit_step()
            return
        self._stage, self._running_key = Stage.READY, None
        self._submit_update(
            lambda desk: desk.report_state()
        )  # the log says now that it is finished
        rows = self._states[key].rows
        doubted = sum(row.uncertain_count for row in rows)
        self._message = f"Done: {len(rows)} object{'s' if len(rows) != 1 else ''}" + (
            f", {doubted} places to check." if doubted else "."
        )
        ended, self._on_run_end = self._on_run_end, None
        if ended is not None:
            ended()

    def _interrupt(self) -> bool:
        """End a run that is going on or paused; whether there was one."""
        if self._stage not in (Stage.RUNNING, Stage.PAUSED) or self._running_key is None:
            return False
        place, self._stage, self._running_key, self._on_run_end = (
            self._running_key,
            Stage.READY,
            None,
            None,
        )
        self._task_number += 1
        number = self._task_number
        self._submit(
            self._bind_worker(place, lambda desk: desk.stop()),
            lambda changed: self._apply_update(place, changed, number),
        )
        return True
