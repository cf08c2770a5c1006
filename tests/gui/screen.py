"""A Qt application for tests of single widgets; they skip where there is no Qt, or no screen to show it on."""

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

_kept: list[QApplication] = []


def application() -> QApplication:
    """The one there is, or a new one."""
    if QApplication.instance() is None:
        _kept.append(QApplication(sys.argv[:1]))
    return QApplication.instance()


def shown(widget: Any, width: int, height: int) -> Any:
    """A widget of that size, on the screen."""
    application()
    widget.resize(width, height)
    widget.show()
    settle()
    return widget


def settle() -> None:
    """Let the window do all that is waiting."""
    for _ in range(5):
        QApplication.processEvents()


def wait_until(true: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Keep the window going until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        QApplication.processEvents()
        time.sleep(0.005)
