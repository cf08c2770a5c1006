"""Docks: swim lanes, tables and fine-tuning beside the panel; each is made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QToolButton, QWidget

from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.app.accepted_frames import AcceptedFrames
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.view import SessionKey, Snapshot
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_axes import get_layer_key
from napari_sam2.gui.widgets.count_tab import CountTab
from napari_sam2.gui.widgets.elements import make_tool_button
from napari_sam2.gui.widgets.keys import make_hint
from napari_sam2.gui.widgets.tables.tables_tab import TablesTab
from napari_sam2.gui.widgets.timeline.lane_grid import LaneGrid
from napari_sam2.gui.widgets.timeline.swim_lanes import SwimLanes
from napari_sam2.gui.widgets.training_tab import TrainingTab
from napari_sam2.measurement.track_status import TrackStatus
from napari_sam2.propagation.review import Review, ReviewFlag

Statuses = Mapping[tuple[int, int], TrackStatus]
_TITLES = {
    "lanes": "Objects over all frames",
    "tables": "Counts and measurements",
    "count": "Count",
    "training": "Fine-tune",
}
_AREAS = {"lanes": "bottom", "tables": "bottom", "count": "right", "training": "right"}


class Docks(QObject):
    """`model_trained` is emitted with the file of a new model, `notified` with a sentence and whether something is wrong.

    `range_chosen` comes with the frames (as in a slice) that a person chose in the lanes, `action_requested` with
    what a key is called by.
    """

    model_trained = Signal(str)
    notified = Signal(str, bool)
    range_chosen = Signal(int, int)
    action_requested = Signal(str)

    def __init__(self, viewer: Any, controller: Controller, canvas: Canvas) -> None:
        super().__init__()
        self._viewer, self._controller, self._canvas = viewer, controller, canvas
        canvas.frame_callbacks.append(self._show_current_frame)
        self._docks: dict[str, Any] = {}
        self._widgets: dict[str, QWidget] = {}
        self._grids: dict[SessionKey, LaneGrid] = {}
        self._reviews: dict[SessionKey, Review] = {}
        self._current_flag: ReviewFlag | None = None
        self._shown_key: SessionKey | None = None
        self._snapshot = Snapshot()
        self._lanes_shown_once = self._closed = False
        tips = {
            "lanes": "What every object is on every frame; click to go there",
            "tables": "Counts per frame, areas and intensities, live; copy or save them",
            "count": "Count the whole stack without a click: find, look, correct, carry",
            "training": "Teach the model from the frames that you accepted",
        }
        names = {"lanes": "Lanes", "tables": "Tables", "count": "Count", "training": "Fine-tune"}
        self.buttons: dict[str, QToolButton] = {
            name: make_tool_button(
                name,
                tip,
                lambda name=name: self.toggle(name),  # type: ignore[misc]
                text=names[name],
                checkable=True,
            )
            for name, tip in tips.items()
        }
        self.review_button = make_tool_button(
            "review",
            make_hint("Go to the next place that is worth a look, and say why", "review"),
            self.go_to_next_flag,
            text="Review",
        )

    def toggle(self, name: str) -> None:
        """Show a dock, or hide it."""
        dock = self._docks.get(name)
        if dock is not None:
            dock.setVisible(not dock.isVisible())
            return
        widget = self._widgets.get(name) or self._make_widget(name)
        self._widgets[name] = widget
        beside = {
            "area": _AREAS[name],
            "tabify": _AREAS[name] == "right",
            "add_vertical_stretch": False,
        }
        dock = self._viewer.window.add_dock_widget(widget, name=_TITLES[name], **beside)
        dock.visibilityChanged.connect(lambda seen, name=name: self._on_visible(name, bool(seen)))
        dock.destroyed.connect(lambda *_, name=name: self._on_dock_closed(name))
        self._docks[name] = dock
        self._on_visible(name, True)
        self._show_session()

    def show_lanes_once(self) -> None:
        """Show the lanes when the first image is there; then it is the person's choice."""
        if not self._lanes_shown_once:
            self._lanes_shown_once = True
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

    def update_statuses(
        self, session_key: SessionKey, statuses: Statuses, new: Statuses | None
    ) -> None:
        """What is known changed: `new` of it, or all where that is None."""
        lanes = self._grids.setdefault(session_key, LaneGrid(max(1, session_key.selection.length)))
        if new is None:
            lanes.set_all({key: fact.presence for key, fact in statuses.items()})
        else:
            for (track, frame), fact in new.items():
                lanes.set_presence(track, frame, fact.presence)
        self._reviews.pop(session_key, None)

    def show_state(self, snapshot: Snapshot) -> None:
        """Draw what changed."""
        self._snapshot = snapshot
        place = self._controller.key
        if place != self._shown_key:
            self._show_session()
        lanes, tables = self._widgets.get("lanes"), self._widgets.get("tables")
        if isinstance(lanes, SwimLanes) and place is not None:
            known = self._grids.setdefault(place, LaneGrid(max(1, place.selection.length)))
            known.set_tracks({row.track for row in snapshot.objects})
            known.set_descriptions(
                self._controller.state.get_track(row.track) for row in snapshot.objects
            )
            lanes.select(snapshot.current)
        self._show_current_frame()
        if isinstance(tables, TablesTab):
            tables.refresh()
        count = self._widgets.get("count")
        if isinstance(count, CountTab):
            count.show_state(snapshot)
        training = self._widgets.get("training")
        if isinstance(training, TrainingTab) and not snapshot.total and training.isVisible():
            training.refresh()
        self.review_button.setEnabled(snapshot.has_prompts)

    def _show_current_frame(self) -> None:
        """Show the frame that is looked at."""
        lanes, tables, frame = (
            self._widgets.get("lanes"),
            self._widgets.get("tables"),
            self._controller.frame,
        )
        if isinstance(lanes, SwimLanes) and self._controller.key is not None:
            lanes.go_to_frame(frame)
            lanes.refresh()
        if isinstance(tables, TablesTab) and (tables.track, tables.frame) != (
            self._snapshot.current,
            frame,
        ):
            tables.select(self._snapshot.current, frame)

    def go_to_next_flag(self, step: int = 1) -> None:
        """Go to the next place that is worth a look, or the one before; look for such places first where things changed."""
        place = self._controller.key
        if place is None:
            return
        known = self._reviews.get(place)
        if known is not None:
            self._go_to_flag(known, step)
            return
        self._current_flag = None

        def found(what: Review) -> None:
            self._reviews[place] = what
            lanes = self._grids.get(place)
            if lanes is not None:
                lanes.set_review_flags(what)
            self._go_to_flag(what, step)

        self._controller.query(
            lambda worker: worker.review(),
            found,
            message="Looking for places worth a look…",
        )

    def _go_to_flag(self, found_flags: Review, step: int) -> None:
        frame = self._controller.frame
        if not len(found_flags):
            self.notified.emit(
                "Nothing looks suspicious. A look at the first and last frames does no harm.", False
            )
            return
        one = (
            (found_flags.find_next if step > 0 else found_flags.find_previous)(
                frame, self._current_flag
            )
            if self._current_flag
            else found_flags[0 if step > 0 else -1]
        )
        self._current_flag = one
        if one is None:
            self.notified.emit(
                f"That was the last of {len(found_flags)} places worth a look.", False
            )
            return
        self._canvas.go_to_frame(one.frame)
        self._controller.select(one.track)
        place = list(found_flags).index(one) + 1
        self._controller.show_message(
            f"{place} of {len(found_flags)}: object {one.track}, frame {one.frame}, {one.reason}"
            + (f" ({one.detail})" if one.detail else "")
        )

    def _make_widget(self, name: str) -> QWidget:
        if name == "lanes":
            lanes = SwimLanes(colour=self._canvas.get_colour)
            lanes.frame_chosen.connect(self._on_chosen)
            lanes.range_chosen.connect(self.range_chosen)
            return lanes
        if name == "tables":
            tables = TablesTab(colour=self._canvas.get_colour)
            tables.track_chosen.connect(lambda track, frame: self._on_chosen(frame, track))
            tables.notified.connect(lambda text: self.notified.emit(text, False))
            tables.draw_tracks_requested.connect(lambda: self._draw_tracks(tables))
            return tables
        if name == "count":
            count = CountTab(self._controller, self._canvas, self._find_label_layers)
            count.notified.connect(self.notified)
            count.action_requested.connect(self.action_requested)
            count.show_state(self._snapshot)
            return count
        training = TrainingTab(self._collect_accepted, lambda: self._snapshot.model)
        training.model_trained.connect(self.model_trained)
        training.notified.connect(self.notified)
        return training

    def _find_label_layers(self) -> list[Any]:
        ours = self._canvas.own_layer_keys
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Labels) and get_layer_key(layer) not in ours
        ]

    def refresh_detectors(self) -> None:
        """The layers are others than before."""
        count = self._widgets.get("count")
        if isinstance(count, CountTab):
            count.refresh_detectors()

    def _collect_accepted(self) -> AcceptedFrames | None:
        session = self._controller.session
        return None if session is None else AcceptedFrames.of(session)

    def _show_session(self) -> None:
        """Another image or position: show what is known of it."""
        place = self._shown_key = self._controller.key
        self._current_flag = None
        lanes, tables = self._widgets.get("lanes"), self._widgets.get("tables")
        if isinstance(lanes, SwimLanes):
            lanes.show_lanes(
                self._grids.setdefault(place, LaneGrid(max(1, place.selection.length)))
                if place
                else LaneGrid(1),
                self._canvas.get_colour,
            )
        if isinstance(tables, TablesTab):
            tables.show_live_tables(None)
            if place is not None:
                self._controller.start_measuring(self._make_table_setter(place, tables))

    def _draw_tracks(self, tables: TablesTab) -> None:
        """Tracks as they are now; a layer that was drawn before is replaced."""
        place = self._controller.key
        if place is None or tables.tables is None:
            self.notified.emit(
                "Nothing was measured yet: click an object, or count the stack.", False
            )
            return
        try:
            self._canvas.draw_tracks(place, tables.tables)
        except Sam2Error as error:
            self.notified.emit(str(error), True)

    def _make_table_setter(self, key: SessionKey, tables: TablesTab) -> Callable[[Any], None]:
        def show(measured: Any) -> None:
            if key == self._controller.key and self._widgets.get("tables") is tables:
                tables.show_live_tables(measured, colour=self._canvas.get_colour)

        return show

    def _on_chosen(self, frame: int, track: int) -> None:
        self._canvas.go_to_frame(frame)
        if track:
            self._controller.select(track)

    def _on_visible(self, name: str, visible: bool) -> None:
        if not self._closed:
            self.buttons[name].setChecked(visible)

    def _on_dock_closed(self, name: str) -> None:
        """A person closed the dock with its cross; the widget in it is kept for the next time."""
        if not self._closed:
            self._docks.pop(name, None)
            self.buttons[name].setChecked(False)
