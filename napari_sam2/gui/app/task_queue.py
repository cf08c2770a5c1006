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
from napari_sam2.gui.app.session_registry import Bench, Load
from napari_sam2.gui.app.session_state import Book
from napari_sam2.gui.app.session_steps import PIECE
from napari_sam2.gui.app.session_update import Changed
from napari_sam2.gui.app.session_worker import Desk
from napari_sam2.gui.app.view import Place, Said, Snapshot, Stage, View, Worker

log = logging.getLogger(__name__)


class Requests:
    """What is open, what is known of it, and what is being worked on.

    See `Controller` for the parameters.
    """

    def __init__(
        self, view: View, worker: Worker, *, load: Load, model: str, root: Path | None
    ) -> None:
        self._view = view
        self._worker = worker
        self._bench = Bench(load, root)
        self._model = model
        self._books: dict[Place, Book] = {}
        self._place: Place | None = None
        self._frame = 0
        self._stage = Stage.EMPTY
        self._message = ""
        self._done = self._total = 0
        self._pending = 0
        self._number = 0
        self._newest: dict[tuple[Place, int], int] = {}
        self._stale: dict[Place, set[int]] = {}
        self._freshening = False
        self._said: tuple[Place | None, PromptLog, Said] = (None, PromptLog(), Said())
        self._closed = False

    @property
    def place(self) -> Place | None:
        """What is open."""
        return self._place

    @property
    def closed(self) -> bool:
        """Whether the window is gone."""
        return self._closed

    @property
    def frame(self) -> int:
        """The frame that is looked at."""
        return self._frame

    @property
    def book(self) -> Book:
        """What is known of it; an empty one where nothing is open."""
        return Book() if self._place is None else self._books.setdefault(self._place, Book())

    @property
    def snapshot(self) -> Snapshot:
        """The state as a window shows it."""
        book, moving = self.book, self._stage in (Stage.RUNNING, Stage.PAUSED)
        return Snapshot(
            stage=Stage.BUSY if self._pending and not moving else self._stage,
            message=self._message,
            objects=book.rows,
            current=book.current,
            done=self._done if moving else 0,
            total=self._total if moving else 0,
            undoable=book.undoable,
            redoable=book.redoable,
            unfinished=book.unfinished,
            choices=(book.shown + 1, book.offered) if book.offered > 1 else (0, 0),
            model=self._model,
            device=self._bench.device,
            attention=self._bench.card.attention,
            windows=self._bench.card.windows,
            precision=self._bench.card.precision,
            precisions=self._bench.precisions,
        )

    def aside(
        self, work: Callable[[], Any], then: Callable[[Any], Any], *, message: str = ""
    ) -> None:
        """Have something done in the background that needs no image."""
        self._message = message or self._message
        self._submit(work, then)
        self._show()

    def _ready(self) -> bool:
        if self._place is None:
            self._view.tell("Open an image first: a z-stack or a time-lapse.", wrong=True)
        return self._place is not None

    def _work(
        self,
        work: Callable[[Desk], Changed],
        then: Callable[[Changed], Any] = lambda _: None,
        *,
        frames: Sequence[int] = (),
        message: str = "",
        otherwise: Callable[[], Any] = lambda: None,
    ) -> None:
        """Have the desk do something that changes what is known.

        `frames` are those it will draw, `otherwise` where it fails.
        """
        assert self._place is not None
        place = self._place
        self._number += 1
        number = self._number
        self._newest.update({(place, frame): number for frame in frames})

        def taken(changed: Changed) -> None:
            self._take(place, changed, number)
            then(changed)

        self._read(work, taken, message=message, otherwise=otherwise)

    def _read(
        self,
        work: Callable[[Desk], Any],
        then: Callable[[Any], Any],
        *,
        message: str = "",
        otherwise: Callable[[], Any] = lambda: None,
    ) -> None:
        """Have the desk do something; `then` is given what comes of it."""
        assert self._place is not None
        self._message = message or self._message

        def failed(error: Exception) -> None:
            otherwise()
            self._failed(error)

        self._submit(self._at(self._place, work), then, failed)
        self._show()

    def _at(self, place: Place, work: Callable[[Desk], Any]) -> Callable[[], Any]:
        """Work for the thread: at the desk of a place, opened where it is not."""
        name, known = self._model, self._books.setdefault(place, Book()).log
        return lambda: work(self._bench.desk(place, name, known))

    def _submit(
        self,
        work: Callable[[], Any],
        then: Callable[[Any], Any],
        failed: Callable[[Exception], Any] | None = None,
    ) -> None:
        self._pending += 1

        def arrived(use: Callable[[Any], Any], what: Any) -> None:
            self._pending -= 1
            if self._closed:
                return
            use(what)
            if not self._pending and self._message.endswith("…"):  # it was about what is done now
                self._message = ""
            self._show()

        self._worker.submit(
            work,
            lambda result: arrived(then, result),
            lambda error: arrived(failed or self._failed, error),
        )

    def _take(self, place: Place, changed: Changed, number: int) -> None:
        """Note what changed, and draw what is not about to change again."""
        book = self._books.setdefault(place, Book())
        book.take(changed)
        drawn = {
            frame: plane
            for frame, plane in changed.planes.items()
            if self._newest.get((place, frame), 0) <= number
        }
        if drawn:
            self._view.draw(place, drawn)
        if changed.facts or changed.whole:
            self._view.facts_changed(place, book.facts, None if changed.whole else changed.facts)
        if changed.seeds:
            book.seeds.extend(changed.seeds)
            self._view.draw_seeds(place, tuple(book.seeds))
        self._freshen(place, changed.stale)
        if changed.notice:
            self._view.tell(changed.notice)

    def _freshen(self, place: Place, frames: Collection[int] = ()) -> None:
        """Draw frames that look different, a few at a time, beginning where the person looks."""
        stale = self._stale.setdefault(place, set())
        stale.update(frames)
        if not stale or self._freshening:
            return
        chosen = sorted(stale, key=lambda frame: abs(frame - self._frame))[:PIECE]
        stale.difference_update(chosen)
        self._freshening = True

        def arrived(changed: Changed) -> None:
            self._freshening = False
            self._view.draw(place, changed.planes)
            self._freshen(place)

        def failed(error: Exception) -> None:
            self._freshening = False
            self._failed(error)

        self._submit(self._at(place, lambda desk: desk.shown(chosen)), arrived, failed)

    def _failed(self, error: Exception) -> None:
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
        self._view.tell(self._message, wrong=True)

    def _redraw(self, frame: int) -> None:
        """Draw a frame whose newest answer did not come."""
        if self._place is not None:
            self._freshen(self._place, [frame])

    def _show(self) -> None:
        if not self._closed:
            self._draw_said(only_changed=True)
            self._view.show_state(self.snapshot)

    def _draw_said(self, *, only_changed: bool = False) -> None:
        place, book = self._place, self.book
        before, known, said = self._said
        if place is None or (
            only_changed and place == before and book.log is known and said.track == book.current
        ):
            return
        now = Said.of(book.log, book.current)
        self._said = place, book.log, now
        if not only_changed or (place, now) != (before, said):
            self._view.draw_said(place, now)
