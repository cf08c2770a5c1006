"""The panel in a real napari window: the mouse, the keys, and layers edited by hand."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from napari_sam2.core.result import Embedding, Query, Segment
from napari_sam2.models.load import load_model
from napari_sam2.testing.scenes import (
    make_drifting_scene,
    make_jumping_scene,
    make_two_channel_scene,
)
from napari_sam2.testing.toy import ToyModel

pytest.importorskip("qtpy", reason="napari and a Qt binding are not installed")
pytest.importorskip("napari", reason="napari is not installed")

from qtpy.QtCore import QTimer

try:
    from qtpy.QtCore import Qt
except ImportError as error:  # pragma: no cover - a Qt binding without its libraries
    pytest.skip(f"Qt cannot be loaded: {error}", allow_module_level=True)

OpenPanel = Callable[..., Any]


class Gated(ToyModel):
    """A toy model that waits before each frame until it is let on."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        if any(query.memory_references for query in queries):
            self.gate.acquire(timeout=20)
        return super().segment(embedding, queries)


def test_from_a_click_to_saved_tables(open_panel: OpenPanel, results_folder: Path) -> None:
    scene = make_drifting_scene()
    hands = open_panel()
    layer = hands.open_scene(scene, scale=(1, 2, 2), units=("s", "um", "um"))
    for track in scene.tracks:
        hands.press(Qt.Key.Key_N)
        hands.click(layer, (0, *scene.make_click(track, 0).yx[0]))
    np.testing.assert_array_equal(hands.read_labels(layer)[0], scene.labels[0])
    hands.press(Qt.Key.Key_P)
    np.testing.assert_array_equal(hands.read_labels(layer), scene.labels)
    shown = hands.panel.canvas.overlays.labels
    assert tuple(shown.scale) == (1, 2, 2)
    assert shown.axis_labels == layer.axis_labels
    assert shown.units == layer.units
    assert hands.viewer.layers.selection.active == layer
    hands.panel.save_results(results_folder)
    hands.wait_until(lambda: any("Saved" in text for text in hands.messages))
    assert pd.read_csv(results_folder / "counts.csv").iloc[-1]["n"] == 3
    assert (
        pd.read_csv(results_folder / "objects.csv")["area_um2"].iloc[0]
        == 4 * pd.read_csv(results_folder / "objects.csv")["area_px"].iloc[0]
    )


