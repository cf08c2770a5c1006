"""PropagationSection: propagate objects through the stack, with pause, stop and progress."""

from __future__ import annotations

from typing import cast

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QProgressBar, QPushButton, QSizePolicy, QWidget
from superqt import QRangeSlider

from napari_sam2.core.plan import Direction
from napari_sam2.gui.app.session_update import PropagationRequest
from napari_sam2.gui.app.view import Snapshot, Stage
from napari_sam2.gui.widgets.elements import (
    follow_theme,
    make_column,
    make_heading,
    make_muted_label,
    make_row,
    make_tool_button,
)
from napari_sam2.gui.widgets.keys import make_hint

_DIRECTION_TITLES = {"both": "both directions", "forward": "forward", "backward": "backward"}


class PropagationSection(QWidget):
    """What to propagate, and the progress."""

    action_requested = Signal(str)
    """"propagate" or "cancel"."""

    def __init__(self) -> None:
        super().__init__()
        self.propagate_button = QPushButton("Propagate")
        self.propagate_button.setProperty("icon_name", "propagate")
        self.propagate_button.setToolTip(
            make_hint(
                "Propagate the objects through the stack; press again to pause and resume",
                "propagate",
            )
        )
        self.propagate_button.setMinimumHeight(30)
        self.propagate_button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.stop_button = make_tool_button(
            "stop",
            make_hint("Stop; finished frames are kept", "cancel"),
            lambda: self.action_requested.emit("cancel"),
        )
        self.direction_choice = QComboBox()
        for name, title in _DIRECTION_TITLES.items():
            self.direction_choice.addItem(title, name)
        self.direction_choice.setToolTip("The direction from the first prompt of each object")
        self.tracks_choice = QComboBox()
        self.tracks_choice.addItem("all objects", False)
        self.tracks_choice.addItem("this object", True)
        self.tracks_choice.setToolTip("The objects to propagate")
        self.range_slider = QRangeSlider(Qt.Orientation.Horizontal)
        self.range_slider.setToolTip("The frames to propagate to: drag the ends or the bar")
        self.range_label = make_muted_label()
        self.range_label.setWordWrap(False)
        self.range_label.setSizePolicy(QSizePolicy.Policy.Minimum, QSizePolicy.Policy.Preferred)
        self.watch_checkbox = QCheckBox("follow")
        self.watch_checkbox.setChecked(True)
        self.watch_checkbox.setToolTip(
            "Show each frame when it is done. Move the slider to stop following."
        )
        self.progress_bar = QProgressBar()
        self.progress_bar.setTextVisible(True)
        self.progress_bar.setFixedHeight(16)
        self._build_layout()
        self.propagate_button.clicked.connect(lambda *_: self.action_requested.emit("propagate"))
        self.range_slider.valueChanged.connect(self._update_range_label)
        self.set_frame_count(0)

    def _build_layout(self) -> None:
        layout = make_column(self)
        layout.addWidget(make_heading("Propagate"))
        layout.addLayout(
            make_row(self.direction_choice, self.tracks_choice, None, self.watch_checkbox)
        )
        frames = make_row(self.range_slider, self.range_label)
        frames.setStretch(0, 1)
        layout.addLayout(frames)
        buttons = make_row(self.propagate_button, self.stop_button)
        buttons.setStretch(0, 1)
        layout.addLayout(buttons)
        layout.addWidget(self.progress_bar)

    def set_frame_count(self, frame_count: int) -> None:
        """Set the number of frames, and choose all of them."""
        blocker = QSignalBlocker(self.range_slider)
        last = max(1, frame_count - 1)
        self.range_slider.setRange(0, last)
        self.range_slider.setValue((0, last))
        blocker.unblock()
        for widget in (self.range_slider, self.range_label):
            widget.setVisible(frame_count > 1)
        self._frame_count = frame_count
        self._update_range_label()

    def set_range(self, first: int, after: int) -> None:
        """Choose these frames, as in a slice."""
        self.range_slider.setValue((first, max(first, after - 1)))

    def make_request(self, current: int) -> PropagationRequest:
        """Make the request that is chosen; `current` is the current object."""
        first, last = (int(value) for value in self.range_slider.value())
        whole = (first, last) == (0, max(1, self._frame_count - 1))
        return PropagationRequest(
            cast(Direction, self.direction_choice.currentData()),
            None if whole else (first, last + 1),
            (current,) if self.tracks_choice.currentData() else None,
        )

    def show_state(self, snapshot: Snapshot) -> None:
        """Enable what has an effect now, and show the progress."""
        stage = snapshot.stage
        moving = stage in (Stage.RUNNING, Stage.PAUSED)
        title = {Stage.RUNNING: "Pause", Stage.PAUSED: "Resume"}.get(
            stage, "Resume" if snapshot.unfinished else "Propagate"
        )
        if self.propagate_button.text() != title:
            self.propagate_button.setText(title)
            self.propagate_button.setProperty(
                "icon_name", "pause" if title == "Pause" else "propagate"
            )
            follow_theme(self)
        self.propagate_button.setEnabled(moving or snapshot.has_prompts)
        self.stop_button.setEnabled(moving)
        for widget in (self.direction_choice, self.tracks_choice, self.range_slider):
            widget.setEnabled(not moving)
        if stage is Stage.BUSY:
            self.progress_bar.setRange(0, 0)
        else:
            self.progress_bar.setRange(0, max(1, snapshot.total))
            self.progress_bar.setValue(snapshot.done)
        self.progress_bar.setFormat(f"{snapshot.done} of {snapshot.total}" if moving else "")

    def _update_range_label(self) -> None:
        first, last = (int(value) for value in self.range_slider.value())
        self.range_label.setText(f"frames {first} to {last}")
