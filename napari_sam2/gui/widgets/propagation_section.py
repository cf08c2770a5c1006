"""CarrySection: carry objects through the stack, with pause, cancel and progress; then save."""

from __future__ import annotations

from typing import cast

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QProgressBar, QPushButton, QWidget
from superqt import QRangeSlider

from napari_sam2.core.plan import Direction
from napari_sam2.gui.app.session_update import Carry
from napari_sam2.gui.app.view import Snapshot, Stage
from napari_sam2.gui.widgets.elements import column, follow_theme, heading, muted, row, tool
from napari_sam2.gui.widgets.keys import hint

_DIRECTIONS = {"both": "both ways", "forward": "forward", "backward": "backward"}


class CarrySection(QWidget):
    """`asked` is emitted with "propagate" or "cancel"."""

    asked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.go = QPushButton("Propagate")
        self.go.setProperty("icon_name", "carry")
        self.go.setToolTip(
            hint(
                "Carry the objects through the stack. While it runs: pause, and go on", "propagate"
            )
        )
        self.go.setMinimumHeight(30)
        self.go.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.stop = tool(
            "stop", hint("Stop; what is done stays", "cancel"), lambda: self.asked.emit("cancel")
        )
        self.direction = QComboBox()
        for name, title in _DIRECTIONS.items():
            self.direction.addItem(title, name)
        self.direction.setToolTip("Which way from the first prompt of each object")
        self.scope = QComboBox()
        self.scope.addItem("all objects", False)
        self.scope.addItem("this object", True)
        self.scope.setToolTip("Which objects")
        self.range = QRangeSlider(Qt.Orientation.Horizontal)
        self.range.setToolTip("Between which frames: drag the ends, or the bar")
        self.range_label = muted()
        self.follow = QCheckBox("watch")
        self.follow.setChecked(True)
        self.follow.setToolTip("Show each frame when it is done; move the slider to look elsewhere")
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.bar.setFixedHeight(16)
        layout = column(self)
        layout.addWidget(heading("Propagate"))
        layout.addLayout(row(self.direction, self.scope, None, self.follow))
        layout.addWidget(self.range)
        layout.addWidget(self.range_label)
        buttons = row(self.go, self.stop)
        buttons.setStretch(0, 1)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        self.go.clicked.connect(lambda *_: self.asked.emit("propagate"))
        self.range.valueChanged.connect(self._label_range)
        self.set_length(0)

    def set_length(self, frames: int) -> None:
        """So many frames, all of them chosen."""
        blocker = QSignalBlocker(self.range)
        last = max(1, frames - 1)
        self.range.setRange(0, last)
        self.range.setValue((0, last))
        blocker.unblock()
        for widget in (self.range, self.range_label):
            widget.setVisible(frames > 1)
        self._length = frames
        self._label_range()

    def choose_range(self, first: int, after: int) -> None:
        """Carry between these frames, as in a slice."""
        self.range.setValue((first, max(first, after - 1)))

    def carry(self, current: int) -> Carry:
        """What is asked for; `current` is the object that is worked on."""
        first, last = (int(value) for value in self.range.value())
        whole = (first, last) == (0, max(1, self._length - 1))
        return Carry(
            cast(Direction, self.direction.currentData()),
            None if whole else (first, last + 1),
            (current,) if self.scope.currentData() else None,
        )

    def show_state(self, snapshot: Snapshot) -> None:
        """Enable what makes sense now, and show how far it is."""
        stage = snapshot.stage
        moving = stage in (Stage.RUNNING, Stage.PAUSED)
        title = {Stage.RUNNING: "Pause", Stage.PAUSED: "Go on"}.get(
            stage, "Go on" if snapshot.unfinished else "Propagate"
        )
        if self.go.text() != title:
            self.go.setText(title)
            self.go.setProperty("icon_name", "pause" if title == "Pause" else "carry")
            follow_theme(self)
        self.go.setEnabled(moving or snapshot.prompted)
        self.stop.setEnabled(moving)
        for widget in (self.direction, self.scope, self.range):
            widget.setEnabled(not moving)
        if stage is Stage.BUSY:
            self.bar.setRange(0, 0)
        else:
            self.bar.setRange(0, max(1, snapshot.total))
            self.bar.setValue(snapshot.done)
        self.bar.setFormat(f"{snapshot.done} of {snapshot.total}" if moving else "")

    def _label_range(self) -> None:
        first, last = (int(value) for value in self.range.value())
        self.range_label.setText(f"frames {first} to {last}")
