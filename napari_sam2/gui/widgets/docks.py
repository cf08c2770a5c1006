"""Docks: swim lanes, tables and fine-tuning beside the panel; each is made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QToolButton, QWidget

from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.app.accepted_frames import Accepted
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.lane_grid import Lanes
from napari_sam2.gui.app.view import Place, Snapshot
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_axes import key_of
from napari_sam2.gui.widgets.count_tab import CountTab
from napari_sam2.gui.widgets.elements import tool
from napari_sam2.gui.widgets.keys import hint
from napari_sam2.gui.widgets.tables.tables_tab import Tables
from napari_sam2.gui.widgets.timeline.swim_lanes import SwimLanes
from napari_sam2.gui.widgets.training_tab import TrainingTab
from napari_sam2.measurement.track_status import Fact
from napari_sam2.propagation.review import Review, Suspicion, review

Facts = Mapping[tuple[int, int], Fact]
_TITLES = {
    "lanes": "Objects over all frames",
    "tables": "Counts and measurements",
    "count": "Count",
    "training": "Fine-tune",
}
_AREAS = {"lanes": "bottom", "tables": "bottom", "count": "right", "training": "right"}


class Docks(QObject):
    """`trained` is emitted with the file of a new model, `told` with a sentence and whether something is wrong.

    `ranged` comes with the frames (as in a slice) that a person chose in the lanes, `asked` with
    what a key is called by.
    """

    trained = Signal(str)
    told = Signal(str, bool)
    ranged = Signal(int, int)
    asked = Signal(str)

    def __init__(self, viewer: Any, controller: Controller, canvas: Canvas) -> None:
        super().__init__()
        self._viewer, self._controller, self._canvas = viewer, controller, canvas
        canvas.moved.append(self._look)
        self._docks: dict[str, Any] = {}
        self._widgets: dict[str, QWidget] = {}
        self._lanes: dict[Place, Lanes] = {}
        self._reviewed: dict[Place, Review] = {}
        self._suspicion: Suspicion | None = None
        self._shown: Place | None = None
        self._snapshot = Snapshot()
        self._offered = self._closed = False
        tips = {
            "lanes": "What every object is on every frame; click to go there",
            "tables": "Counts per frame, areas and intensities, live; copy or save them",
            "count": "Count the whole stack without a click: find, look, correct, carry",
            "training": "Teach the model from the frames that you accepted",
        }
        names = {"lanes": "Lanes", "tables": "Tables", "count": "Count", "training": "Fine-tune"}
        self.buttons: dict[str, QToolButton] = {
            name: tool(
                name,
                tip,
                lambda name=name: self.toggle(name),  # type: ignore[misc]
                text=names[name],
                checkable=True,
            )
            for name, tip in tips.items()
        }
        self.review = tool(
            "review",
            hint("Go to the next place that is worth a look, and say why", "review"),
            self.next_suspicion,
            text="Review",
        )

    def toggle(self, name: str) -> None:
        """Show a dock, or hide it."""
        dock = self._docks.get(name)
        if dock is not None:
            dock.setVisible(not dock.isVisible())
            return
        widget = self._widgets.get(name) or self._made(name)
        self._widgets[name] = widget
        beside = {
            "area": _AREAS[name],
            "tabify": _AREAS[name] == "right",
            "add_vertical_stretch": False,
        }
        dock = self._viewer.window.add_dock_widget(widget, name=_TITLES[name], **beside)
        dock.visibilityChanged.connect(lambda seen, name=name: self._on_visible(name, bool(seen)))
        dock.destroyed.connect(lambda *_, name=name: self._on_gone(name))
        self._docks[name] = dock
        self._on_visible(name, True)
        self._show_place()

    def offer_lanes(self) -> None:
        """Show the lanes when the first image is there; then it is the person's choice."""
        if not self._offered:
            self._offered = True
            self.toggle("lanes")

    def close(self) -> None:
        """Take all docks down with the panel; where the whole window goes, they go with it."""
        self._closed = True
        for dock in list(self._docks.values()):
            with suppress(AttributeError, RuntimeError):  # napari's window is half gone already
                self._viewer.window.remove_dock_widget(dock)
        self._docks.clear()
        for widget in self._widgets.values():
            with suppress(RuntimeError):
                widget.close()
                widget.deleteLater()
        self._widgets.clear()

    def take(self, place: Place, facts: Facts, new: Facts | None) -> None:
        """What is known changed: `new` of it, or all where that is None."""
        lanes = self._lanes.setdefault(place, Lanes(max(1, place.choice.length)))
        if new is None:
            lanes.replace({key: fact.presence for key, fact in facts.items()})
        else:
            for (track, frame), fact in new.items():
                lanes.put(track, frame, fact.presence)
        self._reviewed.pop(place, None)

    def show_state(self, snapshot: Snapshot) -> None:
        """Draw what changed."""
        self._snapshot = snapshot
        place = self._controller.place
        if place != self._shown:
            self._show_place()
        lanes, tables = self._widgets.get("lanes"), self._widgets.get("tables")
        if isinstance(lanes, SwimLanes) and place is not None:
            known = self._lanes.setdefault(place, Lanes(max(1, place.choice.length)))
            known.keep({row.track for row in snapshot.objects})
            known.describe(self._controller.book.track(row.track) for row in snapshot.objects)
            lanes.select(snapshot.current)
        self._look()
        if isinstance(tables, Tables):
            tables.refresh()
        count = self._widgets.get("count")
        if isinstance(count, CountTab):
            count.show_state(snapshot)
        training = self._widgets.get("training")
        if isinstance(training, TrainingTab) and not snapshot.total and training.isVisible():
            training.refresh()
        self.review.setEnabled(snapshot.prompted)

    def _look(self) -> None:
        """Show the frame that is looked at."""
        lanes, tables, frame = (
            self._widgets.get("lanes"),
            self._widgets.get("tables"),
            self._controller.frame,
        )
        if isinstance(lanes, SwimLanes) and self._controller.place is not None:
            lanes.go(frame)
            lanes.refresh()
        if isinstance(tables, Tables) and (tables.track, tables.frame) != (
            self._snapshot.current,
            frame,
        ):
            tables.select(self._snapshot.current, frame)

    def next_suspicion(self, step: int = 1) -> None:
        """Go to the next place that is worth a look, or the one before; look for such places first where things changed."""
        place = self._controller.place
        if place is None:
            return
        known = self._reviewed.get(place)
        if known is not None:
            self._go(known, step)
            return
        self._suspicion = None

        def found(what: Review) -> None:
            self._reviewed[place] = what
            lanes = self._lanes.get(place)
            if lanes is not None:
                lanes.mark(what)
            self._go(what, step)

        self._controller.ask(
            lambda desk: review(desk.session), found, message="Looking for places worth a look…"
        )

    def _go(self, found: Review, step: int) -> None:
        frame = self._controller.frame
        if not len(found):
            self.told.emit(
                "Nothing looks suspicious. A look at the first and last frames does no harm.", False
            )
            return
        one = (
            (found.next if step > 0 else found.previous)(frame, self._suspicion)
            if self._suspicion
            else found[0 if step > 0 else -1]
        )
        self._suspicion = one
        if one is None:
            self.told.emit(f"That was the last of {len(found)} places worth a look.", False)
            return
        self._canvas.go_to(one.frame)
        self._controller.select(one.track)
        place = list(found).index(one) + 1
        self._controller.say(
            f"{place} of {len(found)}: object {one.track}, frame {one.frame}, {one.reason}"
            + (f" ({one.detail})" if one.detail else "")
        )

    def _made(self, name: str) -> QWidget:
        if name == "lanes":
            lanes = SwimLanes(colour=self._canvas.colour)
            lanes.frame_chosen.connect(self._on_chosen)
            lanes.range_chosen.connect(self.ranged)
            return lanes
        if name == "tables":
            tables = Tables(colour=self._canvas.colour)
            tables.chosen.connect(lambda track, frame: self._on_chosen(frame, track))
            tables.told.connect(lambda text: self.told.emit(text, False))
            tables.drawn.connect(lambda: self._draw_tracks(tables))
            return tables
        if name == "count":
            count = CountTab(self._controller, self._canvas, self._label_layers)
            count.told.connect(self.told)
            count.asked.connect(self.asked)
            count.show_state(self._snapshot)
            return count
        training = TrainingTab(self._accepted, lambda: self._snapshot.model)
        training.trained.connect(self.trained)
        training.told.connect(self.told)
        return training

    def _label_layers(self) -> list[Any]:
        ours = self._canvas.ours
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Labels) and key_of(layer) not in ours
        ]

    def offer_sources(self) -> None:
        """The layers are others than before."""
        count = self._widgets.get("count")
        if isinstance(count, CountTab):
            count.offer()

    def _accepted(self) -> Accepted | None:
        session = self._controller.session
        return None if session is None else Accepted.of(session)

    def _show_place(self) -> None:
        """Another image or position: show what is known of it."""
        place = self._shown = self._controller.place
        self._suspicion = None
        lanes, tables = self._widgets.get("lanes"), self._widgets.get("tables")
        if isinstance(lanes, SwimLanes):
            lanes.show_lanes(
                self._lanes.setdefault(place, Lanes(max(1, place.choice.length)))
                if place
                else Lanes(1),
                self._canvas.colour,
            )
        if isinstance(tables, Tables):
            tables.show_measured(None)
            if place is not None:
                self._controller.measure(self._measured_to(place, tables))

    def _draw_tracks(self, tables: Tables) -> None:
        """Tracks as they are now; a layer that was drawn before is replaced."""
        place = self._controller.place
        if place is None or tables.tables is None:
            self.told.emit("Nothing was measured yet: click an object, or count the stack.", False)
            return
        try:
            self._canvas.draw_tracks(place, tables.tables)
        except Sam2Error as error:
            self.told.emit(str(error), True)

    def _measured_to(self, place: Place, tables: Tables) -> Callable[[Any], None]:
        def show(measured: Any) -> None:
            if place == self._controller.place and self._widgets.get("tables") is tables:
                tables.show_measured(measured, colour=self._canvas.colour)

        return show

    def _on_chosen(self, frame: int, track: int) -> None:
        self._canvas.go_to(frame)
        if track:
            self._controller.select(track)

    def _on_visible(self, name: str, seen: bool) -> None:
        if not self._closed:
            self.buttons[name].setChecked(seen)

    def _on_gone(self, name: str) -> None:
        """A person closed the dock with its cross; the widget in it is kept for the next time."""
        if not self._closed:
            self._docks.pop(name, None)
            self.buttons[name].setChecked(False)
