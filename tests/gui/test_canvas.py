"""The canvas on a viewer without a window: layers are renamed, deleted and opened again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

components = pytest.importorskip("napari.components", reason="napari is not installed")

from napari.layers import Tracks

from napari_sam2.core.errors import PlanError
from napari_sam2.core.track import Track
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.gui.app.view import InlineWorker, SessionKey, TrackPrompts
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_axes import get_layer_key, make_image_selection, read_layer_axes
from napari_sam2.testing.scenes import Scene, make_dividing_scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel
from tests.gui.windows import MockView


class Drawing(MockView):
    """A mock view that has a canvas."""

    canvas: Canvas

    def draw_planes(self, key: SessionKey, planes: Any) -> None:
        self.canvas.draw_planes(key, planes)

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        self.canvas.draw_prompts(key, track_prompts)


class CanvasWindow:
    """A canvas with a controller, on a viewer without a window."""

    def __init__(self) -> None:
        self.viewer = components.ViewerModel()
        self.view = Drawing()
        self.controller = Controller(self.view, InlineWorker(), load=lambda _: ToyModel())
        self.view.canvas = self.canvas = Canvas(self.viewer, self.controller, self.view.notify)

    def open(self, scene: Scene) -> Any:
        """The stack of a scene, as a layer that is worked on."""
        layer = self.viewer.add_image(
            scene.stack.data, axis_labels=tuple(scene.stack.axes), name=scene.name
        )
        self.viewer.dims.set_point(0, 0)
        self.canvas.use_image(layer, read_layer_axes(layer), make_image_selection(layer))
        return layer


def test_deleted_overlays_are_made_again_with_all_that_is_known() -> None:
    scene, window = make_drifting_scene(), CanvasWindow()
    layer = window.open(scene)
    window.canvas.click((0, *scene.make_click(1, 0).yx[0]), True)
    overlays = window.canvas.overlays
    assert overlays is not None
    layer.name = "another name"
    for made in (overlays.labels, overlays.points):
        window.viewer.layers.remove(made)
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(overlays.labels.data == 1, scene.labels == 1)
    assert overlays.labels in window.viewer.layers
    window.controller.start_object()
    window.canvas.click((0, *scene.make_click(2, 0).yx[0]), True)
    assert len(overlays.points.data) == 1
    assert window.viewer.layers.selection.active == layer


def test_an_image_opened_again_after_deletion_has_no_objects() -> None:
    scene, window = make_drifting_scene(), CanvasWindow()
    layer = window.open(scene)
    window.canvas.click((0, *scene.make_click(1, 0).yx[0]), True)
    window.viewer.layers.remove(layer)
    window.canvas.forget_image(get_layer_key(layer))
    window.controller.forget_image(get_layer_key(layer))
    window.controller.propagation.propagate()
    assert "Open an image first" in window.view.errors[-1]
    again = window.open(scene)
    assert window.view.snapshot.objects == ()
    window.canvas.click((0, *scene.make_click(2, 0).yx[0]), True)
    labels = window.canvas.overlays.labels if window.canvas.overlays else None
    assert labels is not None and labels.name == f"{again.name} objects [1]"
    np.testing.assert_array_equal(labels.data[0] > 0, scene.mask(2, 0))


def test_the_objects_lie_between_the_image_and_the_clicks() -> None:
    scene, window = make_drifting_scene(), CanvasWindow()
    layer = window.open(scene)
    window.canvas.click((0, *scene.make_click(1, 0).yx[0]), True)
    overlays = window.canvas.overlays
    assert overlays is not None
    assert list(window.viewer.layers) == [layer, overlays.labels, overlays.points]


def test_tracks_layer_shows_divisions_and_is_replaced() -> None:
    scene, window = make_dividing_scene(), CanvasWindow()
    image = window.open(scene)
    image.scale = (1.0, 0.5, 0.5)
    key = window.controller.key
    assert key is not None
    with pytest.raises(PlanError, match="no object is measured yet"):
        window.canvas.draw_tracks(key, LiveTables(scene.video).make_tables())
    live_tables = LiveTables(scene.video)
    live_tables.set_descriptions([Track(2, parent=1), Track(3, parent=1)])
    half = len(scene.labels) // 2
    for frames in (range(half), range(half, len(scene.labels))):
        for frame in frames:
            live_tables.measure_frame(frame, scene.labels[frame])
        window.canvas.draw_tracks(key, live_tables.make_tables())
        (layer,) = [each for each in window.viewer.layers if isinstance(each, Tracks)]
        assert window.viewer.layers.selection.active == image and tuple(layer.scale) == (
            1.0,
            0.5,
            0.5,
        )
        shown = live_tables.make_tables().objects.sort_values(["track", "frame"])
        np.testing.assert_allclose(layer.data, shown[["track", "frame", "y", "x"]])
    assert {child: list(mother) for child, mother in layer.graph.items()} == {2: [1], 3: [1]}


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda viewer: setattr(viewer.dims, "ndisplay", 3), "Show the image in 2D"),
        (lambda viewer: setattr(viewer.dims, "order", (1, 0, 2)), "Show the y and x axes"),
        (lambda _: None, "outside the image"),
    ],
    ids=["in 3D", "other axes", "outside"],
)
def test_a_useless_click_explains_why(prepare: Any, sentence: str) -> None:
    scene, window = make_drifting_scene(), CanvasWindow()
    window.open(scene)
    prepare(window.viewer)
    window.canvas.click((0, -50, 10), True)
    assert sentence in window.view.errors[-1]
    assert len(window.controller.state.log) == 0


def test_painting_filling_and_erasing_make_masks() -> None:
    scene, window = make_drifting_scene(), CanvasWindow()
    window.open(scene)
    waiting: list[Any] = []
    overlays = window.canvas.overlays
    assert overlays is not None
    overlays.defer = waiting.append
    window.controller.start_object()
    overlays.start_painting(1, lasso=False)
    overlays.labels.brush_size = 7
    overlays.labels.paint((0, 20, 20), 1)
    waiting.pop()()
    painted = overlays.labels.data[0] == 1
    drawn_mask = window.controller.state.log.combine_prompts(1, 0).mask
    assert drawn_mask is not None and painted.sum() > 20
    np.testing.assert_array_equal(drawn_mask, painted)
    overlays.labels.paint((0, 20, 16), 0)
    waiting.pop()()
    erased = window.controller.state.log.combine_prompts(1, 0).mask
    assert erased is not None and 0 < erased.sum() < drawn_mask.sum()
    overlays.labels.paint_polygon(np.array([[0, 40, 40], [0, 40, 50], [0, 50, 50]]), 1)
    waiting.pop()()
    lassoed = window.controller.state.log.combine_prompts(1, 0).mask
    assert lassoed is not None and lassoed[42, 48] and lassoed.sum() > erased.sum()


def test_each_position_of_the_other_axes_has_its_own_labels() -> None:
    scene, window = make_drifting_scene(), CanvasWindow()
    data = np.stack([scene.stack.data, scene.stack.data[:, ::-1]])
    layer = window.viewer.add_image(data, axis_labels=("t", "z", "y", "x"))
    window.viewer.dims.set_point((0, 1), (0, 0))
    window.canvas.use_image(layer, read_layer_axes(layer), make_image_selection(layer, along="z"))
    y, x = scene.make_click(1, 0).yx[0]
    window.canvas.click((0, 0, y, x), True)
    window.controller.propagation.propagate()
    window.viewer.dims.set_point(0, 1)
    assert window.view.snapshot.objects == ()
    window.canvas.click((1, 0, 63 - y, x), True)
    window.controller.propagation.propagate()
    overlays = window.canvas.overlays
    assert overlays is not None
    np.testing.assert_array_equal(overlays.labels.data[0] > 0, scene.labels == 1)
    np.testing.assert_array_equal(overlays.labels.data[1] > 0, scene.labels[:, ::-1] == 1)


def test_only_the_visible_frame_is_redrawn() -> None:
    scene, window = make_drifting_scene(), CanvasWindow()
    window.open(scene)
    window.canvas.click((0, *scene.make_click(1, 0).yx[0]), True)
    window.canvas.refresh()
    overlays, key = window.canvas.overlays, window.controller.key
    assert overlays is not None and key is not None
    drawn: list[int] = []
    overlays.refresh = lambda: drawn.append(window.controller.frame)  # type: ignore[method-assign]
    for frame, anew in ((4, []), (0, [0])):
        window.canvas.draw_planes(key, {frame: np.ones(scene.video.shape[1:], dtype=np.uint16)})
        window.canvas.refresh()
        assert drawn == anew
    window.viewer.dims.ndisplay = 3
    window.canvas.draw_planes(key, {4: np.ones(scene.video.shape[1:], dtype=np.uint16)})
    window.canvas.refresh()
    assert drawn == [0, 0]


def test_a_layer_that_was_deleted_is_not_touched() -> None:
    scene, window = make_drifting_scene(), CanvasWindow()
    window.open(scene)
    window.canvas.click((0, *scene.make_click(1, 0).yx[0]), True)
    overlays = window.canvas.overlays
    assert overlays is not None
    labels, touched = overlays.labels, list[str]()
    window.viewer.layers.remove(labels)
    labels.events.connect(lambda event: touched.append(event.type))
    overlays.refresh()
    overlays.select(1)
    assert touched == []
