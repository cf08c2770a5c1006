"""PanelDriver: uses the mouse and keys in a real napari window, and waits for the results."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam2.core.protocols import VideoModel
from napari_sam2.gui.app.view import Stage
from napari_sam2.gui.widgets.panel import Panel
from napari_sam2.testing.scenes import Scene

TIMEOUT_S = 60.0


class PanelDriver:
    """A panel in a viewer."""

    def __init__(
        self, viewer: Any, load: Callable[[str], VideoModel], root: Path | None = None
    ) -> None:
        self.viewer = viewer
        self.panel = Panel(viewer, load=load, root=lambda: root)
        self.dock = viewer.window.add_dock_widget(self.panel, name="SAM 2 for stacks", area="right")
        self.messages: list[str] = []
        self.panel.notify = lambda text, is_error=False: self.messages.append(text)  # type: ignore[method-assign, misc, assignment]
        self.panel.canvas.notify = self.panel.notify
        self.wait_until_idle()

    def open_scene(self, scene: Scene, **options: Any) -> Any:
        """Open the stack of a scene as an image layer, at its first frame."""
        names = {"axis_labels": tuple(scene.stack.axes), "name": scene.name, **options}
        layer = self.viewer.add_image(scene.stack.data, **names)
        self.viewer.dims.set_point(0, 0)
        self.viewer.reset_view()
        self.wait_until(lambda: self.ready and self.panel.controller.snapshot.options.device != "")
        return layer

    @property
    def ready(self) -> bool:
        """Whether nothing is being worked on."""
        return self.panel.controller.snapshot.stage in (Stage.READY, Stage.EMPTY)

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Let the window work until this is true."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, (
                f"waited {TIMEOUT_S:.0f} s in vain; the panel says {self.panel.controller.snapshot}"
            )
            QApplication.processEvents()
            time.sleep(0.001)

    def wait_until_idle(self) -> None:
        """Wait until all tasks are done and drawn."""
        for _ in range(3):
            QApplication.processEvents()
        self.wait_until(lambda: self.ready and not self.panel.redraw_pending)

    def get_canvas_point(self, layer: Any, data: tuple[float, ...]) -> QPoint:
        """Where a position of a layer lies on the canvas."""
        camera, size = self.viewer.scene.camera, self.canvas.size()
        world = np.asarray(layer.data_to_world(data))[-2:]
        y, x = (world - np.asarray(camera.center)[-2:]) * camera.zoom + (
            size.height() / 2,
            size.width() / 2,
        )
        return QPoint(round(x), round(y))

    @property
    def canvas(self) -> Any:
        """The widget that the picture is on."""
        return self.viewer.window._qt_viewer.canvas.native

    def click(
        self, layer: Any, data: tuple[float, ...], *, modifiers: Any = None, button: Any = None
    ) -> None:
        """A click of the mouse."""
        where = self.get_canvas_point(layer, data)
        QTest.mouseMove(self.canvas, where)
        QApplication.processEvents()
        QTest.mouseClick(
            self.canvas,
            button or Qt.MouseButton.LeftButton,
            modifiers or Qt.KeyboardModifier.NoModifier,
            where,
        )
        self.wait_until_idle()

    def drag(
        self, layer: Any, start: tuple[float, ...], end: tuple[float, ...], *, modifiers: Any = None
    ) -> None:
        """The mouse dragged from here to there."""
        modifiers = modifiers or Qt.KeyboardModifier.NoModifier
        one, other = self.get_canvas_point(layer, start), self.get_canvas_point(layer, end)
        QTest.mouseMove(self.canvas, one)
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, modifiers, one)
        for step in range(1, 6):
            between = one + (other - one) * step / 5
            QTest.mouseMove(self.canvas, between, 10)
            QApplication.processEvents()
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, modifiers, other)
        self.wait_until_idle()

    def press(self, key: Any, modifiers: Any = None, *, wait: bool = True) -> None:
        """A key pressed over the canvas."""
        self.canvas.setFocus()
        QTest.keyClick(self.canvas, key, modifiers or Qt.KeyboardModifier.NoModifier)
        if wait:
            self.wait_until_idle()

    def read_labels(self, layer: Any) -> np.ndarray:
        """What the Labels layer over an image holds."""
        overlays = self.panel.canvas.overlays_by_layer[str(layer.unique_id)]
        return np.array(overlays.labels.data)

    def close(self) -> None:
        """Take the panel down as napari does."""
        if self.dock is not None:
            self.viewer.window.remove_dock_widget(self.dock)
            self.dock = None
        for _ in range(5):
            QApplication.processEvents()
