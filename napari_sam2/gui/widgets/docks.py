"""Docks: lanes, tables, counting and fine-tuning beside the panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QObject, Signal

from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.app.accepted_frames import AcceptedFrames
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.gui.app.view import SessionKey, Snapshot
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_axes import get_layer_key
from napari_sam2.gui.widgets.count_tab import CountTab
from napari_sam2.gui.widgets.dock import Dock, DockSpec
from napari_sam2.gui.widgets.elements import make_tool_button
from napari_sam2.gui.widgets.keys import make_hint
from napari_sam2.gui.widgets.review_navigator import ReviewNavigator
from napari_sam2.gui.widgets.tables.tables_tab import TablesTab
from napari_sam2.gui.widgets.timeline.lane_grid import LaneGrid
from napari_sam2.gui.widgets.timeline.swim_lanes import SwimLanes
from napari_sam2.gui.widgets.training_tab import TrainingTab
from napari_sam2.measurement.track_status import TrackStatuses
from napari_sam2.propagation.review import Review

_LANES = DockSpec(
    "Objects over all frames",
    "lanes",
    "Lanes",
    "Show every object over all frames; click to go to a frame",
    "bottom",
)
_TABLES = DockSpec(
    "Counts and measurements",
    "tables",
    "Tables",
    "Show counts, areas and intensities while you work; copy or save them",
    "bottom",
)
_COUNT = DockSpec(
    "Count", "count", "Count", "Count all objects of the stack without a click", "right"
)
_TRAINING = DockSpec(
    "Fine-tune",
    "training",
    "Fine-tune",
    "Train the model on the frames that you accepted",
    "right",
)


class Docks(QObject):
    """The docks beside the panel, and what they need of the controller and the canvas."""

    model_trained = Signal(str)
    """The file of a new model."""
    notified = Signal(str, bool)
    """A sentence for the person, and whether it is an error."""
    range_chosen = Signal(int, int)
    """The frames that the person chose in the lanes, as in a slice."""
    action_requested = Signal(str)
    """The name of an action; see `Panel.run_action`."""

    def __init__(self, viewer: Any, controller: Controller, canvas: Canvas) -> None:
        super().__init__()
        self._viewer, self._controller, self._canvas = viewer, controller, canvas
        self._grids: dict[SessionKey, LaneGrid] = {}
        self._shown_key: SessionKey | None = None
        self._snapshot = Snapshot()
        self._lanes_shown_once = False
        window, show = viewer.window, self._show_session
        self.lanes = Dock(window, _LANES, self._make_lanes, show)
        self.tables = Dock(window, _TABLES, self._make_tables, show)
        self.count = Dock(window, _COUNT, self._make_count_tab, show)
        self.training = Dock(window, _TRAINING, self._make_training_tab, show)
        self.review = ReviewNavigator(
            controller,
            go_to_frame=canvas.go_to_frame,
            notify=lambda text: self.notified.emit(text, False),
            on_reviewed=self._show_review,
        )
        self.review_button = make_tool_button(
            "review",
            make_hint("Go to the next frame to check, and show why", "review"),
            self.review.go_to_next,
            text="Review",
        )
        canvas.frame_callbacks.append(self._show_current_frame)

    @property
    def _all(self) -> tuple[Dock[Any], ...]:
        return self.lanes, self.tables, self.count, self.training

    @property
    def buttons(self) -> tuple[Any, ...]:
        """The buttons that toggle the docks."""
        return tuple(dock.button for dock in self._all)

    def show_lanes_once(self) -> None:
        """Show the lanes for the first image; later it is the person's choice."""
        if not self._lanes_shown_once:
            self._lanes_shown_once = True
            self.lanes.toggle()

    def close(self) -> None:
        """Remove all docks together with the panel."""
        for dock in self._all:
            dock.close()

    def update_statuses(
        self, key: SessionKey, statuses: TrackStatuses, new: TrackStatuses | None
    ) -> None:
        """Take over all statuses of a session; `new` are those that changed, None: all did."""
        grid = self._get_grid(key)
        if new is None:
            grid.set_all({place: status.presence for place, status in statuses.items()})
        else:
            for (track, frame), status in new.items():
                grid.set_presence(track, frame, status.presence)
        self.review.forget_review(key)

    def show_state(self, snapshot: Snapshot) -> None:
        """Show a state of the controller."""
        self._snapshot = snapshot
        if self._controller.key != self._shown_key:
            self._show_session()
        self._show_objects(snapshot)
        self._show_current_frame()
        if self.tables.widget is not None:
            self.tables.widget.refresh()
        if self.count.widget is not None:
            self.count.widget.show_state(snapshot)
        training = self.training.widget
        if training is not None and not snapshot.total and training.isVisible():
            training.refresh()
        self.review_button.setEnabled(snapshot.has_prompts)

    def refresh_detectors(self) -> None:
        """The label layers changed: list them in the count tab."""
        if self.count.widget is not None:
            self.count.widget.refresh_detectors()

    def _get_grid(self, key: SessionKey) -> LaneGrid:
        if key not in self._grids:
            self._grids[key] = LaneGrid(max(1, key.selection.length))
        return self._grids[key]

    def _show_objects(self, snapshot: Snapshot) -> None:
        """Show the list of objects in the lanes."""
        key = self._controller.key
        if self.lanes.widget is None or key is None:
            return
        grid, state = self._get_grid(key), self._controller.state
        grid.set_tracks({row.track for row in snapshot.objects})
        grid.set_descriptions(state.get_track(row.track) for row in snapshot.objects)
        self.lanes.widget.select(snapshot.current)

    def _show_current_frame(self) -> None:
        frame, current = self._controller.frame, self._snapshot.current
        lanes, tables = self.lanes.widget, self.tables.widget
        if lanes is not None and self._controller.key is not None:
            lanes.go_to_frame(frame)
            lanes.refresh()
        if tables is not None and (tables.track, tables.frame) != (current, frame):
            tables.select(current, frame)

    def _show_session(self) -> None:
        """Another session is open, or a dock is new: show what is known of the session."""
        key = self._shown_key = self._controller.key
        self.review.leave_flag()
        lanes, tables = self.lanes.widget, self.tables.widget
        if lanes is not None:
            lanes.show_lanes(self._get_grid(key) if key else LaneGrid(1), self._canvas.get_colour)
        if tables is not None:
            tables.show_live_tables(None)
            if key is not None:
                self._controller.start_measuring(self._make_table_setter(key, tables))

    def _show_review(self, key: SessionKey, review: Review) -> None:
        self._get_grid(key).set_review_flags(review)

    def _make_table_setter(
        self, key: SessionKey, tables: TablesTab
    ) -> Callable[[LiveTables], None]:
        def show(live_tables: LiveTables) -> None:
            if key == self._controller.key and self.tables.widget is tables:
                tables.show_live_tables(live_tables, colour=self._canvas.get_colour)

        return show

    def _make_lanes(self) -> SwimLanes:
        lanes = SwimLanes(colour=self._canvas.get_colour)
        lanes.frame_chosen.connect(self._on_chosen)
        lanes.range_chosen.connect(self.range_chosen)
        return lanes

    def _make_tables(self) -> TablesTab:
        tables = TablesTab(colour=self._canvas.get_colour)
        tables.track_chosen.connect(lambda track, frame: self._on_chosen(frame, track))
        tables.notified.connect(self.notified)
        tables.draw_tracks_requested.connect(lambda: self._draw_tracks(tables))
        return tables

    def _make_count_tab(self) -> CountTab:
        count = CountTab(self._controller, self._canvas, self._find_label_layers)
        count.notified.connect(self.notified)
        count.action_requested.connect(self.action_requested)
        count.show_state(self._snapshot)
        return count

    def _make_training_tab(self) -> TrainingTab:
        training = TrainingTab(self._collect_accepted, lambda: self._snapshot.model)
        training.model_trained.connect(self.model_trained)
        training.notified.connect(self.notified)
        return training

    def _find_label_layers(self) -> list[Any]:
        """Label layers that the plugin did not make."""
        own = self._canvas.own_layer_keys
        return [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Labels) and get_layer_key(layer) not in own
        ]

    def _collect_accepted(self) -> AcceptedFrames | None:
        session = self._controller.session
        return None if session is None else AcceptedFrames.of(session)

    def _draw_tracks(self, tables: TablesTab) -> None:
        """Draw the tracks as they are now; an older layer is replaced."""
        key = self._controller.key
        if key is None or tables.tables is None:
            self.notified.emit(
                "Nothing is measured yet. Click an object, or count the stack.", False
            )
            return
        try:
            self._canvas.draw_tracks(key, tables.tables)
        except Sam2Error as error:
            self.notified.emit(str(error), True)

    def _on_chosen(self, frame: int, track: int) -> None:
        self._canvas.go_to_frame(frame)
        if track:
            self._controller.select(track)
