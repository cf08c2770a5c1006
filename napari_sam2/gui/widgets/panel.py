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
from napari_sam2.gui.app.model_loading import load_beside
from napari_sam2.gui.app.project_store import projects
from napari_sam2.gui.app.session_update import Carry
from napari_sam2.gui.app.view import Place, Said, Snapshot, Stage
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_axes import Reading, choice_of, key_of, read
from napari_sam2.gui.layers.layer_prompts import prompts_of
from napari_sam2.gui.layers.project_layer import Opened, latest, opened
from napari_sam2.gui.layers.samples import layers_of
from napari_sam2.gui.thread_worker import ThreadWorker
from napari_sam2.gui.widgets.dockable import Dockable
from napari_sam2.gui.widgets.docks import Docks
from napari_sam2.gui.widgets.elements import column, follow_theme, line, muted, once, row, tool
from napari_sam2.gui.widgets.image_section import ImageSection, described
from napari_sam2.gui.widgets.keys import Keyboard, help_text, hint
from napari_sam2.gui.widgets.model_section import ModelSection
from napari_sam2.gui.widgets.object_list import ObjectList
from napari_sam2.gui.widgets.propagation_section import CarrySection
from napari_sam2.gui.widgets.tools_section import Tool, ToolsSection
from napari_sam2.measurement.track_status import Fact

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
        load: Callable[[str], Any] = load_beside,
        root: Callable[[], Path | None] = projects,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.worker, self._downloads = ThreadWorker(), ThreadWorker("napari-sam2-fetch")
        self.root = root()
        self.controller = Controller(self, self.worker, load=load, root=self.root)
        self.canvas = Canvas(
            self.viewer, self.controller, self.tell, later=lambda do: QTimer.singleShot(0, do)
        )
        self.docks = Docks(self.viewer, self.controller, self.canvas)
        self._snapshot = Snapshot()
        self._walks: dict[str, tuple[str, int]] = {}  # axis and channel to begin with, by image
        self._build()
        self._connect()
        self.image.offer_project(latest(self.root))
        self.refresh_images()
        self.show_state(Snapshot())

    def _build(self) -> None:
        self.image = ImageSection()
        self.model = ModelSection(self._downloads)
        self.objects = ObjectList()
        self.objects.table.colour = self.canvas.colour
        self.tools = ToolsSection()
        self.carry = CarrySection()
        self.save = QPushButton("Save labels and tables…")
        self.save.setProperty("icon_name", "save")
        self.save.setToolTip(
            hint(
                "labels.ome.tif, objects.csv, tracks.csv, counts.csv and more, in a folder of "
                "your choice",
                "save",
            )
        )
        self.status = muted()
        self.help = tool("help", "Keys and mouse", self.show_help)
        self.anew = tool(
            "anew",
            "Start anew with this image; what there was stays in its project folder",
            self.controller.start_anew,
        )
        column(self).addWidget(self._scrolled())
        self._fit = once(
            self, self.viewer.reset_view, 100
        )  # once the lanes below have taken their room
        self._gone: list[str] = []
        self._relist = once(self, self._on_gone)
        self._redraw = once(self, self._on_redraw, _REDRAW_MS)
        follow_theme(self)

    def _scrolled(self) -> QScrollArea:
        """All sections, in the order of work."""
        inside = QWidget()
        layout = column(inside, margin=8)
        for part in (self.image, line(), self.model, line()):
            layout.addWidget(part)
        layout.addWidget(self.objects, 1)
        for part in (line(), self.tools, line(), self.carry, line()):
            layout.addWidget(part)
        layout.addLayout(row(self.docks.review, None, *self.docks.buttons.values(), spacing=2))
        layout.addWidget(self.save)
        bottom = row(self.status, self.anew, self.help)
        bottom.setStretch(0, 1)
        layout.addLayout(bottom)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(inside)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._inside, self._scroll = inside, scroll
        return scroll

    def showEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Qt's: wide enough for all of it, now that fonts and theme are those of the window."""
        super().showEvent(event)
        self.setMinimumWidth(
            self._inside.minimumSizeHint().width()
            + self._scroll.verticalScrollBar().sizeHint().width()
            + 2
        )

    def _connect(self) -> None:
        self.image.chosen.connect(self._on_image)
        self.image.sample.connect(self.open_sample)
        self.image.project.connect(self.open_project)
        self.model.chosen.connect(self._on_model)
        self.model.looked.connect(lambda attention: self.controller.look_by(attention=attention))
        self.model.tiled.connect(lambda windows: self.controller.look_by(windows=windows))
        self.model.computed.connect(lambda precision: self.controller.look_by(precision=precision))
        self.model.failed.connect(lambda error: self.tell(str(error), wrong=True))
        self.objects.selected.connect(self.controller.select)
        self.objects.asked.connect(self.do)
        self.objects.table.described.connect(
            lambda track, what, text: self.controller.describe(track, **{what: text})
        )
        self.objects.menu.aboutToShow.connect(self._offer_sources)
        self.tools.chosen.connect(self._on_tool)
        self.tools.asked.connect(self.do)
        self.carry.asked.connect(self.do)
        self.save.clicked.connect(lambda *_: self.do("save"))
        self.docks.told.connect(lambda text, wrong: self.tell(text, wrong=wrong))
        self.docks.trained.connect(self._on_trained)
        self.docks.ranged.connect(self.carry.choose_range)
        self.docks.asked.connect(self.do)
        self.keys = Keyboard(self._actions)
        self.keys.bind([self.viewer])
        layers = self.viewer.layers.events
        listened = (layers.inserted, layers.removed, layers.reordered)
        for release in (
            self.worker.close,
            lambda: self._downloads.close(0.0),
            self.keys.close,
            self.canvas.close,
            self.docks.close,
        ):
            self._open.callback(release)
        for emitter in listened:
            emitter.connect(self._on_layers)
            self._open.callback(emitter.disconnect, self._on_layers)
        self._open.callback(self.controller.close)
        self.destroyed.connect(self._open.close)

    @property
    def _actions(self) -> dict[str, Callable[[], Any]]:
        """What can be asked for by name: by a key, a button, or a command of the palette."""
        control = self.controller
        return {
            "new": control.new,
            "propagate": self.propagate,
            "cancel": control.cancel,
            "accept": lambda: control.accept(control.frame),
            "other": control.next_choice,
            "point": lambda: self.tools.choose(Tool.POINT),
            "box": lambda: self.tools.choose(Tool.BOX),
            "paint": lambda: self.tools.choose(Tool.PAINT),
            "lasso": lambda: self.tools.choose(Tool.LASSO),
            "back": lambda: self.canvas.go_to(control.frame - 1),
            "forth": lambda: self.canvas.go_to(control.frame + 1),
            "previous": lambda: control.select_next(-1),
            "next": lambda: control.select_next(1),
            "review": self.docks.next_suspicion,
            "review_back": lambda: self.docks.next_suspicion(-1),
            "undo": control.undo,
            "redo": control.redo,
            "save": self.save_results,
            "delete": lambda: control.remove(self.objects.chosen),
        }

    def do(self, name: str) -> None:
        """Do what a key or a button is called by."""
        more: dict[str, Callable[[], Any]] = {
            "merge": lambda: self.controller.merge(self.objects.chosen),
            "split": lambda: self.canvas.split(self.controller.book.current),
            "lock": self.lock,
        }
        {**self._actions, **more}[name]()

    # the View

    def show_state(self, snapshot: Snapshot) -> None:
        """Show a state of the controller."""
        hurried = snapshot.stage is Stage.RUNNING and self._snapshot.stage is Stage.RUNNING
        self._snapshot = snapshot
        self.canvas.follow(snapshot, wanted=self.carry.follow.isChecked())
        if hurried:
            self._redraw_soon()
        else:
            self._show_now()

    def draw(self, place: Place, planes: Mapping[int, np.ndarray]) -> None:
        """Write label planes into the Labels layer, and draw it soon."""
        self.canvas.draw(place, planes)
        self._bind_layers()
        self._redraw_soon()

    def draw_said(self, place: Place, said: Said) -> None:
        """Show the current object's clicks and boxes."""
        self.canvas.draw_said(place, said)
        self._bind_layers()

    def draw_seeds(self, place: Place, seeds: Sequence[Seed]) -> None:
        """Show what a search found, to be edited."""
        self.canvas.draw_seeds(place, seeds)
        self._bind_layers()

    def tell(self, text: str, *, wrong: bool = False) -> None:
        """A napari notification."""
        (show_error if wrong else show_info)(text)

    def facts_changed(
        self,
        place: Place,
        facts: Mapping[tuple[int, int], Fact],
        new: Mapping[tuple[int, int], Fact] | None,
    ) -> None:
        """What is known of every track on every frame: for the lanes."""
        self.docks.take(place, facts, new)

    # what the person does

    def open_sample(self, name: str) -> None:
        """Open a shipped sample."""
        added = [self.viewer.add_layer(Layer.create(*each)) for each in layers_of(name)]
        self.viewer.layers.selection.active = added[0]
        self._fit.start()

    def open_project(self, folder: str | Path = "") -> None:
        """Go on with a project; asks for its folder where none is given."""
        chosen = str(folder) or QFileDialog.getExistingDirectory(
            self, "A project folder", str(self.root or "")
        )
        if chosen:
            self.controller.aside(
                lambda: opened(Path(chosen)), self._take_up, message="Opening the project…"
            )

    def _take_up(self, project: Opened) -> None:
        layer, walk = Layer.create(project.data, project.options, "image"), project.file.walk
        at = tuple((axis, walk.at[axis]) for axis in "tz" if axis in walk.at)
        try:
            place = Place(choice_of(layer, along=walk.along, channel=walk.channel or 0), at)
        except Sam2Error as error:
            self.tell(str(error), wrong=True)
            return
        self._walks[key_of(layer)] = walk.along, walk.channel or 0
        self.controller.take_up(place, project.folder, project.file.model.asked)
        self.model.choose(project.file.model.name)
        self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = layer
        self.canvas.look_at(place)
        self._fit.start()

    def propagate(self) -> None:
        """Carry on, or pause."""
        if self._snapshot.stage is Stage.RUNNING:
            self.controller.pause()
        else:
            self.controller.propagate(
                Carry()
                if self._snapshot.unfinished
                else self.carry.carry(self.controller.book.current)
            )

    def lock(self) -> None:
        """Lock the selected objects, or unlock them where all are locked."""
        rows = {each.track: each for each in self._snapshot.objects}
        chosen = self.objects.chosen
        locked = all(
            rows[track].locked >= rows[track].frames > 0 for track in chosen if track in rows
        )
        self.controller.lock(chosen, locked=not locked)

    def take(self, layer: Any) -> None:
        """Take the objects of a Labels, Points or Shapes layer as prompts."""
        if self.canvas.reading is None or self.controller.place is None:
            self.tell("Choose an image first.", wrong=True)
            return
        try:
            prompts = prompts_of(
                layer,
                self.image.image,
                self.canvas.reading,
                self.controller.place,
                self.controller.frame,
            )
        except Sam2Error as error:
            self.tell(str(error), wrong=True)
            return
        layer.visible = False
        self.controller.bring(prompts)

    def save_results(self, folder: Path | None = None) -> None:
        """Ask for a folder and save into it."""
        if not self._snapshot.prompted:
            self.tell("There is nothing to save yet: click an object first.", wrong=True)
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
            help_text(),
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
        self.image.offer(images, current)
        self._on_image()

    def _on_layers(self, event: Any) -> None:
        layer = getattr(event, "value", None)
        if isinstance(layer, Labels):
            self.docks.offer_sources()
        if not isinstance(layer, Image):
            return
        if (
            event.type == "removed"
        ):  # napari is still taking it down: no layer is touched before it has done so
            self._gone.append(key_of(layer))
            self._relist.start()
            return
        if event.type == "inserted":
            layer.events.name.connect(self._on_renamed)
            self._open.callback(layer.events.name.disconnect, self._on_renamed)
        self.refresh_images()

    def _on_gone(self) -> None:
        gone, self._gone = self._gone, []
        if self.controller.closed:
            return
        for key in gone:
            self.canvas.forget(key)
            self.controller.forget(key)
        self.refresh_images()

    def _on_renamed(self, event: Any) -> None:
        self.refresh_images()

    def _on_image(self, *_: Any) -> None:
        """Another image, axis or channel: work on that."""
        image, before = self.image.image, self.controller.place
        try:
            reading = None if image is None else read(image)
            along, channel = self._wanted(image, reading)
            choice = None if reading is None else choice_of(image, along=along, channel=channel)
        except (Sam2Error, ValueError) as error:
            reading, choice, along, channel = None, None, "", 0
            self.image.about.setText(str(error))
        self.image.read(reading, along=along, channel=channel)
        if reading is not None and choice is not None:
            reading = reading.walked(along)
            self.image.about.setText(described(reading, image))
            self.keys.bind([image])
            self.docks.offer_lanes()
        self.canvas.use(image, reading, choice)
        if choice is None or before is None or before.choice != choice:
            self.carry.set_length(choice.length if choice else 0)

    def _wanted(self, image: Any, reading: Reading | None) -> tuple[str, int]:
        """The axis and channel that are chosen, where the image is the one they were chosen for; else those to begin with."""
        if reading is None:
            return "", 0
        place = self.controller.place
        along, channel = self.image.along.currentData(), self.image.channel.currentData() or 0
        if place is None or place.choice.key != key_of(image) or along not in reading.walkable:
            return self._walks.pop(key_of(image), (reading.along, 0))
        return str(along), channel if channel < reading.channels else 0

    def _on_model(self, name: str) -> None:
        self.controller.use_model(
            name, lambda came: None if came else self.model.choose(self._snapshot.model)
        )

    def _on_trained(self, path: str) -> None:
        """A new model was trained: it is listed, and asked from now on."""
        self.model.refresh(Path(path).stem)
        self._on_model(Path(path).stem)

    def _on_tool(self, tool: Tool) -> None:
        self.canvas.take_up(tool)
        self._bind_layers()

    def _offer_sources(self) -> None:
        """Layers that objects can be taken from."""
        ours = self.canvas.ours
        found = [
            each
            for each in self.viewer.layers
            if isinstance(each, Labels | Points | Shapes) and key_of(each) not in ours
        ]
        self.objects.offer(
            [
                (
                    f"{type(layer).__name__}: {layer.name}",
                    lambda layer=layer: self.take(layer),  # type: ignore[misc]
                )
                for layer in found
            ]
        )

    # drawing

    def _redraw_soon(self) -> None:
        if not self._redraw.isActive():
            self._redraw.start()

    def _on_redraw(self) -> None:
        self._show_now()
        self.canvas.refresh()

    def _show_now(self) -> None:
        snapshot = self._snapshot
        self.objects.show_rows(snapshot.objects, snapshot.current)
        self.tools.show_state(snapshot)
        self.carry.show_state(snapshot)
        self.save.setEnabled(snapshot.prompted)
        self.status.setText(snapshot.message)
        self.model.show_state(snapshot)
        self.docks.show_state(snapshot)

    def _bind_layers(self) -> None:
        if self.canvas.overlays is not None:
            self.keys.bind(self.canvas.overlays.layers)
