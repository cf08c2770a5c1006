"""ThreadWorker: the one background thread.

What comes of its work is handed over in Qt's own thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from napari_sam2.gui.app.view import T, TaskFunction

SWITCH_INTERVAL_S = 0.001
"""How long the thread may keep Python to itself while the window waits.

Python's own 5 ms are waited for by each of the dozens of
calls that drawing a canvas takes."""

_Task = tuple[TaskFunction[Any], Callable[[Any], Any], Callable[[Exception], Any]]


class ThreadWorker(QObject):
    """See `gui.view.Worker`. The thread ends with `close`, after the piece of work it is at."""

    _result_ready = Signal(object)

    def __init__(self, name: str = "napari-sam2") -> None:
        super().__init__()
        sys.setswitchinterval(min(SWITCH_INTERVAL_S, sys.getswitchinterval()))
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._closed = False
        self._result_ready.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        self._thread = Thread(target=self._run_loop, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        work: TaskFunction[T],
        on_result: Callable[[T], Any],
        on_error: Callable[[Exception], Any],
    ) -> None:
        """Do `work` after all that was submitted before it; `on_result` or `on_error` is called in Qt's thread."""
        self._queue.put((work, on_result, on_error))

    def close(self, wait_s: float = 2.0) -> None:
        """Do what was submitted, hand nothing over any more, and end.

        Waits so long at most; the thread holds nothing up.
        """
        self._closed = True
        self._queue.put(None)
        self._thread.join(wait_s)

    def _run_loop(self) -> None:
        while (piece := self._queue.get()) is not None:
            work, then, failed = piece
            try:
                call = partial(then, work())
            except Exception as error:  # noqa: BLE001 - shown to the person; the thread goes on
                call = partial(failed, error)
            if not self._closed:
                with suppress(
                    RuntimeError
                ):  # Qt took this object down before anybody closed it: the program is ending
                    self._result_ready.emit(call)

    def _deliver(self, call: Callable[[], Any]) -> None:
        if not self._closed:
            call()
