"""ThreadWorker: a background thread whose results are delivered in Qt's thread."""

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
"""Seconds after which the thread must let the window use Python.

Drawing a canvas takes dozens of calls, each of which would wait for Python's default of 5 ms."""

_Task = tuple[TaskFunction[Any], Callable[[Any], Any], Callable[[Exception], Any]]


class ThreadWorker(QObject):
    """See `Worker`. The thread ends with `close`, after its current task."""

    _result_ready = Signal(object)

    def __init__(self, name: str = "napari-sam2") -> None:
        super().__init__()
        sys.setswitchinterval(min(SWITCH_INTERVAL_S, sys.getswitchinterval()))
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._closed = False
        self._result_ready.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        self.thread = Thread(target=self._run_loop, name=name, daemon=True)
        self.thread.start()

    def submit(
        self,
        work: TaskFunction[T],
        on_result: Callable[[T], Any],
        on_error: Callable[[Exception], Any],
    ) -> None:
        """See `Worker`; the callbacks are called in Qt's thread."""
        self._queue.put((work, on_result, on_error))

    def close(self, wait_s: float = 2.0) -> None:
        """Finish the submitted tasks, deliver no more results, and end.

        Waits for `wait_s` at most; the thread does not keep the program alive.
        """
        self._closed = True
        self._queue.put(None)
        self.thread.join(wait_s)

    def _run_loop(self) -> None:
        while (task := self._queue.get()) is not None:
            work, on_result, on_error = task
            try:
                call = partial(on_result, work())
            except Exception as error:  # noqa: BLE001 - shown to the person; the thread goes on
                call = partial(on_error, error)
            self.post(call)

    def post(self, call: Callable[[], Any]) -> None:
        """See `Worker`; it is not called any more after `close`."""
        if not self._closed:
            with suppress(RuntimeError):  # Qt deleted this object: the program is ending
                self._result_ready.emit(call)

    def _deliver(self, call: Callable[[], Any]) -> None:
        if not self._closed:
            call()
