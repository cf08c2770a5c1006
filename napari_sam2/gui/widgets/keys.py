"""Keys: what each key does while the panel is open.

Bound in code: napari 0.9 ignores those of a manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KeyBinding:
    """A key as napari spells it, as a person reads it, and what it does."""

    napari_key: str
    label: str
    description: str


KEY_BINDINGS: Mapping[str, KeyBinding] = {
    "new": KeyBinding("N", "N", "new object"),
    "propagate": KeyBinding("P", "P", "propagate, or pause"),
    "cancel": KeyBinding("Escape", "Esc", "stop"),
    "accept": KeyBinding("A", "A", "accept this frame, or take that back"),
    "other": KeyBinding("C", "C", "another mask for the last click"),
    "point": KeyBinding("Q", "Q", "click tool"),
    "box": KeyBinding("B", "B", "box tool"),
    "paint": KeyBinding("W", "W", "paint tool"),
    "lasso": KeyBinding("L", "L", "lasso tool"),
    "back": KeyBinding("Left", "←", "frame before"),
    "forth": KeyBinding("Right", "→", "next frame"),
    "previous": KeyBinding("Up", "↑", "object before"),
    "next": KeyBinding("Down", "↓", "next object"),
    "review": KeyBinding("X", "X", "next place worth a look"),
    "review_back": KeyBinding("Shift-X", "Shift+X", "place before that"),
    "undo": KeyBinding("Control-Z", "Ctrl+Z", "undo"),
    "redo": KeyBinding("Control-Shift-Z", "Ctrl+Shift+Z", "redo"),
    "save": KeyBinding("Control-Shift-E", "Ctrl+Shift+E", "save results"),
    "delete": KeyBinding("Control-Delete", "Ctrl+Del", "delete object"),
}


def make_hint(text: str, key: str) -> str:
    """A tooltip that names its key."""
    return f"{text}  ({KEY_BINDINGS[key].label})"


def make_help_text() -> str:
    """All keys and the mouse, as HTML."""
    mouse = (
        ("Click", "the object is here"),
        ("Ctrl or Alt + click, right click", "the object is not here"),
        ("Shift + drag", "a box around the object"),
        ("Drag, wheel", "move, zoom"),
    )
    rows = [*mouse, *((key.label, key.description) for key in KEY_BINDINGS.values())]
    return (
        "<table cellspacing='4'>"
        + "".join(
            f"<tr><td><b>{keys}</b>&nbsp;&nbsp;</td><td>{does}</td></tr>" for keys, does in rows
        )
        + "</table>"
    )


class Keyboard:
    """Keys bound to a viewer and to layers in it: a layer's own keys would come before those of the viewer."""

    def __init__(self, actions: Mapping[str, Callable[[], Any]]) -> None:
        self._actions = actions
        self._bound_providers: list[Any] = []

    def bind(self, providers: Iterable[Any]) -> None:
        """Bind all keys to these too; those that have them already are left."""
        for provider in providers:
            if any(provider is known for known in self._bound_providers):
                continue
            self._bound_providers.append(provider)
            for name, action in self._actions.items():
                provider.bind_key(
                    KEY_BINDINGS[name].napari_key, _wrap_action(action), overwrite=True
                )

    def close(self) -> None:
        """Give all keys back."""
        for provider in self._bound_providers:
            for name in self._actions:
                provider.bind_key(KEY_BINDINGS[name].napari_key, None, overwrite=True)
        self._bound_providers.clear()


def _wrap_action(action: Callable[[], Any]) -> Callable[[Any], None]:
    def pressed(_: Any) -> None:
        action()

    return pressed
