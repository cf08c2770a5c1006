"""The tutorial, done by a script: from a blank napari window to saved tables on both samples, in at most eight clicks and keys.

    xvfb-run -a -s "-screen 0 1400x1000x24" python docs/make_pictures.py OUT

It makes the pictures of docs/napari.md, and says how many clicks and keys each sample took. Clicks
and keys are real ones, given to the widgets by Qt; only the menu Plugins and the folder dialogue
are not shown by a window system in memory, and are counted as the clicks they take.
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
    """Someone at a napari window, who counts what they do."""

    def __init__(self) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(*WINDOW_SIZE)
        self.application = QApplication.instance()
        self.actions: list[str] = []
        self.process_events(0.5)

    def process_events(self, seconds: float) -> None:
        """Let the window work."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.application.processEvents()
            time.sleep(0.005)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for what was begun."""
        end = time.monotonic() + TIMEOUT_S
        while not condition():
            if time.monotonic() > end:
                sys.exit(f"waited {TIMEOUT_S:.0f} s for nothing")
            self.process_events(0.05)
        self.process_events(0.5)

    def open_panel(self) -> Any:
        """Plugins, SAM 2 for stacks."""
        self.actions += ["click Plugins", "click SAM 2 for stacks"]
        _, panel = self.viewer.window.add_plugin_dock_widget("napari-sam2", "SAM 2 for stacks")
        self.process_events(0.5)
        return panel

    def click(self, widget: Any, label: str) -> None:
        """The mouse on a button."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        self.actions.append(f"click {label}")
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)
        self.process_events(0.3)

    def choose(self, menu: Any, text: str) -> None:
        """An entry of a menu: its button, then the entry."""
        menu.aboutToShow.emit()
        self.actions += ["click Take from layer", f"click {text}"]
        next(action for action in menu.actions() if text in action.text()).trigger()
        self.process_events(0.3)

    def press(self, key: Any, name: str) -> None:
        """A key over the canvas."""
        from qtpy.QtTest import QTest

        self.actions.append(f"key {name}")
        QTest.keyClick(self.viewer.window._qt_viewer.canvas.native, key)
        self.process_events(0.3)

    def save_screenshot(self, name: str) -> None:
        """A screenshot, small."""
        from PIL import Image

        self.process_events(0.5)
        path = PICTURES / f"{name}.png"
        pixels = self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        small = Image.fromarray(pixels[..., :3]).quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        small.save(path, optimize=True)


def run_sample(name: str, out: Path) -> pd.DataFrame:
    """One sample from the blank window to the saved tables; the counts that were saved."""
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QFileDialog, QPushButton

    from napari_sam2.gui.app.view import Stage
    from napari_sam2.gui.layers.samples import TITLES

    person = User()
    panel = person.open_panel()
    control = panel.controller

    def ready() -> bool:
        return control.snapshot.stage is Stage.READY

    person.save_screenshot(f"{name}-1-panel")
    (button,) = [
        each for each in panel.image.findChildren(QPushButton) if each.text() == TITLES[name]
    ]
    person.click(button, TITLES[name])
    person.wait_until(ready)
    person.choose(panel.objects.menu, "nuclei")
    person.wait_until(lambda: ready() and control.snapshot.prompted)
    panel.canvas.go_to(control.book.log.prompts[0].frame)
    person.save_screenshot(f"{name}-2-objects")
    person.press(Qt.Key.Key_P, "P")
    person.wait_until(lambda: control.snapshot.done > 8)
    person.save_screenshot(f"{name}-3-propagating")
    person.wait_until(ready)
    person.save_screenshot(f"{name}-4-done")
    QFileDialog.getExistingDirectory = staticmethod(
        lambda *_: str(out)
    )  # the dialogue is the system's own
    person.click(panel.save, "Save labels and tables")
    person.actions.append("click Choose")
    person.wait_until(lambda: (out / "provenance.json").exists() and ready())
    if not panel.docks.buttons["tables"].isChecked():
        panel.docks.toggle("tables")
    person.wait_until(ready)
    person.process_events(3.0)
    person.save_screenshot(f"{name}-5-tables")
    print(f"{name}: {len(person.actions)} clicks and keys: {'; '.join(person.actions)}")
    if len(person.actions) > MAX_ACTIONS:
        sys.exit(f"{name}: more than {MAX_ACTIONS}")
    counts = pd.read_csv(out / "counts.csv")
    print(f"{name}: {counts.iloc[-1]['n']} objects in {out}")
    person.viewer.close()
    person.process_events(0.5)
    return counts


def run_counting() -> None:
    """The z-stack counted without a click: seeds, then objects."""
    from napari_sam2.gui.app.view import Stage

    person = User()
    panel = person.open_panel()

    def ready() -> bool:
        return panel.controller.snapshot.stage is Stage.READY

    panel.open_sample("nuclei_z")
    person.viewer.layers["nuclei_z nuclei"].visible = False
    person.wait_until(ready)
    person.click(panel.docks.buttons["count"], "Count")
    person.wait_until(ready)
    tab = panel.docks._widgets["count"]
    person.click(tab.find, "Find seeds")
    person.wait_until(ready)
    person.save_screenshot("count-1-seeds")
    person.click(tab.count, "Count")
    person.wait_until(ready)
    person.save_screenshot("count-2-objects")
    print(f"counted: {tab.result.text()} {'; '.join(person.actions)}")
    person.viewer.close()
    person.process_events(0.5)


def main() -> None:
    """Both samples, and the first one counted without a click."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for the labels and tables")
    parser.add_argument("--samples", nargs="*", default=["nuclei_z", "migration_t"])
    parser.add_argument(
        "--no-count", action="store_true", help="leave out the pictures of the Count tab"
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
    """Begin as someone new: nothing of the person at this machine is read or changed, and nothing is taken up."""
    scratch = tempfile.mkdtemp()
    os.environ["NAPARI_CONFIG"], os.environ["XDG_DATA_HOME"] = (
        f"{scratch}/settings.yaml",
        f"{scratch}/data",
    )


if __name__ == "__main__":
    main()
