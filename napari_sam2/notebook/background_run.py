"""Carrying: a Run in a thread of its own, so that the kernel stays free and Cancel is heard."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from time import monotonic

from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.propagation.run_state import RunState
from napari_sam2.propagation.session import Run

_MIN_INTERVAL_S = (
    0.15  # between two reports: more often than this nobody sees, and each costs a message
)
# of the time a report takes: where there are so many objects that it is slow, the walk still has 9
# parts in 10
_WORK_PER_REPORT = 9


class BackgroundRun:
    """A Run that is being carried out.

    `on_step` is called now and then with the last step, `on_end` once with the error that stopped it,
    None where none did. Both are called in the thread.
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
        self._thread = Thread(target=self._run_steps, name="napari-sam2-carry", daemon=True)
        self._busy = False

    def start(self) -> None:
        """Begin, and return at once."""
        self._busy = True
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether frames are still being computed."""
        return self._busy

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped before its end."""
        return self.run.state is RunState.CANCELLED

    def cancel(self) -> None:
        """Stop before the next frame."""
        self.run.cancel()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; False where it has not come in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run_steps(self) -> None:
        error, due = None, 0.0
        try:
            for stepped in self.run:
                began = monotonic()
                if began >= due:
                    self._on_step(stepped)
                    took = monotonic() - began
                    due = began + took + max(_MIN_INTERVAL_S, _WORK_PER_REPORT * took)
        except Exception as caught:  # noqa: BLE001 a thread has nobody to raise to: the panel shows it
            error = caught
        self._busy = False
        self._on_end(error)
