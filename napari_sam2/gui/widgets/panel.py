"""Panel: the dock widget. It shows what the controller says, and tells it what the person does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QMessageBox, QPushButton, QScrollArea, QWidget

from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.counting_task import Seed
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
from napari_sam2.measurement.track_status import TrackStatus

_REDRAW_MS = 40
"""The canvas and the lists are drawn anew no more often: the loop must have time for the person."""


class Panel(Dockable):
    """Segment objects and carry them through a stack.

    `load` gives a model by name; `root` is where projects are kept.
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
        self.worker, self._downloads = ThreadWorker(), ThreadWorker("napari-sam2-fetch")
        self.root = root()
        self.controller = Controller(self, self.worker, load=load, root=self.root)
        self.canvas = Canvas(
            self.viewer, self.controller, self.notify, defer=lambda do: QTimer.singleShot(0, do)
        )
        self.docks = Docks(self.viewer, self.controller, self.canvas)
        self._snapshot = Snapshot()
        self._initial_axes: dict[
            str, tuple[str, int]
        ] = {}  # axis and channel to begin with, by image
        self._build()
        self._connect()
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
                "labels.ome.tif, objects.csv, tracks.csv, counts.csv and more, in a folder of "
                "your choice",
                "save",
            )
        )
        self.status = make_muted_label()
        self.help_button = make_tool_button("help", "Keys and mouse", self.show_help)
        self.restart_button = make_tool_button(
            "anew",
            "Start anew with this image; what there was stays in its project folder",
            self.controller.restart,
        )
        make_column(self).addWidget(self._make_scroll_area())
        self._fit_timer = make_single_shot_timer(
            self, self.viewer.reset_view, 100
        )  # once the lanes below have taken their room
        self._removed_layer_keys: list[str] = []
        self._relist_timer = make_single_shot_timer(self, self._on_images_removed)
        self._redraw_timer = make_single_shot_timer(self, self._on_redraw, _REDRAW_MS)
        follow_theme(self)

    def _make_scroll_area(self) -> QScrollArea:
        """All sections, in the order of work."""
        inside = QWidget()
        layout = make_column(inside, margin=8)
        for part in (self.image, make_rule(), self.model, make_rule()):
            layout.addWidget(part)
        layout.addWidget(self.objects, 1)
        for part in (make_rule(), self.tools, make_rule(), self.propagation, make_rule()):
            layout.addWidget(part)
        layout.addLayout(
            make_row(self.docks.review_button, None, *self.docks.buttons.values(), spacing=2)
        )
        layout.addWidget(self.save_button)
        bottom = make_row(self.status, self.restart_button, self.help_button)
        bottom.setStretch(0, 1)
        layout.addLayout(bottom)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(inside)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._content, self._scroll_area = inside, scroll
        return scroll

    def showEvent(self, event: QEvent) -> None:
        """Qt's: wide enough for all of it, now that fonts and theme are those of the window."""
        super().showEvent(event)
        self.setMinimumWidth(
            self._content.minimumSizeHint().width()
            + self._scroll_area.verticalScrollBar().sizeHint().width()
            + 2
        )

    def _connect(self) -> None:
        self.image.selection_changed.connect(self._on_image)
        self.image.sample_chosen.connect(self.open_sample)
        self.image.project_chosen.connect(self.open_project)
        self.model.model_chosen.connect(self._on_model)
        self.model.attention_chosen.connect(
            lambda attention: self.controller.reconfigure_model(attention=attention)
        )
        self.model.windows_chosen.connect(
            lambda windows: self.controller.reconfigure_model(windows=windows)
        )
        self.model.precision_chosen.connect(
            lambda precision: self.controller.reconfigure_model(precision=precision)
        )
        self.model.download_failed.connect(lambda error: self.notify(str(error), is_error=True))
        self.objects.object_selected.connect(self.controller.select)
        self.objects.action_requested.connect(self.run_action)
        self.objects.table.description_edited.connect(
            lambda track, what, text: self.controller.describe(track, **{what: text})
        )
        self.objects.import_menu.aboutToShow.connect(self._offer_sources)
        self.tools.tool_chosen.connect(self._on_tool)
        self.tools.action_requested.connect(self.run_action)
        self.propagation.action_requested.connect(self.run_action)
        self.save_button.clicked.connect(lambda *_: self.run_action("save"))
        self.docks.notified.connect(lambda text, wrong: self.notify(text, is_error=wrong))
        self.docks.model_trained.connect(self._on_trained)
        self.docks.range_chosen.connect(self.propagation.set_range)
        self.docks.action_requested.connect(self.run_action)
        self.keyboard = Keyboard(self._actions)
        self.keyboard.bind([self.viewer])
        layers = self.viewer.layers.events
        listened = (layers.inserted, layers.removed, layers.reordered)
        for release in (
            self.worker.close,
            lambda: self._downloads.close(0.0),
            self.keyboard.close,
            self.canvas.close,
            self.docks.close,
        ):
            self._exit_stack.callback(release)
        for emitter in listened:
            emitter.connect(self._on_layers)
            self._exit_stack.callback(emitter.disconnect, self._on_layers)
        self._exit_stack.callback(self.controller.close)
        self.destroyed.connect(self._exit_stack.close)

    @property
    def _actions(self) -> dict[str, Callable[[], Any]]:
        """What can be asked for by name: by a key, a button, or a command of the palette."""
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
            "review": self.docks.go_to_next_flag,
            "review_back": lambda: self.docks.go_to_next_flag(-1),
            "undo": control.undo,
            "redo": control.redo,
            "save": self.save_results,
            "delete": lambda: control.remove(self.objects.selected_tracks),
        }

    def run_action(self, name: str) -> None:
        """Do what a key or a button is called by."""
        more: dict[str, Callable[[], Any]] = {
            "merge": lambda: self.controller.merge(self.objects.selected_tracks),
            "split": lambda: self.canvas.split(self.controller.state.current),
            "lock": self.lock_selected,
        }
        {**self._actions, **more}[name]()

    # the View

    def show_state(self, snapshot: Snapshot) -> None:
        """Show a state of the controller."""
        hurried = snapshot.stage is Stage.RUNNING and self._snapshot.stage is Stage.RUNNING
        self._snapshot = snapshot
        self.canvas.follow_propagation(
            snapshot, enabled=self.propagation.watch_checkbox.isChecked()
        )
        if hurried:
            self._schedule_redraw()
        else:
            self._show_now()

    def draw_planes(self, key: SessionKey, planes: Mapping[int, np.ndarray]) -> None:
        """Write label planes into the Labels layer, and draw it soon."""
        self.canvas.draw_planes(key, planes)
        self._bind_layers()
        self._schedule_redraw()

    def draw_prompts(self, key: SessionKey, track_prompts: TrackPrompts) -> None:
        """Show the current object's clicks and boxes."""
        self.canvas.draw_prompts(key, track_prompts)
        self._bind_layers()

    def draw_seeds(self, key: SessionKey, seeds: Sequence[Seed]) -> None:
        """Show what a search found, to be edited."""
        self.canvas.draw_seeds(key, seeds)
        self._bind_layers()

    def notify(self, text: str, *, is_error: bool = False) -> None:
        """A napari notification."""
        (show_error if is_error else show_info)(text)

    def update_statuses(
        self,
        key: SessionKey,
        statuses: Mapping[tuple[int, int], TrackStatus],
        new: Mapping[tuple[int, int], TrackStatus] | None,
    ) -> None:
        """What is known of every track on every frame: for the lanes."""
        self.docks.update_statuses(key, statuses, new)

    # what the person does

    def open_sample(self, name: str) -> None:
        """Open a shipped sample."""
        added = [self.viewer.add_layer(Layer.create(*each)) for each in make_sample_layers(name)]
        self.viewer.layers.selection.active = added[0]
        self._fit_timer.start()

    def open_project(self, folder: str | Path = "") -> None:
        """Go on with a project; asks for its folder where none is given."""
        chosen = str(folder) or QFileDialog.getExistingDirectory(
            self, "A project folder", str(self.root or "")
        )
        if chosen:
            self.controller.run_in_background(
                lambda: open_project_layer(Path(chosen)),
                self._reopen_project,
                message="Opening the project…",
            )

    def _reopen_project(self, project: ProjectLayer) -> None:
        layer, walk = Layer.create(project.data, project.options, "image"), project.file.video
        at = tuple((axis, walk.at[axis]) for axis in "tz" if axis in walk.at)
        try:
            place = SessionKey(
                make_image_selection(layer, along=walk.along, channel=walk.channel or 0), at
            )
        except Sam2Error as error:
            self.notify(str(error), is_error=True)
            return
        self._initial_axes[get_layer_key(layer)] = walk.along, walk.channel or 0
        self.controller.reopen(place, project.folder, project.file.model.name_or_path)
        self.model.show_model(project.file.model.name)
        self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = layer
        self.canvas.show_position(place)
        self._fit_timer.start()

    def propagate(self) -> None:
        """Carry on, or pause."""
        if self._snapshot.stage is Stage.RUNNING:
            self.controller.propagation.pause()
        else:
            self.controller.propagation.propagate(
                PropagationRequest()
                if self._snapshot.unfinished
                else self.propagation.make_request(self.controller.state.current)
            )

    def lock_selected(self) -> None:
        """Lock the selected objects, or unlock them where all are locked."""
        rows = {each.track: each for each in self._snapshot.objects}
        chosen = self.objects.selected_tracks
        locked = all(
            rows[track].locked_count >= rows[track].frame_count > 0
            for track in chosen
            if track in rows
        )
        self.controller.lock(chosen, locked=not locked)

    def import_layer(self, layer: Any) -> None:
        """Take the objects of a Labels, Points or Shapes layer as prompts."""
        if self.canvas.axes is None or self.controller.key is None:
            self.notify("Choose an image first.", is_error=True)
            return
        try:
            prompts = read_layer_prompts(
                layer,
                self.image.image,
                self.canvas.axes,
                self.controller.key,
                self.controller.frame,
            )
        except Sam2Error as error:
            self.notify(str(error), is_error=True)
            return
        layer.visible = False
        self.controller.add_prompts(prompts)

    def save_results(self, folder: Path | None = None) -> None:
        """Ask for a folder and save into it."""
        if not self._snapshot.has_prompts:
            self.notify("There is nothing to save yet: click an object first.", is_error=True)
            return
        chosen = (
            str(folder)
            if folder
            else QFileDialog.getExistingDirectory(self, "A folder for labels and tables")
        )
        if chosen:
            self.controller.save(Path(chosen))

    def show_help(self) -> None:
        """Keys and mouse."""
        box = QMessageBox(
            QMessageBox.Icon.NoIcon,
            "Keys and mouse",
            make_help_text(),
            QMessageBox.StandardButton.Close,
            self,
        )
        box.show()

    # what happens around it

    def refresh_images(self) -> None:
        """List the images that are open now; the one that was chosen stays chosen."""
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
        if not isinstance(layer, Image):
            return
        if (
            event.type == "removed"
        ):  # napari is still taking it down: no layer is touched before it has done so
            self._removed_layer_keys.append(get_layer_key(layer))
            self._relist_timer.start()
            return
        if event.type == "inserted":
            layer.events.name.connect(self._on_renamed)
            self._exit_stack.callback(layer.events.name.disconnect, self._on_renamed)
        self.refresh_images()

    def _on_images_removed(self) -> None:
        gone, self._removed_layer_keys = self._removed_layer_keys, []
        if self.controller.closed:
            return
        for key in gone:
            self.canvas.forget_image(key)
            self.controller.forget_image(key)
        self.refresh_images()

    def _on_renamed(self, event: Any) -> None:
        self.refresh_images()

    def _on_image(self, *_: Any) -> None:
        """Another image, axis or channel: work on that."""
        image, before = self.image.image, self.controller.key
        try:
            reading = None if image is None else read_layer_axes(image)
            along, channel = self._resolve_axes(image, reading)
            choice = (
                None
                if reading is None
                else make_image_selection(image, along=along, channel=channel)
            )
        except (Sam2Error, ValueError) as error:
            reading, choice, along, channel = None, None, "", 0
            self.image.about_label.setText(str(error))
        self.image.show_axes(reading, along=along, channel=channel)
        if reading is not None and choice is not None:
            reading = reading.with_axis(along)
            self.image.about_label.setText(describe_image(reading, image))
            self.keyboard.bind([image])
            self.docks.show_lanes_once()
        self.canvas.use_image(image, reading, choice)
        if choice is None or before is None or before.selection != choice:
            self.propagation.set_frame_count(choice.length if choice else 0)

    def _resolve_axes(self, image: Any, axes: LayerAxes | None) -> tuple[str, int]:
        """The axis and channel that are chosen, where the image is the one they were chosen for; else those to begin with."""
        if axes is None:
            return "", 0
        place = self.controller.key
        along, channel = (
            self.image.axis_choice.currentData(),
            self.image.channel_choice.currentData() or 0,
        )
        if (
            place is None
            or place.selection.layer_key != get_layer_key(image)
            or along not in axes.propagation_axes
        ):
            return self._initial_axes.pop(get_layer_key(image), (axes.default_axis, 0))
        return str(along), channel if channel < axes.channel_count else 0

    def _on_model(self, name: str) -> None:
        self.controller.use_model(
            name, lambda came: None if came else self.model.show_model(self._snapshot.model)
        )

    def _on_trained(self, path: str) -> None:
        """A new model was trained: it is listed, and asked from now on."""
        self.model.refresh(Path(path).stem)
        self._on_model(Path(path).stem)

    def _on_tool(self, tool: Tool) -> None:
        self.canvas.use_tool(tool)
        self._bind_layers()

    def _offer_sources(self) -> None:
        """Layers that objects can be taken from."""
        ours = self.canvas.own_layer_keys
        found = [
            each
            for each in self.viewer.layers
            if isinstance(each, Labels | Points | Shapes) and get_layer_key(each) not in ours
        ]
        self.objects.offer_import_layers(
            [
                (
                    f"{type(layer).__name__}: {layer.name}",
                    lambda layer=layer: self.import_layer(layer),  # type: ignore[misc]
                )
                for layer in found
            ]
        )

    # drawing

    def _schedule_redraw(self) -> None:
        if not self._redraw_timer.isActive():
            self._redraw_timer.start()

    def _on_redraw(self) -> None:
        self._show_now()
        self.canvas.refresh()

    def _show_now(self) -> None:
        snapshot = self._snapshot
        self.objects.show_rows(snapshot.objects, snapshot.current)
        self.tools.show_state(snapshot)
        self.propagation.show_state(snapshot)
        self.save_button.setEnabled(snapshot.has_prompts)
        self.status.setText(snapshot.message)
        self.model.show_state(snapshot)
        self.docks.show_state(snapshot)

    def _bind_layers(self) -> None:
        if self.canvas.overlays is not None:
            self.keyboard.bind(self.canvas.overlays.layers)
