"""The Count tab in a real window: detect, edit the points, count, save; or one click."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_sam2.testing.scenes import Scene, make_drifting_scene, make_ellipsoid_scene
from tests.gui.test_counting_task import same_objects

pytest.importorskip("qtpy", reason="napari and a Qt binding are not installed")
pytest.importorskip("napari", reason="napari is not installed")

try:
    from qtpy.QtCore import Qt
except ImportError as error:  # pragma: no cover - a Qt binding without its libraries
    pytest.skip(f"Qt cannot be loaded: {error}", allow_module_level=True)
from qtpy.QtTest import QTest

OpenPanel = Callable[..., Any]


def open_count_tab(open_panel: OpenPanel, scene: Scene, **options: Any) -> tuple[Any, Any, Any]:
    """Hands, layer and the tab, with the truth as a label layer beside."""
    hands = open_panel()
    layer = hands.open_scene(scene, **options)
    hands.viewer.add_labels(scene.labels.astype(int), name="truth", visible=False)
    hands.viewer.layers.selection.active = layer
    hands.panel.docks.count.toggle()
    hands.wait_until_idle()
    return hands, layer, hands.panel.docks.count.widget


def click(hands: Any, button: Any) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    hands.wait_until_idle()


def choose_truth(tab: Any) -> None:
    """The label layer is the source."""
    tab.detector_choice.setCurrentIndex(tab.detector_choice.findText("labels: truth"))


def test_find_edit_count_and_save(open_panel: OpenPanel, results_folder: Path) -> None:
    scene = make_drifting_scene()
    hands, layer, tab = open_count_tab(open_panel, scene, scale=(1, 2, 2), units=("s", "um", "um"))
    choose_truth(tab)
    click(hands, tab.detect_button)
    seeds = hands.viewer.layers["drifting seeds"]
    assert len(seeds.data) == 30
    assert tuple(seeds.scale) == (1, 2, 2)
    click(hands, tab.edit_button)
    assert (hands.viewer.layers.selection.active, str(seeds.mode)) == (seeds, "select")
    of_the_second = {
        n for n, (t, y, x) in enumerate(seeds.data) if scene.mask(2, int(t))[round(y), round(x)]
    }
    seeds.selected_data = of_the_second
    seeds.remove_selected()
    seeds.add((4, *scene.make_click(2, 4).yx[0]))
    click(hands, tab.count_button)
    assert same_objects(hands.read_labels(layer), scene.labels)
    assert not seeds.visible and hands.viewer.layers.selection.active == layer
    assert tab.result_label.text() == "3 objects in this stack."
    assert [row.state for row in hands.panel.objects.table.rows] != []
    hands.panel.save_results(results_folder)
    hands.wait_until(lambda: any("Saved" in text for text in hands.messages))
    assert pd.read_csv(results_folder / "counts.csv").iloc[-1]["n"] == 3
    assert (results_folder / "report.html").exists()


def test_one_click_finds_and_counts_a_volume_and_a_click_corrects_it(open_panel: OpenPanel) -> None:
    scene = make_ellipsoid_scene()
    hands, layer, tab = open_count_tab(open_panel, scene)
    choose_truth(tab)
    click(hands, tab.count_button)
    assert same_objects(hands.read_labels(layer), scene.labels)
    frame = scene.find_frames(1)[2]
    hands.panel.canvas.go_to_frame(frame)
    track = int(hands.read_labels(layer)[frame][scene.mask(1, frame)][0])
    hands.panel.controller.select(track)
    hands.click(layer, (frame, *scene.make_click(1, frame).yx[0]))
    assert hands.panel.controller.state.log.prompts[-1].track == track
    for _ in range(2):
        hands.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not hands.read_labels(layer).any()


def test_the_diameter_is_estimated_in_the_units_of_the_image(open_panel: OpenPanel) -> None:
    hands, _, tab = open_count_tab(
        open_panel, make_drifting_scene(), scale=(1, 2, 2), units=("s", "um", "um")
    )
    hands.wait_until(lambda: "estimated:" in tab.diameter.specialValueText())
    guess = float(tab.diameter.specialValueText().split()[1])
    assert tab.diameter.suffix() == " µm" and 20 < guess < 60
    tab.diameter.setValue(30.0)
    assert (tab.make_request().counting.diameter_um, tab.make_request().counting.diameter_px) == (
        30.0,
        None,
    )


def test_stopping_and_a_layer_that_was_deleted(open_panel: OpenPanel) -> None:
    scene = make_drifting_scene()
    hands, layer, tab = open_count_tab(open_panel, scene)
    choose_truth(tab)
    tab.detect_button.click()
    hands.wait_until(lambda: hands.panel.controller.snapshot.done >= 2)
    tab.stop_button.click()
    hands.wait_until_idle()
    assert 0 < len(hands.viewer.layers["drifting seeds"].data) <= 30
    hands.viewer.layers.remove("drifting seeds")
    hands.viewer.layers.remove("truth")
    assert tab.detector_choice.findText("labels: truth") == -1
    tab.detector_choice.setCurrentIndex(0)
    click(hands, tab.count_button)
    assert len(np.unique(hands.read_labels(layer))) > 1
