"""A Qt application for tests of single widgets, which skip without Qt or a screen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("qtpy.QtWidgets", reason="no Qt", exc_type=ImportError)
if sys.platform == "linux" and not any(
    os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
):
    pytest.skip("no screen: run the tests under xvfb-run", allow_module_level=True)

from qtpy.QtWidgets import QApplication

_applications: list[QApplication] = []


def get_application() -> QApplication:
    """The one there is, or a new one."""
    if QApplication.instance() is None:
        _applications.append(QApplication(sys.argv[:1]))
    return QApplication.instance()


def show_widget(widget: Any, width: int, height: int) -> Any:
    """A widget of that size, on the screen."""
    get_application()
    widget.resize(width, height)
    widget.show()
    process_events()
    return widget


def process_events() -> None:
    """Let the window do all that is waiting."""
    for _ in range(5):
        QApplication.processEvents()


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    """Keep the window going until something is true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        QApplication.processEvents()
        time.sleep(0.005)
