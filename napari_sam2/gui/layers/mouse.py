"""Mouse: turns clicks and drags on the canvas into clicks and boxes of the current object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import dist
from typing import Any

_MAX_CLICK_MOVE_PX = 4.0  # screen pixels that the mouse may move during a click
_NEGATIVE_MODIFIERS = ("Control", "Alt", "Meta")


@dataclass(frozen=True)
class Gestures:
    """What the mouse does.

    Parameters
    ----------
    on_click
        Called with a world position, and whether it is on the object.
    on_drag
        Called with two world positions, and whether the drag is finished.
    is_listening, is_drawing_box
        Whether clicks are prompts, and whether each drag is a box.
    """

    on_click: Callable[[Any, bool], None]
    on_drag: Callable[[Any, Any, bool], None]
    is_listening: Callable[[], bool]
    is_drawing_box: Callable[[], bool]


class Mouse:
    """The mouse on the canvas of a viewer.

    A click is on the object; with Ctrl or Alt, or the right button, it is not. Shift and a drag,
    or a drag with the box tool, is a box. Other drags pan, as napari does.
    """

    def __init__(self, viewer: Any, gestures: Gestures) -> None:
        self._viewer = viewer
        self._gestures = gestures
        viewer.mouse_drag_callbacks.insert(0, self._on_press)

    def close(self) -> None:
        """Stop listening."""
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Handle one press: napari resumes this generator for each move and for the release."""
        if not self._gestures.is_listening() or event.button not in (1, 2):
            return
        start, world = tuple(event.pos), tuple(event.position)
        negative = any(name in event.modifiers for name in _NEGATIVE_MODIFIERS)
        positive = event.button == 1 and not negative
        with_shift = "Shift" in event.modifiers
        is_box = event.button == 1 and (with_shift or self._gestures.is_drawing_box())
        camera = self._viewer.scene.camera
        could_pan = camera.mouse_pan
        if is_box:
            camera.mouse_pan = False
        moved = False
        yield
        while event.type == "mouse_move":
            moved = moved or dist(start, event.pos) > _MAX_CLICK_MOVE_PX
            if is_box and moved:
                self._gestures.on_drag(world, tuple(event.position), False)
            yield
        if is_box:
            camera.mouse_pan = could_pan
        moved = moved or dist(start, event.pos) > _MAX_CLICK_MOVE_PX
        if is_box and moved:
            self._gestures.on_drag(world, tuple(event.position), True)
        elif not moved:
            self._gestures.on_click(world, positive)
