"""Mouse: clicks and drags on the canvas become clicks and boxes of the current object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_MAX_CLICK_MOVE_PX = 4.0  # screen pixels the mouse may move during a click
_NEGATIVE_MODIFIERS = ("Control", "Alt", "Meta")


@dataclass(frozen=True)
class Gestures:
    """What is done with them: `on_click` gets a world position and whether it is on the object, `on_drag` two of them and whether it is done."""

    on_click: Callable[[Any, bool], None]
    on_drag: Callable[[Any, Any, bool], None]
    is_listening: Callable[[], bool]
    is_drawing_box: Callable[[], bool]


class Mouse:
    """A click is the object; with Ctrl or Alt, or the right button, what is not.

    Shift and a drag, or the box tool, is a box.

    A drag that is no box is napari's: it pans.
    """

    def __init__(self, viewer: Any, gestures: Gestures) -> None:
        self._viewer = viewer
        self._gestures = gestures
        viewer.mouse_drag_callbacks.insert(0, self._on_press)

    def close(self) -> None:
        """Leave the mouse alone."""
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        if not self._gestures.is_listening() or event.button not in (1, 2):
            return
        start, world, button = tuple(event.pos), tuple(event.position), event.button
        held = [name for name in ("Shift", *_NEGATIVE_MODIFIERS) if name in event.modifiers]
        boxing = button == 1 and ("Shift" in held or self._gestures.is_drawing_box())
        camera = self._viewer.scene.camera
        panned = camera.mouse_pan
        if boxing:
            camera.mouse_pan = False
        moved = False
        yield
        while event.type == "mouse_move":
            moved = moved or _compute_distance(start, event.pos) > _MAX_CLICK_MOVE_PX
            if boxing and moved:
                self._gestures.on_drag(world, tuple(event.position), False)
            yield
        if boxing:
            camera.mouse_pan = panned
        if boxing and (moved or _compute_distance(start, event.pos) > _MAX_CLICK_MOVE_PX):
            self._gestures.on_drag(world, tuple(event.position), True)
        elif not moved and _compute_distance(start, event.pos) <= _MAX_CLICK_MOVE_PX:
            self._gestures.on_click(world, button == 1 and not set(held) & set(_NEGATIVE_MODIFIERS))


def _compute_distance(one: Any, other: Any) -> float:
    return float(((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) ** 0.5)
