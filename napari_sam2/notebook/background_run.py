"""Propagation in a thread, so that the kernel stays free and can be asked to cancel."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from time import monotonic

from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.propagation.run_state import RunState
from napari_sam2.propagation.session import Run

# Each report costs a message to the browser, and nobody sees more than a few per second.
_MIN_INTERVAL_S = 0.15
# With many objects a report is slow. Propagation still gets nine tenths of the time.
_WORK_PER_REPORT = 9


class BackgroundRun:
    """A `Run` that a thread executes.

    Parameters
    ----------
    run
        The propagation.
    on_step
        Called from time to time with the last step, in the thread.
    on_end
        Called once at the end, in the thread, with the error that stopped the run, or None.
    """

    def __init__(
        self,
        run: Run,
        on_step: Callable[[PropagationStep], None],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        self.run = run
        self._on_step = on_step
        self._on_end = on_end
        self._thread = Thread(target=self._run_steps, name="napari-sam2-propagation", daemon=True)
        self._busy = False

    def start(self) -> None:
        """Start the thread and return at once."""
        self._busy = True
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether frames are still being computed."""
        return self._busy

    @property
    def cancelled(self) -> bool:
        """Whether the run was cancelled before its end."""
        return self.run.state is RunState.CANCELLED

    def cancel(self) -> None:
        """Stop before the next frame."""
        self.run.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end, and return whether it came within `timeout_s`."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run_steps(self) -> None:
        error, next_report = None, 0.0
        try:
            for step in self.run:
                start = monotonic()
                if start >= next_report:
                    self._on_step(step)
                    duration = monotonic() - start
                    pause = max(_MIN_INTERVAL_S, _WORK_PER_REPORT * duration)
                    next_report = start + duration + pause
        except Exception as caught:  # noqa: BLE001 a thread has no caller: the panel shows it
            error = caught
        self._busy = False
        self._on_end(error)
