"""A napari window for these tests: one for all of them, cleared in between.

They skip where there is no napari or no display.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_sam2.core.protocols import VideoModel
from napari_sam2.testing.toy import ToyModel


@pytest.fixture(scope="session")
def napari_viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An open viewer, with settings of its own."""
    pytest.importorskip("qtpy", reason="napari and a Qt binding are not installed")
    pytest.importorskip("napari", reason="napari is not installed")
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        pytest.skip("no display: run the tests under xvfb-run")
    os.environ["NAPARI_CONFIG"] = str(tmp_path_factory.mktemp("napari") / "settings.yaml")
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1300, 900)
    yield viewer
    viewer.close()
    for _ in range(20):
        QApplication.processEvents()


@pytest.fixture
def errors() -> Iterator[list[BaseException]]:
    """What was raised where nobody could catch it: in a slot of Qt. Fails the test at its end."""
    raised: list[BaseException] = []
    before, sys.excepthook = sys.excepthook, lambda kind, error, trace: raised.append(error)
    yield raised
    sys.excepthook = before
    assert raised == []


@pytest.fixture
def open_panel(napari_viewer: Any, errors: list[BaseException]) -> Iterator[Callable[..., Any]]:
    """Open panels with the toy model; each is a `tests.gui.hands.PanelDriver`.

    They are taken down, and their layers too.
    """
    from tests.gui.hands import PanelDriver

    opened: list[PanelDriver] = []

    def _open(
        load: Callable[[str], VideoModel] = lambda _: ToyModel(), root: Path | None = None
    ) -> PanelDriver:
        opened.append(PanelDriver(napari_viewer, load, root))
        return opened[-1]

    yield _open
    for hands in opened:
        hands.close()
    napari_viewer.layers.clear()


@pytest.fixture
def results_folder(tmp_path: Path) -> Path:
    """A folder to save into."""
    return tmp_path / "results"
