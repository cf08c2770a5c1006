"""The keys of the panel.

They are bound in code because napari 0.9 ignores those of a manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KeyBinding:
    """A key as napari spells it, as a person reads it, and its effect."""

    napari_key: str
    label: str
    description: str


KEY_BINDINGS: Mapping[str, KeyBinding] = {
    "new": KeyBinding("N", "N", "new object"),
    "propagate": KeyBinding("P", "P", "propagate, pause or resume"),
    "cancel": KeyBinding("Escape", "Esc", "stop"),
    "accept": KeyBinding("A", "A", "accept this frame, or undo that"),
    "other": KeyBinding("C", "C", "other mask for the last click"),
    "point": KeyBinding("Q", "Q", "click tool"),
    "box": KeyBinding("B", "B", "box tool"),
    "paint": KeyBinding("W", "W", "paint tool"),
    "lasso": KeyBinding("L", "L", "lasso tool"),
    "back": KeyBinding("Left", "←", "previous frame"),
    "forth": KeyBinding("Right", "→", "next frame"),
    "previous": KeyBinding("Up", "↑", "previous object"),
    "next": KeyBinding("Down", "↓", "next object"),
    "review": KeyBinding("X", "X", "next frame to check"),
    "review_back": KeyBinding("Shift-X", "Shift+X", "previous frame to check"),
    "undo": KeyBinding("Control-Z", "Ctrl+Z", "undo"),
    "redo": KeyBinding("Control-Shift-Z", "Ctrl+Shift+Z", "redo"),
    "save": KeyBinding("Control-Shift-E", "Ctrl+Shift+E", "save results"),
    "delete": KeyBinding("Control-Delete", "Ctrl+Del", "delete object"),
}


def make_hint(text: str, key: str) -> str:
    """A tooltip with its key."""
    return f"{text}  ({KEY_BINDINGS[key].label})"


def make_help_text() -> str:
    """The keys and what the mouse does, as HTML."""
    mouse = (
        ("Click", "add a click on the object"),
        ("Ctrl or Alt + click, right click", "exclude this part from the object"),
        ("Shift + drag", "draw a box around the object"),
        ("Drag, wheel", "pan, zoom"),
    )
    rows = [*mouse, *((key.label, key.description) for key in KEY_BINDINGS.values())]
    return (
        "<table cellspacing='4'>"
        + "".join(
            f"<tr><td><b>{keys}</b>&nbsp;&nbsp;</td><td>{effect}</td></tr>" for keys, effect in rows
        )
        + "</table>"
    )


class Keyboard:
    """Keys bound to a viewer and its layers, because a layer's keys precede those of the viewer."""

    def __init__(self, actions: Mapping[str, Callable[[], Any]]) -> None:
        self._actions = actions
        self._bound_providers: list[Any] = []

    def bind(self, providers: Iterable[Any]) -> None:
        """Bind all keys to these, unless they are bound already."""
        for provider in providers:
            if any(provider is known for known in self._bound_providers):
                continue
            self._bound_providers.append(provider)
            for name, action in self._actions.items():
                provider.bind_key(
                    KEY_BINDINGS[name].napari_key, _wrap_action(action), overwrite=True
                )

    def close(self) -> None:
        """Release all keys."""
        for provider in self._bound_providers:
            for name in self._actions:
                provider.bind_key(KEY_BINDINGS[name].napari_key, None, overwrite=True)
        self._bound_providers.clear()


def _wrap_action(action: Callable[[], Any]) -> Callable[[Any], None]:
    def on_press(_: Any) -> None:
        action()

    return on_press
