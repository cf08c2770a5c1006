"""ImageSection: which image, which way through it, which channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QWidget

from napari_sam2.gui.layers.layer_axes import Reading
from napari_sam2.gui.layers.samples import TITLES
from napari_sam2.gui.widgets.elements import column, heading, muted, row

_AXES = {"z": "z (slices)", "t": "t (time)"}


class ImageSection(QWidget):
    """`chosen` is emitted when another image, axis or channel is chosen; `sample` with the name of one to open.

    `project` is emitted with the folder of a project to go on with, "" where one is to be asked
    for.
    """

    chosen = Signal()
    sample = Signal(str)
    project = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.layer = QComboBox()
        self.layer.setToolTip("The image whose objects are segmented")
        self.along = QComboBox()
        self.along.setToolTip("The axis that objects are carried along")
        self.channel = QComboBox()
        self.channel.setToolTip("The channel the model looks at; all channels are measured")
        self.about = muted()
        self._along = row(QLabel("along"), self.along, QLabel("channel"), self.channel, None)
        self._samples = QWidget()
        samples = column(self._samples)
        samples.addWidget(muted("Open a z-stack or a time-lapse, or try one of these:"))
        for name, title in TITLES.items():
            button = QPushButton(title)
            button.clicked.connect(lambda *_, name=name: self.sample.emit(name))
            samples.addWidget(button)
        self.last, self.open = QPushButton(), QPushButton("Open a project…")
        self.last.hide()
        self.open.setToolTip("A folder in which the plugin kept your work: image, clicks, labels")
        self.open.clicked.connect(lambda *_: self.project.emit(""))
        for button in (self.last, self.open):
            samples.addWidget(button)
        layout = column(self)
        layout.addWidget(heading("Image"))
        layout.addWidget(self.layer)
        layout.addLayout(self._along)
        layout.addWidget(self.about)
        layout.addWidget(self._samples)
        for box in (self.layer, self.along, self.channel):
            box.currentIndexChanged.connect(self.chosen)

    def offer(self, images: Sequence[Any], current: Any) -> None:
        """List these layers, `current` being chosen."""
        blocker = QSignalBlocker(self.layer)
        self.layer.clear()
        for image in images:
            self.layer.addItem(image.name, image)
        if current is not None:
            self.layer.setCurrentIndex(
                next((n for n, image in enumerate(images) if image == current), 0)
            )
        blocker.unblock()
        for widget in (self.layer, self.about):
            widget.setVisible(bool(images))
        self._samples.setVisible(not images)
        if not images:
            self.read(None)

    def offer_project(self, found: tuple[Path, str] | None) -> None:
        """Offer to go on with this project: its folder, and the name of its image."""
        self.last.setVisible(found is not None)
        if found is not None:
            folder, name = found
            self.last.setText(f"Go on with {name}")
            self.last.setToolTip(str(folder))
            self.last.clicked.connect(lambda *_: self.project.emit(str(folder)))

    def read(self, reading: Reading | None, *, along: str = "", channel: int = 0) -> None:
        """Show what can be chosen in an image that is read so."""
        blockers = [QSignalBlocker(box) for box in (self.along, self.channel)]
        self.along.clear()
        self.channel.clear()
        for axis in reading.walkable if reading else ():
            self.along.addItem(_AXES[axis], axis)
        for number in range(reading.channels if reading else 0):
            self.channel.addItem(str(number), number)
        self.along.setCurrentIndex(max(0, self.along.findData(along)))
        self.channel.setCurrentIndex(max(0, self.channel.findData(channel)))
        for blocker in blockers:
            blocker.unblock()
        many = reading is not None and reading.channels > 1
        for place, shown in (
            (0, reading is not None),
            (1, reading is not None),
            (2, many),
            (3, many),
        ):
            item = self._along.itemAt(place)
            assert item is not None
            item.widget().setVisible(shown)

    @property
    def image(self) -> Any:
        """The layer that is chosen, None where there is none."""
        return self.layer.currentData()


def described(reading: Reading, image: Any) -> str:
    """One line about an image."""
    sizes = " × ".join(f"{axis} {size}" for axis, size in reading.sizes.items())
    pixel = reading.spacing.y_um
    words = [
        sizes,
        f"{pixel:.3g} µm per pixel" if pixel else "pixel size unknown",
        "finest level" if image.multiscale else "",
    ]
    return " · ".join(word for word in words if word)
