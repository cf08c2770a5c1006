"""Carrying: a Run in a thread of its own, so that the kernel stays free and Cancel is heard."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from time import monotonic

from napari_sam2.propagation.propagate import Stepped
from napari_sam2.propagation.run import Run, RunState

_PAUSE_S = 0.15  # between two reports: more often than this nobody sees, and each costs a message
# of the time a report takes: where there are so many objects that it is slow, the walk still has 9
# parts in 10
_SHARE = 9


class Carrying:
    """A Run that is being carried out.

    `report` is called now and then with the last step, `ended` once with the error that stopped it,
    None where none did. Both are called in the thread.
    """

    def __init__(
        self, run: Run, report: Callable[[Stepped], None], ended: Callable[[Exception | None], None]
    ) -> None:
        self.run = run
        self._report = report
        self._ended = ended
        self._thread = Thread(target=self._carry, name="napari-sam2-carry", daemon=True)
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

    def _carry(self) -> None:
        error, due = None, 0.0
        try:
            for stepped in self.run:
                began = monotonic()
                if began >= due:
                    self._report(stepped)
                    took = monotonic() - began
                    due = began + took + max(_PAUSE_S, _SHARE * took)
        except Exception as caught:  # noqa: BLE001 a thread has nobody to raise to: the panel shows it
            error = caught
        self._busy = False
        self._ended(error)
