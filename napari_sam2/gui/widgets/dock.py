"""Dock: a dock widget that is made when it is first shown, and the button that toggles it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from qtpy.QtWidgets import QWidget

from napari_sam2.gui.widgets.elements import make_tool_button

W = TypeVar("W", bound=QWidget)


@dataclass(frozen=True)
class DockSpec:
    """The looks of a dock: its title, the icon, text and tooltip of its button, and its area."""

    title: str
    icon: str
    text: str
    tip: str
    area: str


class Dock(Generic[W]):
    """A widget beside the panel.

    Parameters
    ----------
    window
        The napari window.
    spec
        The looks of the dock.
    make
        Makes the widget.
    on_shown
        Called when the dock was added to the window.

    Attributes
    ----------
    widget
        The widget; None before the dock was first shown. It is kept if the person closes the dock.
    """

    def __init__(
        self, window: Any, spec: DockSpec, make: Callable[[], W], on_shown: Callable[[], Any]
    ) -> None:
        self.widget: W | None = None
        self.button = make_tool_button(
            spec.icon, spec.tip, self.toggle, text=spec.text, checkable=True
        )
        self._window, self._spec, self._make, self._on_shown = window, spec, make, on_shown
        self._dock: Any = None
        self._closed = False

    def toggle(self) -> None:
        """Show the dock, or hide it."""
        if self._dock is not None:
            self._dock.setVisible(not self._dock.isVisible())
            return
        if self.widget is None:
            self.widget = self._make()
        self._dock = self._window.add_dock_widget(
            self.widget,
            name=self._spec.title,
            area=self._spec.area,
            tabify=self._spec.area == "right",
            add_vertical_stretch=False,
        )
        self._dock.visibilityChanged.connect(self._on_visible)
        self._dock.destroyed.connect(self._on_destroyed)
        self._on_visible(True)
        self._on_shown()

    def close(self) -> None:
        """Remove the dock together with the panel."""
        self._closed = True
        if self._dock is not None:
            with suppress(AttributeError, RuntimeError):  # napari's window is being closed
                self._window.remove_dock_widget(self._dock)
        if self.widget is not None:
            with suppress(RuntimeError):
                self.widget.close()
                self.widget.deleteLater()
        self._dock = self.widget = None

    def _on_visible(self, visible: bool) -> None:
        if not self._closed:
            self.button.setChecked(bool(visible))

    def _on_destroyed(self, *_: Any) -> None:
        """The person closed the dock with its cross."""
        if not self._closed:
            self._dock = None
            self.button.setChecked(False)
