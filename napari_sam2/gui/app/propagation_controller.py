"""PropagationController: the run that is going on.

One frame is requested at a time, so that clicks, pause and stop come in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_sam2.gui.app.session_update import PropagationRequest, SessionUpdate
from napari_sam2.gui.app.session_worker import SessionWorker
from napari_sam2.gui.app.task_queue import TaskQueue
from napari_sam2.gui.app.view import SessionKey, Stage


class PropagationController:
    """One run at most, which goes on frame by frame until it is done, paused or interrupted."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._workspace = queue.workspace
        self._step_pending = False
        self._running_key: SessionKey | None = None
        self._on_run_end: Callable[[], Any] | None = None

    def propagate(self, request: PropagationRequest | None = None) -> None:
        """Propagate objects through the stack; if that is paused, resume."""
        workspace = self._workspace
        if workspace.stage is Stage.PAUSED:
            self._resume()
            return
        if workspace.stage is Stage.RUNNING or not self._queue.check_image_open():
            return
        if not workspace.state.log.track_ids and not self._queue.pending_count:
            self._queue.view.notify("Click an object first, then propagate it.", is_error=True)
            return
        chosen = request or PropagationRequest()
        self.start(lambda worker: worker.start_propagation(chosen), message="Starting…")

    def pause(self) -> None:
        """Hold before the next frame; if that is so already, resume."""
        workspace = self._workspace
        if workspace.stage is Stage.RUNNING:
            workspace.stage = Stage.PAUSED
            workspace.message = f"Paused at {workspace.done} of {workspace.total}."
            self._queue.show_state()
        elif workspace.stage is Stage.PAUSED:
            self._resume()

    def cancel(self) -> None:
        """Stop before the next frame. Finished frames are kept; propagating again resumes."""
        if self.interrupt():
            self._workspace.message = "Stopped. Finished frames are kept. Press P to resume."
            self._queue.show_state()

    def start(
        self,
        work: Callable[[SessionWorker], SessionUpdate],
        *,
        message: str = "",
        on_run_end: Callable[[], Any] | None = None,
    ) -> None:
        """Start a run with `work`, then do its steps if the update says that it is running.

        `on_run_end` is called when the run is done, not if it was interrupted.
        """
        key, action_count = self._workspace.key, self._workspace.action_count
        assert key is not None

        def begin(update: SessionUpdate) -> None:
            if not update.running:
                return
            self._running_key, self._on_run_end = key, on_run_end
            workspace = self._workspace
            workspace.stage, workspace.done, workspace.total = (
                Stage.RUNNING,
                update.done,
                update.total,
            )
            if action_count == workspace.action_count:
                self._submit_step()
            else:  # the person did something else since
                self.interrupt()

        self._queue.submit_update(work, begin, message=message)

    def interrupt(self) -> bool:
        """End a run that is going on or paused; whether there was one."""
        key = self._running_key
        if not self._workspace.is_running or key is None:
            return False
        self._end_run()
        number = self._queue.take_number()
        self._queue.submit(
            self._queue.bind_worker(key, lambda worker: worker.stop()),
            lambda update: self._queue.apply_update(key, update, number),
        )
        return True

    def _resume(self) -> None:
        self._workspace.stage = Stage.RUNNING
        self._submit_step()
        self._queue.show_state()

    def _submit_step(self) -> None:
        """Request one more frame, unless one is pending."""
        key = self._running_key
        if self._step_pending or key is None:
            return
        self._step_pending = True
        number = self._queue.take_number()

        def apply(update: SessionUpdate | None) -> None:
            self._step_pending = False
            workspace = self._workspace
            if update is not None:
                workspace.done, workspace.total = update.done, update.total
                self._queue.apply_update(key, update, number)
            if workspace.stage is not Stage.RUNNING:
                return
            if update is None:
                self._finish(key)
                return
            workspace.message = update.message or f"{update.done} of {update.total} frames"
            self._submit_step()

        def fail(error: Exception) -> None:
            self._step_pending = False
            self._end_run()
            self._queue.show_error(error)

        self._queue.submit(self._queue.bind_worker(key, lambda worker: worker.step()), apply, fail)

    def _finish(self, key: SessionKey) -> None:
        """The run is done."""
        on_run_end = self._on_run_end
        self._end_run()
        # the log contains the finished propagation only now
        self._queue.submit_update(lambda worker: worker.report_state())
        rows = self._workspace.get_state(key).rows
        uncertain = sum(row.uncertain_count for row in rows)
        objects = f"{len(rows)} object{'s' if len(rows) != 1 else ''}"
        self._workspace.message = f"Done: {objects}" + (
            f", {uncertain} frames to check." if uncertain else "."
        )
        if on_run_end is not None:
            on_run_end()

    def _end_run(self) -> None:
        self._workspace.stage = Stage.READY
        self._running_key, self._on_run_end = None, None
