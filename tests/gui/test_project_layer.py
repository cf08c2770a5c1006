"""Projects in a real window: gone on with after a crash, and opened from anywhere.

And the walk through what is worth a look.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sam2.testing.scenes import (
    make_drifting_scene,
    make_jumping_scene,
    make_two_channel_scene,
)
from napari_sam2.testing.toy import ToyModel

pytest.importorskip("qtpy", reason="napari and a Qt binding are not installed")
pytest.importorskip("napari", reason="napari is not installed")

try:
    from qtpy.QtCore import Qt
except ImportError as error:  # pragma: no cover - a Qt binding without its libraries
    pytest.skip(f"Qt cannot be loaded: {error}", allow_module_level=True)
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from tests.gui.test_window import Gated

OpenPanel = Callable[..., Any]


def shown(hands: Any) -> Any:
    """The image that is worked on now."""
    return hands.panel.image.image


def test_after_a_crash_the_last_project_is_one_click_away(
    open_panel: OpenPanel, tmp_path: Path
) -> None:
    scene, model = make_drifting_scene(), Gated()
    hands = open_panel(lambda _: model, tmp_path / "before")
    assert hands.panel.image.last_project_button.isHidden()
    layer = hands.open_scene(scene, scale=(1, 2, 2), units=("s", "um", "um"))
    for track in scene.tracks:
        hands.press(Qt.Key.Key_N)
        hands.click(layer, (0, *scene.make_click(track, 0).yx[0]))
    hands.panel.controller.describe(2, name="mine")
    hands.press(Qt.Key.Key_P, wait=False)
    model.gate.release(4)
    hands.wait_until(lambda: hands.panel.controller.snapshot.done == 4)
    shutil.copytree(
        tmp_path / "before", tmp_path / "after"
    )  # what the machine that stopped now would leave
    model.gate.release(1000)
    hands.wait_until_idle()
    hands.close()
    hands.viewer.layers.clear()
    hands = open_panel(lambda _: ToyModel(), tmp_path / "after")
    assert hands.panel.image.last_project_button.text().startswith("Continue with ")
    QTest.mouseClick(hands.panel.image.last_project_button, Qt.MouseButton.LeftButton)
    hands.wait_until(lambda: hands.panel.controller.state.log.track_ids == scene.tracks)
    hands.wait_until_idle()
    layer = shown(hands)
    np.testing.assert_array_equal(layer.data, scene.stack.data)
    assert (tuple(layer.scale), layer.axis_labels[0]) == ((60.0, 0.5, 0.5), "t") or tuple(
        layer.scale
    ) == (1, 2, 2)
    np.testing.assert_array_equal(hands.read_labels(layer)[:4], scene.labels[:4])
    assert [row.name for row in hands.panel.objects.table.rows] == ["", "mine", ""]
    assert hands.panel.propagation.propagate_button.text() == "Resume"
    hands.press(Qt.Key.Key_P)
    np.testing.assert_array_equal(hands.read_labels(layer), scene.labels)
    assert len(list((tmp_path / "after").iterdir())) == 1


def test_a_project_folder_from_elsewhere_is_opened_with_its_channel(
    open_panel: OpenPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = make_two_channel_scene()
    hands = open_panel(root=tmp_path / "here")
    layer = hands.open_scene(scene)
    hands.panel.image.channel_choice.setCurrentIndex(1)
    hands.wait_until_idle()
    hands.click(layer, (0, 0, *scene.make_click(1, 0).yx[0]))
    labels = hands.read_labels(layer)
    hands.close()
    hands.viewer.layers.clear()
    (folder,) = [each.parent for each in (tmp_path / "here").glob("*-c1-*/project.json")]
    moved = tmp_path / "elsewhere" / "mine"
    shutil.move(folder, moved)
    hands = open_panel(root=tmp_path / "there")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", staticmethod(lambda *_: str(moved)))
    QTest.mouseClick(hands.panel.image.open_project_button, Qt.MouseButton.LeftButton)
    hands.wait_until(lambda: hands.panel.controller.state.log.track_ids == (1,))
    hands.wait_until_idle()
    assert hands.panel.controller.key.selection.channel == 1
    np.testing.assert_array_equal(hands.read_labels(shown(hands)), labels)
    assert not (tmp_path / "there").exists()


def test_a_folder_without_a_project_is_one_error(open_panel: OpenPanel, tmp_path: Path) -> None:
    hands = open_panel()
    hands.panel.open_project(tmp_path)
    hands.wait_until_idle()
    (messages,) = hands.messages
    assert "expected a project folder" in messages and len(hands.viewer.layers) == 0


def test_review_goes_through_all_flags_and_back(open_panel: OpenPanel) -> None:
    scene = make_jumping_scene()
    hands = open_panel()
    layer = hands.open_scene(scene)
    control = hands.panel.controller
    for track in scene.tracks:
        hands.press(Qt.Key.Key_N)
        hands.click(layer, (0, *scene.make_click(track, 0).yx[0]))
    hands.press(Qt.Key.Key_P)
    seen = []
    for _ in range(50):
        hands.press(Qt.Key.Key_X)
        if any("last of" in text for text in hands.messages):
            break
        said = control.snapshot.message
        seen.append((control.frame, control.state.current))
        assert (
            said.startswith(f"{len(seen)} of ")
            and f"object {control.state.current}, frame {control.frame}" in said
        )
        assert hands.panel.status.text() == said
    count = (
        int(control.snapshot.message.split(" of ")[1].split(":")[0])
        if " of " in control.snapshot.message
        else len(seen)
    )
    assert len(seen) == count > 0
    assert 5 in {frame for frame, _ in seen}  # it jumps there
    hands.press(Qt.Key.Key_X)
    assert (control.frame, control.state.current) == seen[0]
