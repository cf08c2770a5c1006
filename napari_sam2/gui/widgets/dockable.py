"""Dockable: a widget in napari's window that follows its theme and lets go of everything when it is taken down."""

from __future__ import annotations

from contextlib import ExitStack

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

from napari_sam2.gui.widgets.elements import follow_theme, make_single_shot_timer


class Dockable(QWidget):
    """`_exit_stack` is what is let go of when the widget goes, last first."""

    def __init__(self) -> None:
        super().__init__()
        self._docked = False
        self._exit_stack = ExitStack()
        self._theme_timer = make_single_shot_timer(self, lambda: follow_theme(self))

    def release_resources(self) -> None:
        """Let go of the viewer, the threads and the model. Layers stay."""
        self._exit_stack.close()

    def changeEvent(self, event: QEvent) -> None:
        """Qt's: the theme changed."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._theme_timer.start()

    def event(self, event: QEvent) -> bool:
        """Qt's: napari takes a dock down by taking the widget out of it, and does not close it."""
        if event.type() == QEvent.Type.ParentChange:
            if self._docked and self.parent() is None:
                self.release_resources()
            self._docked = self.parent() is not None
        return bool(super().event(event))

    def closeEvent(self, event: QEvent) -> None:
        """Qt's: the window closes, perhaps while something is computed."""
        self.release_resources()
        super().closeEvent(event)
