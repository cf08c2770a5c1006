"""Carrying: the run that is going on.

One frame is asked for at a time, so that clicks, pause and cancel come in between.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_sam2.gui.app.session_registry import Load
from napari_sam2.gui.app.session_update import Changed
from napari_sam2.gui.app.task_queue import Requests
from napari_sam2.gui.app.view import Place, Stage, View, Worker


class Carrying(Requests):
    """Requests, and one run at most that goes on frame by frame until it is done, paused or interrupted."""

    def __init__(
        self, view: View, worker: Worker, *, load: Load, model: str, root: Path | None
    ) -> None:
        super().__init__(view, worker, load=load, model=model, root=root)
        self._stepping = False
        self._carried: Place | None = None
        self._acts = 0
        self._ended: Callable[[], Any] | None = None

    def pause(self) -> None:
        """Hold before the next frame, or go on."""
        if self._stage is Stage.RUNNING:
            self._stage, self._message = Stage.PAUSED, f"Paused at {self._done} of {self._total}."
            self._show()
        elif self._stage is Stage.PAUSED:
            self._resume()

    def cancel(self) -> None:
        """Stop before the next frame. What is done stays, and carrying again goes on from there."""
        if self._interrupt():
            self._message = "Stopped. What is done stays; carry again to go on from here."
            self._show()

    def _go(self, place: Place, changed: Changed, acts: int) -> None:
        """A run has begun: do its first step.

        Where the person did something else since (`acts` is old), it ends at once.
        """
        self._stage, self._carried = Stage.RUNNING, place
        self._done, self._total = changed.done, changed.total
        if acts == self._acts:
            self._step()
        else:
            self._interrupt()

    def _resume(self) -> None:
        self._stage = Stage.RUNNING
        self._step()
        self._show()

    def _step(self) -> None:
        """One frame more, unless one is on its way."""
        if self._stepping or self._carried is None:
            return
        self._stepping, place = True, self._carried
        self._number += 1
        number = self._number

        def arrived(changed: Changed | None) -> None:
            self._stepping = False
            if changed is not None:
                self._done, self._total = changed.done, changed.total
                self._take(place, changed, number)
            if self._stage is Stage.RUNNING:
                self._go_on(place, changed)

        def failed(error: Exception) -> None:
            self._stepping, self._carried, self._stage, self._ended = False, None, Stage.READY, None
            self._failed(error)

        self._submit(self._at(place, lambda desk: desk.step()), arrived, failed)

    def _go_on(self, place: Place, changed: Changed | None) -> None:
        if changed is not None:
            self._message = changed.message or f"{self._done} of {self._total} frames"
            self._step()
            return
        self._stage, self._carried = Stage.READY, None
        self._work(lambda desk: desk.state())  # the log says now that it is finished
        rows = self._books[place].rows
        doubted = sum(row.uncertain for row in rows)
        self._message = f"Done: {len(rows)} object{'s' if len(rows) != 1 else ''}" + (
            f", {doubted} places to check." if doubted else "."
        )
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()

    def _interrupt(self) -> bool:
        """End a run that is going on or paused; whether there was one."""
        if self._stage not in (Stage.RUNNING, Stage.PAUSED) or self._carried is None:
            return False
        place, self._stage, self._carried, self._ended = self._carried, Stage.READY, None, None
        self._number += 1
        number = self._number
        self._submit(
            self._at(place, lambda desk: desk.stop()),
            lambda changed: self._take(place, changed, number),
        )
        return True
