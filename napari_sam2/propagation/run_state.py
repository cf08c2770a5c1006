"""RunState: how far a run is. Progress: the callback for its steps."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from napari_sam2.propagation.propagate import PropagationStep

Progress = Callable[[PropagationStep], None]
"""Called after each step of a run."""


class RunState(StrEnum):
    """The state of a run."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
