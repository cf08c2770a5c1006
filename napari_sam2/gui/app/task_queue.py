"""TaskQueue: numbered work for the background thread, and what the window shows of its results.

A plane is not drawn if newer work on the same frame is pending, and nothing is drawn after the
window closed. If many frames change at once, they are requested in small pieces, those nearest to
the current frame first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.prompt import PromptLog
from napari_sam2.gui.app.session_registry import SessionRegistry
from napari_sam2.gui.app.session_update import SessionUpdate
from napari_sam2.gui.app.session_worker import FRAMES_PER_PIECE, SessionWorker
from napari_sam2.gui.app.view import SessionKey, Snapshot, Stage, TrackPrompts, View, Worker
from napari_sam2.gui.app.workspace import Workspace

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "Out of memory. Choose a smaller model or close other programs. Finished work is kept."
)


class TaskQueue:
    """Work for the background thread.

    Parameters
    ----------
    view, worker
        The window, and the thread that does the work.
    registry
        The sessions of the background thread.
    workspace
        The state of the window. The controllers write it too.
    """

    def __init__(
        self, view: View, worker: Worker, registry: SessionRegistry, workspace: Workspace
    ) -> None:
        self.view = view
        self.workspace = workspace
        self.pending_count = 0
        self._worker = worker
        self._registry = registry
        registry.on_detection = lambda *steps: worker.post(partial(self._show_detection, *steps))
        self._task_number = 0
        self._newest_number: dict[tuple[SessionKey, int], int] = {}
        self._stale_frames: dict[SessionKey, set[int]] = {}
        self._redrawing = False
        self._drawn_prompts: tuple[SessionKey | None, PromptLog, TrackPrompts] = (
            None,
            PromptLog(),
            TrackPrompts(),
        )

    @property
    def snapshot(self) -> Snapshot:
        """The state as a window shows it."""
        workspace, state = self.workspace, self.workspace.state
        moving = workspace.is_running
        return Snapshot(
            stage=Stage.BUSY if self.pending_count and not moving else workspace.stage,
            message=workspace.message,
            objects=state.rows,
            current=state.current,
            done=workspace.done if moving else 0,
            total=workspace.total if moving else 0,
            undoable=state.undoable,
            redoable=state.redoable,
            unfinished=state.unfinished,
            mask_alternatives=(state.shown_alternative + 1, state.alternative_count)
            if state.alternative_count > 1
            else (0, 0),
            model=workspace.model_name,
            options=self._registry.options,
            precisions=self._registry.precisions,
            evidence=self._registry.evidence,
        )

    def check_image_open(self) -> bool:
        """Whether an image is open; if not, notify the person."""
        if self.workspace.key is None:
            self.view.notify("Open an image first: a z-stack or a time-lapse.", is_error=True)
        return self.workspace.key is not None

    def submit(
        self,
        work: Callable[[], Any],
        on_result: Callable[[Any], Any],
        on_error: Callable[[Exception], Any] | None = None,
    ) -> None:
        """Run `work` in the background; then call `on_result` or `on_error` in this thread."""
        self.pending_count += 1
        self._worker.submit(
            work,
            partial(self._deliver, on_result),
            partial(self._deliver, on_error or self.show_error),
        )

    def submit_query(
        self,
        work: Callable[[SessionWorker], Any],
        on_result: Callable[[Any], Any],
        *,
        message: str = "",
    ) -> None:
        """Run `work` on the open session; `on_result` gets what it returns."""
        assert self.workspace.key is not None
        self.workspace.message = message or self.workspace.message
        self.submit(self.bind_worker(self.workspace.key, work), on_result)
        self.show_state()

    def submit_update(
        self,
        work: Callable[[SessionWorker], SessionUpdate],
        on_result: Callable[[SessionUpdate], Any] | None = None,
        *,
        frames: Sequence[int] = (),
        message: str = "",
        on_failure: Callable[[], Any] | None = None,
    ) -> None:
        """Run `work`, which changes the open session.

        `frames` are those that it draws. `on_failure` is called before the error is shown.
        """
        key = self.workspace.key
        assert key is not None
        number = self.take_number()
        self._newest_number.update({(key, frame): number for frame in frames})
        self.workspace.message = message or self.workspace.message

        def apply(update: SessionUpdate) -> None:
            self.apply_update(key, update, number)
            if on_result is not None:
                on_result(update)

        def fail(error: Exception) -> None:
            if on_failure is not None:
                on_failure()
            self.show_error(error)

        self.submit(self.bind_worker(key, work), apply, fail)
        self.show_state()

    def take_number(self) -> int:
        """The number of the next task; newer tasks have higher ones."""
        self._task_number += 1
        return self._task_number

    def bind_worker(
        self, key: SessionKey, work: Callable[[SessionWorker], Any]
    ) -> Callable[[], Any]:
        """`work` on the worker of a session, which is opened if necessary."""
        name, known = self.workspace.model_name, self.workspace.get_state(key).log
        return lambda: work(self._registry.open_worker(key, name, known))

    def apply_update(
        self, key: SessionKey, update: SessionUpdate, number: int | None = None
    ) -> None:
        """Draw what changed, except frames that newer tasks will draw, and note the rest."""
        number = self._task_number if number is None else number
        planes = {
            frame: plane
            for frame, plane in update.planes.items()
            if self._newest_number.get((key, frame), 0) <= number
        }
        if planes:
            self.view.draw_planes(key, planes)
        state = self.workspace.get_state(key)
        state.apply(update)
        if update.statuses or update.complete:
            new = None if update.complete else update.statuses
            self.view.update_statuses(key, state.statuses, new)
        if update.seeds:
            state.seeds.extend(update.seeds)
            self.view.draw_seeds(key, tuple(state.seeds))
        if update.stale_frames or self._stale_frames.get(key):
            self.redraw_frames(key, update.stale_frames)
        if update.notice:
            self.view.notify(update.notice)

    def redraw_frames(self, key: SessionKey, frames: Collection[int] = ()) -> None:
        """Draw frames that changed, a few at a time, those nearest to the current frame first."""
        stale = self._stale_frames.setdefault(key, set())
        stale.update(frames)
        if not stale or self._redrawing:
            return
        here = self.workspace.frame
        chosen = sorted(stale, key=lambda frame: abs(frame - here))[:FRAMES_PER_PIECE]
        stale.difference_update(chosen)
        self._redrawing = True

        def draw(update: SessionUpdate) -> None:
            self._redrawing = False
            self.view.draw_planes(key, update.planes)
            self.redraw_frames(key)

        def fail(error: Exception) -> None:
            self._redrawing = False
            self.show_error(error)

        self.submit(self.bind_worker(key, lambda worker: worker.read_frames(chosen)), draw, fail)

    def show_error(self, error: Exception) -> None:
        """Notify the person of an error, in one sentence."""
        if isinstance(error, Sam2Error):
            message = str(error)
        elif isinstance(error, MemoryError) or "out of memory" in str(error):
            message = OUT_OF_MEMORY
        else:
            message = (
                f"Unexpected error ({type(error).__name__}: {error}). Finished work is kept. "
                "Please report it."
            )
            log.error("unexpected error in the background thread", exc_info=error)
        self.workspace.message = message
        self.view.notify(message, is_error=True)

    def show_state(self) -> None:
        """Have the window show the state as it is now."""
        if not self.workspace.closed:
            self.draw_prompts(only_changed=True)
            self.view.show_state(self.snapshot)

    def draw_prompts(self, *, only_changed: bool = False) -> None:
        """Draw the clicks and boxes of the current object."""
        key, state = self.workspace.key, self.workspace.state
        drawn_key, drawn_log, drawn = self._drawn_prompts
        known = key == drawn_key and state.log is drawn_log and drawn.track == state.current
        if key is None or (only_changed and known):
            return
        prompts = TrackPrompts.of(state.log, state.current)
        self._drawn_prompts = key, state.log, prompts
        if not only_changed or (key, prompts) != (drawn_key, drawn):
            self.view.draw_prompts(key, prompts)

    def _show_detection(self, done: int, total: int) -> None:
        """Show how far the detection is that prompts are compared with."""
        self.workspace.message = f"Detecting objects to compare with: {done} of {total}…"
        self.show_state()

    def _deliver(self, use: Callable[[Any], Any], result: Any) -> None:
        """Use a result or an error of the background thread."""
        self.pending_count -= 1
        if self.workspace.closed:
            return
        use(result)
        if not self.pending_count and self.workspace.message.endswith("…"):
            self.workspace.message = ""  # it was about work that is done now
        self.show_state()
