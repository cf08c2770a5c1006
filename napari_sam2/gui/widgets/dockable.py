"""Dockable: a dock widget that follows napari's theme and releases its resources when removed."""

from __future__ import annotations

from contextlib import ExitStack

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

from napari_sam2.gui.widgets.elements import follow_theme, make_single_shot_timer


class Dockable(QWidget):
    """A widget with an `_exit_stack`: what is released when the widget is removed, last first."""

    def __init__(self) -> None:
        super().__init__()
        self._docked = False
        self._exit_stack = ExitStack()
        self._theme_timer = make_single_shot_timer(self, lambda: follow_theme(self))

    def release_resources(self) -> None:
        """Release the viewer, the threads and the model. Layers stay."""
        self._exit_stack.close()

    def changeEvent(self, event: QEvent) -> None:
        """Follow a change of the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._theme_timer.start()

    def event(self, event: QEvent) -> bool:
        """Release resources if napari removes the dock, which takes the widget out of it."""
        if event.type() == QEvent.Type.ParentChange:
            if self._docked and self.parent() is None:
                self.release_resources()
            self._docked = self.parent() is not None
        return bool(super().event(event))

    def closeEvent(self, event: QEvent) -> None:
        """Release resources when the window closes."""
        self.release_resources()
        super().closeEvent(event)
