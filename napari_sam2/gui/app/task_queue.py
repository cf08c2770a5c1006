"""Requests: numbered work for the background thread, and what happens with what comes back.

An answer about a frame for which a newer one is on its way is not drawn, and none is once the
window is closed. Where many frames look different, they are asked for piece by piece, the nearest
to the one looked at first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.prompt import PromptLog
from napari_sam2.gui.app.session_registry import ModelLoader, SessionRegistry
from napari_sam2.gui.app.session_state import SessionState
from napari_sam2.gui.app.session_steps import FRAMES_PER_PIECE
from napari_sam2.gui.app.session_update import SessionUpdate
from napari_sam2.gui.app.session_worker import SessionWorker
from napari_sam2.gui.app.view import SessionKey, Snapshot, Stage, TrackPrompts, View, Worker

log = logging.getLogger(__name__)


class TaskQueue:
    """What is open, what is known of it, and what is being worked on.

    See `Controller` for the parameters.
    """

    def __init__(
        self, view: View, worker: Worker, *, load: ModelLoader, model: str, root: Path | None
    ) -> None:
        self._view = view
        self._worker = worker
        self._registry = SessionRegistry(load, root)
        self._model_name = model
        self._states: dict[SessionKey, SessionState] = {}
        self._key: SessionKey | None = None
        self._frame = 0
        self._stage = Stage.EMPTY
        self._message = ""
        self._done = self._total = 0
        self._pending_count = 0
        self._task_number = 0
        self._newest_number: dict[tuple[SessionKey, int], int] = {}
        self._stale_frames: dict[SessionKey, set[int]] = {}
        self._redrawing = False
        self._drawn_prompts: tuple[SessionKey | None, PromptLog, TrackPrompts] = (
            None,
            PromptLog(),
            TrackPrompts(),
        )
        self._closed = False

    @property
    def key(self) -> SessionKey | None:
        """What is open."""
        return self._key

    @property
    def closed(self) -> bool:
        """Whether the window is gone."""
        return self._closed

    @property
    def frame(self) -> int:
        """The frame that is looked at."""
        return self._frame

    @property
    def state(self) -> SessionState:
        """What is known of it; an empty one where nothing is open."""
        return (
            SessionState()
            if self._key is None
            else self._states.setdefault(self._key, SessionState())
        )

    @property
    def snapshot(self) -> Snapshot:
        """The state as a window shows it."""
        book, moving = self.state, self._stage in (Stage.RUNNING, Stage.PAUSED)
        return Snapshot(
            stage=Stage.BUSY if self._pending_count and not moving else self._stage,
            message=self._message,
            objects=book.rows,
            current=book.current,
            done=self._done if moving else 0,
            total=self._total if moving else 0,
            undoable=book.undoable,
            redoable=book.redoable,
            unfinished=book.unfinished,
            mask_alternatives=(book.shown_alternative + 1, book.alternative_count)
            if book.alternative_count > 1
            else (0, 0),
            model=self._model_name,
            device=self._registry.device,
            attention=self._registry.card.attention,
            windows=self._registry.card.windows,
            precision=self._registry.card.precision,
            precisions=self._registry.precisions,
        )

    def run_in_background(
        self, work: Callable[[], Any], on_result: Callable[[Any], Any], *, message: str = ""
    ) -> None:
        """Have something done in the background that needs no image."""
        self._message = message or self._message
        self._submit(work, on_result)
        self._show_state()

    def _check_image_open(self) -> bool:
        if self._key is None:
            self._view.notify("Open an image first: a z-stack or a time-lapse.", is_error=True)
        return self._key is not None

    def _submit_update(
        self,
        work: Callable[[SessionWorker], SessionUpdate],
        on_result: Callable[[SessionUpdate], Any] = lambda _: None,
        *,
        frames: Sequence[int] = (),
        message: str = "",
        on_failure: Callable[[], Any] = lambda: None,
    ) -> None:
        """Have the desk do something that changes what is known.

        `frames` are those it will draw, `on_failure` where it fails.
        """
        assert self._key is not None
        place = self._key
        self._task_number += 1
        number = self._task_number
        self._newest_number.update({(place, frame): number for frame in frames})

        def taken(changed: SessionUpdate) -> None:
            self._apply_update(place, changed, number)
            on_result(changed)

        self._submit_query(work, taken, message=message, on_failure=on_failure)

    def _submit_query(
        self,
        work: Callable[[SessionWorker], Any],
        on_result: Callable[[Any], Any],
        *,
        message: str = "",
        on_failure: Callable[[], Any] = lambda: None,
    ) -> None:
        """Have the desk do something; `on_result` is given what comes of it."""
        assert self._key is not None
        self._message = message or self._message

        def failed(error: Exception) -> None:
            on_failure()
            self._show_error(error)

        self._submit(self._bind_worker(self._key, work), on_result, failed)
        self._show_state()

    def _bind_worker(
        self, key: SessionKey, work: Callable[[SessionWorker], Any]
    ) -> Callable[[], Any]:
        """Work for the thread: at the desk of a place, opened where it is not."""
        name, known = self._model_name, self._states.setdefault(key, SessionState()).log
        return lambda: work(self._registry.open_worker(key, name, known))

    def _submit(
        self,
        work: Callable[[], Any],
        on_result: Callable[[Any], Any],
        on_error: Callable[[Exception], Any] | None = None,
    ) -> None:
        self._pending_count += 1

        def arrived(use: Callable[[Any], Any], what: Any) -> None:
            self._pending_count -= 1
            if self._closed:
                return
            use(what)
            if not self._pending_count and self._message.endswith(
                "…"
            ):  # it was about what is done now
                self._message = ""
            self._show_state()

        self._worker.submit(
            work,
            lambda result: arrived(on_result, result),
            lambda error: arrived(on_error or self._show_error, error),
        )

    def _apply_update(self, key: SessionKey, update: SessionUpdate, number: int) -> None:
        """Note what changed, and draw what is not about to change again."""
        book = self._states.setdefault(key, SessionState())
        book.apply(update)
        drawn = {
            frame: plane
            for frame, plane in update.planes.items()
            if self._newest_number.get((key, frame), 0) <= number
        }
        if drawn:
            self._view.draw_planes(key, drawn)
        if update.statuses or update.complete:
            self._view.update_statuses(
                key, book.statuses, None if update.complete else update.statuses
            )
        if update.seeds:
            book.seeds.extend(update.seeds)
            self._view.draw_seeds(key, tuple(book.seeds))
        self._redraw_stale_frames(key, update.stale_frames)
        if update.notice:
            self._view.notify(update.notice)

    def _redraw_stale_frames(self, key: SessionKey, frames: Collection[int] = ()) -> None:
        """Draw frames that look different, a few at a time, beginning where the person looks."""
        stale = self._stale_frames.setdefault(key, set())
        stale.update(frames)
        if not stale or self._redrawing:
            return
        chosen = sorted(stale, key=lambda frame: abs(frame - self._frame))[:FRAMES_PER_PIECE]
        stale.difference_update(chosen)
        self._redrawing = True

        def arrived(changed: SessionUpdate) -> None:
            self._redrawing = False
            self._view.draw_planes(key, changed.planes)
            self._redraw_stale_frames(key)

        def failed(error: Exception) -> None:
            self._redrawing = False
            self._show_error(error)

        self._submit(self._bind_worker(key, lambda desk: desk.read_frames(chosen)), arrived, failed)

    def _show_error(self, error: Exception) -> None:
        if isinstance(error, Sam2Error):
            self._message = str(error)
        elif isinstance(error, MemoryError) or "out of memory" in str(error):
            self._message = (
                "The memory is full: choose a smaller model or the processor, or close other "
                "programs. What is done stays."
            )
        else:
            self._message = (
                f"Something went wrong that should not have ({type(error).__name__}: {error}). "
                "What is done stays."
            )
            log.error("in the background", exc_info=error)
        self._view.notify(self._message, is_error=True)

    def _redraw_frame(self, frame: int) -> None:
        """Draw a frame whose newest answer did not come."""
        if self._key is not None:
            self._redraw_stale_frames(self._key, [frame])

    def _show_state(self) -> None:
        if not self._closed:
            self._draw_prompts(only_changed=True)
            self._view.show_state(self.snapshot)

    def _draw_prompts(self, *, only_changed: bool = False) -> None:
        place, book = self._key, self.state
        before, known, said = self._drawn_prompts
        if place is None or (
            only_changed and place == before and book.log is known and said.track == book.current
        ):
            return
        now = TrackPrompts.of(book.log, book.current)
        self._drawn_prompts = place, book.log, now
        if not only_changed or (place, now) != (before, said):
            self._view.draw_prompts(place, now)
