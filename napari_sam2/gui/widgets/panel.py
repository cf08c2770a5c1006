"""Panel: the dock widget. It shows the state of the controller and passes on user input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QMessageBox, QPushButton, QWidget

from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.project_store import get_projects_folder
from napari_sam2.gui.app.session_registry import load_model_in_background
from napari_sam2.gui.app.session_update import PropagationRequest
from napari_sam2.gui.app.view import SessionKey, Snapshot, Stage, TrackPrompts
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_axes import (
    LayerAxes,
    get_layer_key,
    make_image_selection,
    read_layer_axes,
)
from napari_sam2.gui.layers.layer_prompts import read_layer_prompts
from napari_sam2.gui.layers.project_layer import (
    ProjectLayer,
    find_latest_project,
    open_project_layer,
)
from napari_sam2.gui.layers.samples import make_sample_layers
from napari_sam2.gui.thread_worker import ThreadWorker
from napari_sam2.gui.widgets.dockable import Dockable
from napari_sam2.gui.widgets.docks import Docks
from napari_sam2.gui.widgets.elements import (
    VerticalScrollArea,
    follow_theme,
    make_column,
    make_muted_label,
    make_row,
    make_rule,
    make_single_shot_timer,
    make_tool_button,
)
from napari_sam2.gui.widgets.image_section import ImageSection, describe_image
from napari_sam2.gui.widgets.keys import Keyboard, make_help_text, make_hint
from napari_sam2.gui.widgets.model_section import ModelSection
from napari_sam2.gui.widgets.object_list import ObjectList
from napari_sam2.gui.widgets.propagation_section import PropagationSection
from napari_sam2.gui.widgets.tools_section import Tool, ToolsSection
from napari_sam2.measurement.track_status import TrackStatuses
from napari_sam2.tracking.seeds import Seed

_REDRAW_MS = 40
"""Milliseconds between two redraws of canvas and lists: the window stays responsive."""

_FIT_MS = 100
"""Milliseconds after which a new image is fitted: by then the lanes below it have their room."""


class Panel(Dockable):
    """Segment objects and propagate them through a stack.

    Parameters
    ----------
    napari_viewer
        The viewer.
    load
        Loads a model by name.
    root
        Gives the folder of the projects; None if nothing is kept.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        *,
        load: Callable[[str], Any] = load_model_in_background,
        root: Callable[[], Path | None] = get_projects_folder,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.worker, self._downloads = ThreadWorker(), ThreadWorker("napari-sam2-download")
        self.root = root()
        self.controller = Controller(self, self.worker, load=load, root=self.root)
        self.canvas = Canvas(
            self.viewer, self.controller, self.notify, defer=lambda do: QTimer.singleShot(0, do)
        )
        self.docks = Docks(self.viewer, self.controller, self.canvas)
        self._snapshot = Snapshot()
        self._initial_axes: dict[str, tuple[str, int]] = {}  # axis and channel by layer key
        self._removed_layer_keys: list[str] = []
        self._needs_redraw = False
        self._build()
        self._connect_sections()
        self._connect_viewer()
        self.image.offer_project(find_latest_project(self.root))
        self.refresh_images()
        self.show_state(Snapshot())

    def _build(self) -> None:
        self.image = ImageSection()
        self.model = ModelSection(self._downloads)
        self.objects = ObjectList()
        self.objects.table.track_colour = self.canvas.get_colour
        self.tools = ToolsSection()
        self.propagation = PropagationSection()
        self.save_button = QPushButton("Save labels and tables…")
        self.save_button.setProperty("icon_name", "save")
        self.save_button.setToolTip(
            make_hint(
                "Save labels.ome.tif, objects.csv, tracks.csv, counts.csv and more in a folder",
                "save",
            )
        )
        self.status = make_muted_label()
        self.help_button = make_tool_button("help", "Keys and mouse", self.show_help)
        self.restart_button = make_tool_button(
            "restart",
            "Start over with this image. The old work stays in its project folder.",
            self.controller.restart,
        )
        column = make_column(self)
        column.addWidget(self._make_sections(), 1)
        column.addWidget(self._make_bottom())
        self._fit_timer = make_single_shot_timer(self, self.viewer.reset_view, _FIT_MS)
        self._relist_timer = make_single_shot_timer(self, self._on_images_removed)
        self._redraw_timer = make_single_shot_timer(self, self._on_redraw, _REDRAW_MS)
        follow_theme(self)

    def _make_sections(self) -> VerticalScrollArea:
        """All sections, in the order of work."""
        inside = QWidget()
        layout = make_column(inside, margin=8)
        for part in (self.image, make_rule(), self.model, make_rule()):
            layout.addWidget(part)
        layout.addWidget(self.objects, 1)
        for part in (make_rule(), self.tools, make_rule(), self.propagation):
            layout.addWidget(part)
        return VerticalScrollArea(inside)

    def _make_bottom(self) -> QWidget:
        """What is visible always: the docks, saving, and the message."""
        bottom = QWidget()
        layout = make_column(bottom, margin=8)
        layout.addWidget(make_rule())
        layout.addLayout(make_row(self.docks.review_button, None, *self.docks.buttons, spacing=2))
        layout.addWidget(self.save_button)
        row = make_row(self.status, self.restart_button, self.help_button)
        row.setStretch(0, 1)
        layout.addLayout(row)
        return bottom

    def _connect_sections(self) -> None:
        self.image.selection_changed.connect(self._on_image)
        self.image.sample_chosen.connect(self.open_sample)
        self.image.project_chosen.connect(self.open_project)
        self.model.model_chosen.connect(self._on_model)
        self.model.option_chosen.connect(
            lambda name, value: self.controller.reconfigure_model(**{name: value})
        )
        self.model.download.failed.connect(lambda error: self.notify(str(error), is_error=True))
        self.objects.object_selected.connect(self.controller.select)
        self.objects.table.description_edited.connect(
            lambda track, field, text: self.controller.describe(track, **{field: text})
        )
        self.objects.import_menu.aboutToShow.connect(self._offer_import_layers)
        self.tools.tool_chosen.connect(self.canvas.use_tool)
        self.docks.notified.connect(lambda text, is_error: self.notify(text, is_error=is_error))
        self.docks.model_trained.connect(self._on_trained)
        self.docks.range_chosen.connect(self.propagation.set_range)
        self.save_button.clicked.connect(lambda *_: self.run_action("save"))
        for section in (self.objects, self.tools, self.propagation, self.docks):
            section.action_requested.connect(self.run_action)

    def _connect_viewer(self) -> None:
        self.keyboard = Keyboard(self._key_actions)
        self.keyboard.bind([self.viewer])
        for release in (
            self.worker.close,
            lambda: self._downloads.close(0.0),
            self.keyboard.close,
            self.canvas.close,
            self.docks.close,
        ):
            self._exit_stack.callback(release)
        events = self.viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered):
            emitter.connect(self._on_layers)
            self._exit_stack.callback(emitter.disconnect, self._on_layers)
        self._exit_stack.callback(self.controller.close)
        self.destroyed.connect(self._exit_stack.close)

    @property
    def _key_actions(self) -> dict[str, Callable[[], Any]]:
        """Actions by name, that have a key; see `KEY_BINDINGS`."""
        control = self.controller
        return {
            "new": control.start_object,
            "propagate": self.propagate,
            "cancel": control.propagation.cancel,
            "accept": lambda: control.accept(control.frame),
            "other": control.choose_next_mask,
            "point": lambda: self.tools.choose_tool(Tool.POINT),
            "box": lambda: self.tools.choose_tool(Tool.BOX),
            "paint": lambda: self.tools.choose_tool(Tool.PAINT),
            "lasso": lambda: self.tools.choose_tool(Tool.LASSO),
            "back": lambda: self.canvas.go_to_frame(control.frame - 1),
            "forth": lambda: self.canvas.go_to_frame(control.frame + 1),
            "previous": lambda: control.select_next(-1),
            "next": lambda: control.select_next(1),
            "review": self.docks.review.go_to_next,
            "review_back": lambda: self.docks.review.go_to_next(-1),
            "undo": control.undo,
            "redo": control.redo,
            "save": self.save_results,
            "delete": lambda: control.remove(self.objects.selected_tracks),
        }

    def run_action(self, name: str) -> None:
        """Run an action by the name that its key or button has."""
        button_actions: dict[str, Callable[[], Any]] = {
            "merge": lambda: self.controller.merge(self.objects.selected_tracks),
            "split": lambda: self.canvas.split(self.controller.state.current),
            "lock": self.lock_selected,
        }
        {**self._key_actions, **button_actions}[name]()

    # the View

    def show_state(self, snapshot: Snapshot) -> None:
        """Show a state of the controller."""
        stages = {snapshot.stage, self._snapshot.stage}
        self._snapshot = snapshot
        self.canvas.follow_propagation(
            snapshot, enabled=self.propagation.watch_checkbox.isChecked()
        )
        if stages == {Stage.RUNNING}:
            self._needs_redraw = True
            self._start_redraw_timer()
        else:
            self._show_sections()

    def draw_planes(self, key: SessionKey, planes: Mapping[int, np.ndarray]) -> None:
        """Draw label planes: at once, or soon if something was drawn just now."""
        self.canvas.draw_planes(key, planes)
        if self._redraw_timer.isActive():
            self._needs_redraw = True
        else:
            self.canvas.refresh()
            self._redraw_timer.start()

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        """Draw the current object's clicks and boxes."""
        self.canvas.draw_prompts(key, track_prompts)

    def draw_seeds(self, key: SessionKey, seeds: Sequence[Seed]) -> None:
        """Draw detected seeds, to be edited."""
        self.canvas.draw_seeds(key, seeds)

    def notify(self, text: str, *, is_error: bool = False) -> None:
        """Show a napari notification."""
        (show_error if is_error else show_info)(text)

    def update_statuses(
        self, key: SessionKey, statuses: TrackStatuses, new: TrackStatuses | None
    ) -> None:
        """Show the statuses of a session in the lanes."""
        self.docks.update_statuses(key, statuses, new)

    # actions

    def open_sample(self, name: str) -> None:
        """Open a sample that comes with the plugin."""
        layers = [self.viewer.add_layer(Layer.create(*each)) for each in make_sample_layers(name)]
        self.viewer.layers.selection.active = layers[0]
        self._fit_timer.start()

    def open_project(self, folder: str | Path = "") -> None:
        """Continue a project; asks for its folder if none is given."""
        chosen = str(folder) or QFileDialog.getExistingDirectory(
            self, "Choose a project folder", str(self.root or "")
        )
        if chosen:
            self.controller.run_in_background(
                lambda: open_project_layer(Path(chosen)),
                self._reopen_project,
                message="Opening the project…",
            )

    def _reopen_project(self, project: ProjectLayer) -> None:
        layer, video = Layer.create(project.data, project.options, "image"), project.file.video
        channel = video.channel or 0
        at = tuple((axis, video.at[axis]) for axis in "tz" if axis in video.at)
        try:
            selection = make_image_selection(layer, along=video.along, channel=channel)
        except Sam2Error as error:
            self.notify(str(error), is_error=True)
            return
        key = SessionKey(selection, at)
        self._initial_axes[get_layer_key(layer)] = video.along, channel
        self.controller.reopen(key, project.folder, project.file.model.name_or_path)
        self.model.show_model(project.file.model.name)
        self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = layer
        self.canvas.show_position(key)
        self._fit_timer.start()

    def propagate(self) -> None:
        """Propagate, pause or resume."""
        if self._snapshot.stage is Stage.RUNNING:
            self.controller.propagation.pause()
            return
        request = PropagationRequest()
        if not self._snapshot.unfinished:
            request = self.propagation.make_request(self.controller.state.current)
        self.controller.propagation.propagate(request)

    def lock_selected(self) -> None:
        """Lock the selected objects; unlock them if all are locked."""
        rows = {each.track: each for each in self._snapshot.objects}
        chosen = self.objects.selected_tracks
        locked = all(
            rows[track].locked_count >= rows[track].frame_count > 0
            for track in chosen
            if track in rows
        )
        self.controller.lock(chosen, locked=not locked)

    def import_layer(self, layer: Any) -> None:
        """Add the objects of a Labels, Points or Shapes layer as prompts."""
        key, axes = self.controller.key, self.canvas.axes
        if axes is None or key is None:
            self.notify("Open an image first.", is_error=True)
            return
        try:
            prompts = read_layer_prompts(layer, self.image.image, axes, key, self.controller.frame)
        except Sam2Error as error:
            self.notify(str(error), is_error=True)
            return
        layer.visible = False
        self.controller.add_prompts(prompts)

    def save_results(self, folder: Path | None = None) -> None:
        """Save labels and tables; asks for a folder if none is given."""
        if not self._snapshot.has_prompts:
            self.notify("There is nothing to save yet. Click an object first.", is_error=True)
            return
        title = "Choose a folder for labels and tables"
        chosen = str(folder) if folder else QFileDialog.getExistingDirectory(self, title)
        if chosen:
            self.controller.save(Path(chosen))

    def show_help(self) -> None:
        """Show the keys and what the mouse does."""
        box = QMessageBox(
            QMessageBox.Icon.NoIcon,
            "Keys and mouse",
            make_help_text(),
            QMessageBox.StandardButton.Close,
            self,
        )
        box.show()

    # images and models

    def refresh_images(self) -> None:
        """List the open images. The chosen one stays chosen."""
        images = [layer for layer in self.viewer.layers if isinstance(layer, Image)]
        current = self.image.image
        if current is None or current not in images:
            active = self.viewer.layers.selection.active
            current = active if active in images else (images[-1] if images else None)
        self.image.offer_images(images, current)
        self._on_image()

    def _on_layers(self, event: Any) -> None:
        layer = getattr(event, "value", None)
        if isinstance(layer, Labels):
            self.docks.refresh_detectors()
        if event.type == "inserted" and self.canvas.is_overlay(layer):
            self.keyboard.bind([layer])  # a layer's own keys come before those of the viewer
        if not isinstance(layer, Image):
            return
        if event.type == "removed":
            # napari is still removing it: layers must not be touched before it is done
            self._removed_layer_keys.append(get_layer_key(layer))
            self._relist_timer.start()
            return
        if event.type == "inserted":
            layer.events.name.connect(self._on_renamed)
            self._exit_stack.callback(layer.events.name.disconnect, self._on_renamed)
        self.refresh_images()

    def _on_images_removed(self) -> None:
        removed, self._removed_layer_keys = self._removed_layer_keys, []
        if self.controller.closed:
            return
        for key in removed:
            self.canvas.forget_image(key)
            self.controller.forget_image(key)
        self.refresh_images()

    def _on_renamed(self, event: Any) -> None:
        self.refresh_images()

    def _on_image(self, *_: Any) -> None:
        """Another image, axis or channel was chosen."""
        image, old_key = self.image.image, self.controller.key
        try:
            axes = None if image is None else read_layer_axes(image)
            along, channel = self._resolve_axes(image, axes)
            selection = (
                None if axes is None else make_image_selection(image, along=along, channel=channel)
            )
        except (Sam2Error, ValueError) as error:
            axes, selection, along, channel = None, None, "", 0
            self.image.about_label.setText(str(error))
        self.image.show_axes(axes, along=along, channel=channel)
        if axes is not None and selection is not None:
            axes = axes.with_axis(along)
            self.image.about_label.setText(describe_image(axes, image))
            self.keyboard.bind([image])
            self.docks.show_lanes_once()
        self.canvas.use_image(image, axes, selection)
        if selection is None or old_key is None or old_key.selection != selection:
            self.propagation.set_frame_count(selection.length if selection else 0)

    def _resolve_axes(self, image: Any, axes: LayerAxes | None) -> tuple[str, int]:
        """The chosen axis and channel; the initial ones if the image is a new one."""
        if axes is None:
            return "", 0
        key = self.controller.key
        along = self.image.axis_choice.currentData()
        channel = self.image.channel_choice.currentData() or 0
        if (
            key is None
            or key.selection.layer_key != get_layer_key(image)
            or along not in axes.propagation_axes
        ):
            return self._initial_axes.pop(get_layer_key(image), (axes.default_axis, 0))
        return str(along), channel if channel < axes.channel_count else 0

    def _on_model(self, name: str) -> None:
        def show_old_model(loaded: bool) -> None:
            if not loaded:
                self.model.show_model(self._snapshot.model)

        self.controller.use_model(name, show_old_model)

    def _on_trained(self, path: str) -> None:
        """A model was trained: list it, and use it from now on."""
        name = Path(path).stem
        self.model.refresh(name)
        self._on_model(name)

    def _offer_import_layers(self) -> None:
        """List the layers that objects can be imported from."""
        own = self.canvas.own_layer_keys
        self.objects.offer_import_layers(
            [
                (
                    f"{type(layer).__name__}: {layer.name}",
                    partial(self.import_layer, layer),
                )
                for layer in self.viewer.layers
                if isinstance(layer, Labels | Points | Shapes) and get_layer_key(layer) not in own
            ]
        )

    # drawing

    @property
    def redraw_pending(self) -> bool:
        """Whether changes may not be drawn yet."""
        return bool(self._redraw_timer.isActive())

    def _start_redraw_timer(self) -> None:
        if not self._redraw_timer.isActive():
            self._redraw_timer.start()

    def _on_redraw(self) -> None:
        """Draw what changed since the last redraw, and wait again before the next one."""
        if self._needs_redraw:
            self._needs_redraw = False
            self.canvas.refresh()
            self._show_sections()
            self._redraw_timer.start()

    def _show_sections(self) -> None:
        snapshot = self._snapshot
        self.objects.show_rows(snapshot.objects, snapshot.current)
        self.tools.show_state(snapshot)
        self.propagation.show_state(snapshot)
        self.save_button.setEnabled(snapshot.has_prompts)
        self.status.setText(snapshot.message)
        self.model.show_state(snapshot)
        self.docks.show_state(snapshot)
