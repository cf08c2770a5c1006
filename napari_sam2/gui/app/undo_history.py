"""UndoHistory: the prompt logs that a person can go back to, and forth again."""

from __future__ import annotations

from napari_sam2.core.prompt import PromptLog


class UndoHistory:
    """The logs before each action, and those that were undone."""

    def __init__(self) -> None:
        self._undo_logs: list[PromptLog] = []
        self._redo_logs: list[PromptLog] = []

    @property
    def undoable(self) -> bool:
        """Whether there is an action to undo."""
        return bool(self._undo_logs)

    @property
    def redoable(self) -> bool:
        """Whether there is an action to redo."""
        return bool(self._redo_logs)

    def add_action(self, before: PromptLog, after: PromptLog) -> None:
        """Note an action, unless it changed nothing. What was undone cannot be redone then."""
        if after.entries != before.entries:
            self._undo_logs.append(before)
            self._redo_logs.clear()

    def undo(self, current: PromptLog) -> PromptLog | None:
        """The log before the last action; None if there is none."""
        if not self._undo_logs:
            return None
        self._redo_logs.append(current)
        return self._undo_logs.pop()

    def redo(self, current: PromptLog) -> PromptLog | None:
        """The log after the action that was undone last; None if there is none."""
        if not self._redo_logs:
            return None
        self._undo_logs.append(current)
        return self._redo_logs.pop()


def count_common_entries(one: PromptLog, other: PromptLog) -> int:
    """Count the entries that both logs begin with."""
    return next(
        (n for n, (ours, theirs) in enumerate(zip(one, other, strict=False)) if ours != theirs),
        min(len(one), len(other)),
    )