def test_clicks_and_drags_are_prompts(open_panel: OpenPanel) -> None:
    scene = make_drifting_scene()
    hands = open_panel()
    layer = hands.open_scene(scene)
    control = hands.panel.controller
    one, two = (scene.make_click(track, 0).yx[0] for track in (1, 2))
    centre = tuple(hands.viewer.scene.camera.center)
    hands.click(layer, (0, *one))
    hands.click(layer, (0, *two), modifiers=Qt.KeyboardModifier.ControlModifier)
    hands.click(layer, (0, 1, 60), button=Qt.MouseButton.RightButton)
    said = control.state.log.combine_prompts(1, 0)
    assert said.positive == (True, False, False)
    np.testing.assert_allclose(said.points[0], one, atol=0.6)
    points = hands.panel.canvas.overlays.points
    assert list(points.features["kind"]) == ["object", "not object", "not object"]
    hands.press(Qt.Key.Key_N)
    hands.drag(layer, (0, 2, 2), (0, 22, 40), modifiers=Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_allclose(
        control.state.log.combine_prompts(2, 0).box, (2, 2, 22, 40), atol=0.6
    )
    assert tuple(hands.viewer.scene.camera.center) == centre
    assert len(hands.panel.canvas.overlays.shapes.data) == 1
    hands.drag(layer, (0, 50, 50), (0, 30, 30))
    assert tuple(hands.viewer.scene.camera.center) != centre
    assert len(control.state.log) == 4


def test_keys_undo_redo_accept_and_change_frames(open_panel: OpenPanel) -> None:
    scene = make_drifting_scene()
    hands = open_panel()
    layer = hands.open_scene(scene)
    control = hands.panel.controller
    hands.click(layer, (0, *scene.make_click(1, 0).yx[0]))
    hands.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not hands.read_labels(layer).any()
    hands.press(
        Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    )
    assert hands.read_labels(layer)[0].any()
    hands.press(Qt.Key.Key_A)
    assert control.state.log.is_locked(1, 0)
    hands.press(Qt.Key.Key_Right)
    hands.press(Qt.Key.Key_Right)
    hands.press(Qt.Key.Key_Left)
    assert (control.frame, hands.viewer.dims.current_step[0]) == (1, 1)
    hands.press(Qt.Key.Key_N)
    assert control.state.current == 2
    hands.press(Qt.Key.Key_Up)
    assert control.state.current == 1


def test_cancel_midway_correct_and_undo(open_panel: OpenPanel) -> None:
    scene, model = make_jumping_scene(), Gated()
    hands = open_panel(lambda _: model)
    layer = hands.open_scene(scene)
    for track in scene.tracks:
        hands.press(Qt.Key.Key_N)
        hands.click(layer, (0, *scene.make_click(track, 0).yx[0]))
    hands.press(Qt.Key.Key_P, wait=False)
    model.gate.release(6)
    hands.wait_until(lambda: hands.panel.controller.snapshot.done == 6)
    assert hands.panel.propagation.propagate_button.text() == "Pause"
    hands.press(Qt.Key.Key_Escape, wait=False)
    model.gate.release(1000)
    hands.wait_until_idle()
    assert hands.panel.propagation.propagate_button.text() == "Resume"
    assert 6 <= hands.read_labels(layer).any(axis=(1, 2)).sum() < 10
    hands.press(Qt.Key.Key_P)
    wrong = hands.read_labels(layer)
    assert not np.array_equal(wrong, scene.labels)
    hands.panel.controller.select(1)
    hands.panel.canvas.go_to_frame(5)
    hands.click(layer, (5, *scene.make_click(1, 5).yx[0]))
    hands.press(Qt.Key.Key_P)
    np.testing.assert_array_equal(hands.read_labels(layer), scene.labels)
    for _ in range(2):
        hands.press(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(hands.read_labels(layer), wrong)


def test_the_window_stays_responsive_during_propagation(open_panel: OpenPanel) -> None:
    scene = make_drifting_scene(count=20, frames=30, shape=(128, 128))
    hands = open_panel()
    layer = hands.open_scene(scene)
    for track in scene.tracks:
        hands.panel.controller.start_object()
        hands.panel.controller.add_click(0, scene.make_click(track, 0).yx[0], positive=True)
    hands.wait_until_idle()
    steps_seen: set[int] = set()
    timer = QTimer()
    timer.setInterval(5)
    timer.timeout.connect(lambda: steps_seen.add(hands.panel.controller.snapshot.done))
    timer.start()
    hands.press(Qt.Key.Key_P, wait=False)
    hands.wait_until_idle()
    timer.stop()
    np.testing.assert_array_equal(hands.read_labels(layer), scene.labels)
    assert len(steps_seen) > 3, "Qt's event loop ran between the steps"


def test_closing_during_propagation_ends_the_thread_and_keeps_layers(
    open_panel: OpenPanel,
) -> None:
    scene, model = make_drifting_scene(), Gated()
    hands = open_panel(lambda _: model)
    layer = hands.open_scene(scene)
    hands.click(layer, (0, *scene.make_click(1, 0).yx[0]))
    hands.press(Qt.Key.Key_P, wait=False)
    model.gate.release(3)
    hands.wait_until(lambda: hands.panel.controller.snapshot.done == 3)
    labels = hands.panel.canvas.overlays.labels
    worker = hands.panel.worker
    model.gate.release(1000)
    hands.close()
    worker.thread.join(10)
    assert not worker.thread.is_alive()
    assert labels in hands.viewer.layers
    assert labels.data[:4].any(axis=(1, 2)).all()
    hands.viewer.dims.set_point(0, 5)
    hands.viewer.layers.remove(layer)


def test_painting_and_moving_points_are_prompts(open_panel: OpenPanel) -> None:
    scene = make_drifting_scene()
    hands = open_panel()
    layer = hands.open_scene(scene)
    control = hands.panel.controller
    hands.press(Qt.Key.Key_W)
    labels = hands.panel.canvas.overlays.labels
    assert (labels.mode, hands.viewer.layers.selection.active) == ("paint", labels)
    labels.brush_size = 9
    y, x = scene.make_click(1, 0).yx[0]
    hands.drag(layer, (0, y, x), (0, y, x + 6))
    hands.wait_until(lambda: control.state.log.combine_prompts(1, 0).mask is not None)
    hands.wait_until_idle()
    drawn = control.state.log.combine_prompts(1, 0).mask
    assert drawn[round(y), round(x)] and drawn[round(y), round(x) + 6] and 60 < drawn.sum() < 200
    np.testing.assert_array_equal(hands.read_labels(layer)[0] == 1, drawn)
    hands.press(Qt.Key.Key_Q)
    assert hands.viewer.layers.selection.active == layer
    hands.press(Qt.Key.Key_N)
    hands.click(layer, (0, *scene.make_click(2, 0).yx[0]))
    points = hands.panel.canvas.overlays.points
    points.data = np.array([(0, *scene.make_click(3, 0).yx[0])])
    hands.wait_until_idle()
    np.testing.assert_array_equal(hands.read_labels(layer)[0] == 2, scene.mask(3, 0))
    points.selected_data = {0}
    points.remove_selected()
    hands.wait_until_idle()
    assert not (hands.read_labels(layer) == 2).any()


@pytest.mark.parametrize(
    "place",
    [
        {"scale": (3, 0.5, 0.25), "translate": (7, -10, 20)},
        {"rotate": 30, "scale": (1, 2, 2)},
        {"affine": [[1, 0, 0, 2], [0, 0.9, 0.2, 5], [0, -0.2, 1.1, 1], [0, 0, 0, 1]]},
    ],
    ids=["scale and translate", "rotated", "affine"],
)
def test_a_click_lands_at_its_position_in_a_transformed_layer(
    open_panel: OpenPanel, place: dict[str, Any]
) -> None:
    scene = make_drifting_scene()
    hands = open_panel()
    layer = hands.open_scene(scene, **place)
    hands.panel.canvas.go_to_frame(3)
    hands.click(layer, (3, *scene.make_click(2, 3).yx[0]))
    np.testing.assert_array_equal(hands.read_labels(layer)[3] > 0, scene.mask(2, 3))


def test_channels_share_their_labels(open_panel: OpenPanel) -> None:
    scene = make_two_channel_scene()
    hands = open_panel()
    layer = hands.open_scene(scene)
    assert hands.panel.image.channel_choice.count() == 2
    hands.click(layer, (0, 0, *scene.make_click(1, 0).yx[0]))
    hands.press(Qt.Key.Key_P)
    np.testing.assert_array_equal(hands.read_labels(layer)[:, 1] > 0, scene.labels == 1)


def test_a_deleted_image_is_forgotten_after_napari_removed_it(
    open_panel: OpenPanel,
) -> None:
    hands = open_panel()
    layer = hands.open_scene(make_drifting_scene())
    hands.viewer.layers.remove(layer)
    assert hands.panel.controller.key is not None
    hands.wait_until(lambda: hands.panel.controller.key is None)
    assert hands.panel.image.image is None


def test_lanes_and_tables_follow_the_slider(open_panel: OpenPanel) -> None:
    hands = open_panel()
    hands.open_scene(make_drifting_scene())
    docks = (hands.panel.docks.lanes, hands.panel.docks.tables)
    for dock in docks:
        if not dock.button.isChecked():
            dock.toggle()
    hands.wait_until_idle()
    lanes, tables = (dock.widget for dock in docks)
    for frame in (7, 3):
        hands.viewer.dims.set_current_step(0, frame)
        hands.wait_until_idle()
        assert lanes.frame == tables.frame == frame


def test_precision_is_chosen_and_saved(
    open_panel: OpenPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the embedded model, on a processor that has bfloat16, whatever this one has."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    hands, scene = (
        open_panel(lambda name: load_model(name, device="cpu"), tmp_path),
        make_drifting_scene(),
    )
    layer = hands.open_scene(scene)
    prompt = scene.make_click(1)
    hands.click(layer, (prompt.frame, *prompt.yx[0]))
    choice, controller = hands.panel.model.precision_choice, hands.panel.controller
    assert choice.isVisible() and choice.currentText() == "float32"
    choice.setCurrentIndex(choice.findData("bfloat16"))
    choice.activated.emit(choice.currentIndex())
    hands.wait_until_idle()
    assert controller.snapshot.options.precision == choice.currentData() == "bfloat16"
    assert hands.panel.model.about_label.text().endswith("on the processor in bfloat16")
    assert controller.state.log.track_ids == (1,) and hands.messages == []
    said = {
        json.loads(path.read_text())["model"]["precision"]
        for path in tmp_path.glob("*/project.json")
    }
    assert said == {"float32", "bfloat16"}, "what was made in float32 stays"


def test_a_nucleus_ends_in_z_if_detections_are_compared(
    open_panel: OpenPanel, shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded model and its detector, from the tick box to the project file."""
    folder = shared_folder / "data" / "zstack_and_2d_stardist"
    image, truth = (tifffile.imread(folder / name) for name in ("img3d.tif", "mask3d.tif"))
    nucleus = truth == 23
    frame = int(nucleus.sum(axis=(1, 2)).argmax())
    yx = [float(side.mean()) for side in np.nonzero(nucleus[frame])]
    hands = open_panel(lambda name: load_model(name, device="cpu"), tmp_path)
    viewer, controller = hands.viewer, hands.panel.controller
    layer = viewer.add_image(
        image, name="nuclei", axis_labels=("z", "y", "x"), scale=(2, 1, 1), units=("um",) * 3
    )
    hands.wait_until(lambda: hands.ready and controller.snapshot.options.device != "")
    viewer.dims.set_current_step(0, frame)
    viewer.reset_view()
    box = hands.panel.model.evidence_checkbox
    assert box.isVisible() and not box.isChecked()
    said: list[str] = []
    show = controller._queue.show_state
    monkeypatch.setattr(
        controller._queue, "show_state", lambda: (said.append(controller.snapshot.message), show())
    )
    box.click()
    hands.wait_until_idle()
    assert box.isChecked() and controller.snapshot.evidence == "all"
    assert not any("Detecting" in each for each in said), "nothing is detected before a click"
    hands.click(layer, (frame, *yx))
    hands.press(Qt.Key.Key_P)
    hands.wait_until_idle()
    if os.environ.get("SAM2_SCREENSHOTS"):
        viewer.screenshot(f"{os.environ['SAM2_SCREENSHOTS']}/evidence.png", canvas_only=False)
    assert any(each.startswith("Detecting objects to compare with") for each in said)
    shown = hands.read_labels(layer).any(axis=(1, 2))
    assert shown[frame] and (shown & ~nucleus.any(axis=(1, 2))).sum() <= 3
    kept = {json.loads(path.read_text())["evidence"] for path in tmp_path.glob("*/project.json")}
    assert kept == {"none", "all"}, "what was made without stays"
