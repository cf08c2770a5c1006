"""Workspace: what is open in a window and what is going on, shared by the controllers."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_sam2.gui.app.session_state import SessionState
from napari_sam2.gui.app.view import SessionKey, Stage


@dataclass
class Workspace:
    """The state that the controllers of one window share.

    Parameters
    ----------
    model_name
        The model that new work uses.
    key
        The open session; None if no image is open.
    frame
        The frame that the window shows.
    stage, message, done, total
        What is going on: `done` of `total` steps, and one line for the person.
    action_count
        Actions that changed prompts so far. A run that was requested before the newest action must
        not start.
    closed
        Whether the window is gone.
    states
        What is known of each session that was opened.
    """

    model_name: str
    key: SessionKey | None = None
    frame: int = 0
    stage: Stage = Stage.EMPTY
    message: str = ""
    done: int = 0
    total: int = 0
    action_count: int = 0
    closed: bool = False
    states: dict[SessionKey, SessionState] = field(default_factory=dict)

    @property
    def state(self) -> SessionState:
        """The state of the open session; an empty one if no image is open."""
        return SessionState() if self.key is None else self.get_state(self.key)

    @property
    def is_running(self) -> bool:
        """Whether a run is going on or paused."""
        return self.stage in (Stage.RUNNING, Stage.PAUSED)

    def get_state(self, key: SessionKey) -> SessionState:
        """The state of a session; a new one the first time."""
        if key not in self.states:
            self.states[key] = SessionState()
        return self.states[key]
