"""Make the pictures of docs/napari.md, and count the clicks and keys of the tutorial.

    xvfb-run -a -s "-screen 0 1400x1000x24" python docs/make_pictures.py OUT

The script works from an empty napari window to saved tables on both samples, in at most eight
clicks and keys. Qt sends real clicks and keys to the widgets. Only the Plugins menu and the folder
dialog are not shown, and are counted as the clicks they take.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

PICTURES = Path(__file__).parent / "images"
WINDOW_SIZE = (1390, 990)
TIMEOUT_S = 900.0
MAX_ACTIONS = 8


class User:
    """A user of a napari window, whose clicks and keys are counted."""

    def __init__(self) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*WINDOW_SIZE)
        self.application = QApplication.instance()
        self.actions: list[str] = []
        self.process_events(0.5)

    def process_events(self, seconds: float) -> None:
        """Run the event loop for some time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.application.processEvents()
            time.sleep(0.005)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Run the event loop until a condition is true."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end:
                sys.exit(f"nothing happened for {TIMEOUT_S:.0f} s")
            self.process_events(0.05)
        self.process_events(0.5)

    def open_panel(self) -> Any:
        """Open the panel: Plugins, SAM 2 for stacks."""
        self.actions += ["click Plugins", "click SAM 2 for stacks"]
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-sam2", "SAM 2 for stacks")
        self.process_events(0.5)
        return panel

    def click(self, widget: Any, label: str) -> None:
        """Click a button."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self.actions.append(f"click {label}")
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
        self.process_events(0.3)

    def choose(self, menu: Any, text: str) -> None:
        """Choose an entry of a menu: click its button, then the entry."""
        menu.aboutToShow.emit()
        self.actions += ["click Take from layer", f"click {text}"]
        next(action for action in menu.actions() if text in action.text()).trigger()
        self.process_events(0.3)

    def press(self, key: Any, name: str) -> None:
        """Press a key over the canvas."""
        from qtpy.QtTest import QTest

        self.actions.append(f"key {name}")
        QTest.keyClick(self.viewer.window._qt_viewer.canvas.native, key)
        self.process_events(0.3)

    def save_screenshot(self, name: str) -> None:
        """Save a small screenshot."""
        from PIL import Image

        self.process_events(0.5)
        path = PICTURES / f"{name}.png"
        pixels = self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        small = Image.fromarray(pixels[..., :3]).quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        small.save(path, optimize=True)


def run_sample(name: str, out: Path) -> pd.DataFrame:
    """Work on a sample from the empty window to the saved tables. Returns the counts."""
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QFileDialog, QPushButton

    from napari_sam2.gui.app.view import Stage
    from napari_sam2.gui.layers.samples import TITLES

    user = User()
    panel = user.open_panel()
    control = panel.controller

    def ready() -> bool:
        return control.snapshot.stage is Stage.READY

    user.save_screenshot(f"{name}-1-panel")
    (button,) = [
        each for each in panel.image.findChildren(QPushButton) if each.text() == TITLES[name]
    ]
    user.click(button, TITLES[name])
    user.wait_until(ready)
    user.choose(panel.objects.import_menu, "nuclei")
    user.wait_until(lambda: ready() and control.snapshot.has_prompts)
    panel.canvas.go_to_frame(control.state.log.prompts[0].frame)
    user.save_screenshot(f"{name}-2-objects")
    user.press(Qt.Key.Key_P, "P")
    user.wait_until(lambda: control.snapshot.done > 8)
    user.save_screenshot(f"{name}-3-propagating")
    user.wait_until(ready)
    user.save_screenshot(f"{name}-4-done")
    # the dialog belongs to the system, and cannot be clicked here
    QFileDialog.getExistingDirectory = staticmethod(lambda *_: str(out))
    user.click(panel.save_button, "Save labels and tables")
    user.actions.append("click Choose")
    user.wait_until(lambda: (out / "provenance.json").exists() and ready())
    if not panel.docks.tables.button.isChecked():
        panel.docks.tables.toggle()
    user.wait_until(ready)
    user.process_events(3.0)
    user.save_screenshot(f"{name}-5-tables")
    _check_actions(name, user.actions)
    counts = pd.read_csv(out / "counts.csv")
    print(f"{name}: {counts.iloc[-1]['n']} objects in {out}")
    user.viewer.close()
    user.process_events(0.5)
    return counts


def _check_actions(name: str, actions: list[str]) -> None:
    print(f"{name}: {len(actions)} clicks and keys: {'; '.join(actions)}")
    if len(actions) > MAX_ACTIONS:
        sys.exit(f"{name}: more than {MAX_ACTIONS}")


def run_counting() -> None:
    """Count the z-stack without a click: seeds first, then objects."""
    from napari_sam2.gui.app.view import Stage

    user = User()
    panel = user.open_panel()

    def ready() -> bool:
        return panel.controller.snapshot.stage is Stage.READY

    panel.open_sample("nuclei_z")
    user.viewer.layers["nuclei_z nuclei"].visible = False
    user.wait_until(ready)
    user.click(panel.docks.count.button, "Count")
    user.wait_until(ready)
    tab = panel.docks.count.widget
    user.click(tab.detect_button, "Detect seeds")
    user.wait_until(ready)
    user.save_screenshot("count-1-seeds")
    user.click(tab.count_button, "Count")
    user.wait_until(ready)
    user.save_screenshot("count-2-objects")
    print(f"counted: {tab.result_label.text()} {'; '.join(user.actions)}")
    user.viewer.close()
    user.process_events(0.5)


def main() -> None:
    """Work on both samples, and count the first one without a click."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for the labels and tables")
    parser.add_argument("--samples", nargs="*", default=["nuclei_z", "migration_t"])
    parser.add_argument(
        "--no-count", action="store_true", help="skip the pictures of the Count tab"
    )
    arguments = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    for name in arguments.samples:
        _use_fresh_settings()
        run_sample(name, arguments.out / name)
    if not arguments.no_count:
        _use_fresh_settings()
        run_counting()


def _use_fresh_settings() -> None:
    """Use new settings and no projects: those of this machine are neither read nor changed."""
    scratch = tempfile.mkdtemp()
    os.environ["NAPARI_CONFIG"], os.environ["XDG_DATA_HOME"] = (
        f"{scratch}/settings.yaml",
        f"{scratch}/data",
    )


if __name__ == "__main__":
    main()
