"""Keys: what each key does while the panel is open.

Bound in code: napari 0.9 ignores those of a manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """A key as napari spells it, as a person reads it, and what it does."""

    napari: str
    shown: str
    does: str


KEYS: Mapping[str, Key] = {
    "new": Key("N", "N", "new object"),
    "propagate": Key("P", "P", "propagate, or pause"),
    "cancel": Key("Escape", "Esc", "stop"),
    "accept": Key("A", "A", "accept this frame, or take that back"),
    "other": Key("C", "C", "another mask for the last click"),
    "point": Key("Q", "Q", "click tool"),
    "box": Key("B", "B", "box tool"),
    "paint": Key("W", "W", "paint tool"),
    "lasso": Key("L", "L", "lasso tool"),
    "back": Key("Left", "←", "frame before"),
    "forth": Key("Right", "→", "next frame"),
    "previous": Key("Up", "↑", "object before"),
    "next": Key("Down", "↓", "next object"),
    "review": Key("X", "X", "next place worth a look"),
    "review_back": Key("Shift-X", "Shift+X", "place before that"),
    "undo": Key("Control-Z", "Ctrl+Z", "undo"),
    "redo": Key("Control-Shift-Z", "Ctrl+Shift+Z", "redo"),
    "save": Key("Control-Shift-E", "Ctrl+Shift+E", "save results"),
    "delete": Key("Control-Delete", "Ctrl+Del", "delete object"),
}


def hint(text: str, key: str) -> str:
    """A tooltip that names its key."""
    return f"{text}  ({KEYS[key].shown})"


def help_text() -> str:
    """All keys and the mouse, as HTML."""
    mouse = (
        ("Click", "the object is here"),
        ("Ctrl or Alt + click, right click", "the object is not here"),
        ("Shift + drag", "a box around the object"),
        ("Drag, wheel", "move, zoom"),
    )
    rows = [*mouse, *((key.shown, key.does) for key in KEYS.values())]
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
        self._bound: list[Any] = []

    def bind(self, providers: Iterable[Any]) -> None:
        """Bind all keys to these too; those that have them already are left."""
        for provider in providers:
            if any(provider is known for known in self._bound):
                continue
            self._bound.append(provider)
            for name, action in self._actions.items():
                provider.bind_key(KEYS[name].napari, _called(action), overwrite=True)

    def close(self) -> None:
        """Give all keys back."""
        for provider in self._bound:
            for name in self._actions:
                provider.bind_key(KEYS[name].napari, None, overwrite=True)
        self._bound.clear()


def _called(action: Callable[[], Any]) -> Callable[[Any], None]:
    def pressed(_: Any) -> None:
        action()

    return pressed
