"""CountTab: count a stack nobody clicked in.

Each step is shown, and can be corrected before the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QProgressBar,
    QPushButton,
    QWidget,
)

from napari_sam2.api.count import Counting
from napari_sam2.core.errors import Sam2Error
from napari_sam2.detection.object_scale import Scale
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.counting_task import Wanted
from napari_sam2.gui.app.view import Place, Snapshot, Stage
from napari_sam2.gui.layers.canvas import Canvas
from napari_sam2.gui.layers.layer_prompts import planes_of
from napari_sam2.gui.widgets.elements import column, follow_theme, heading, muted, once, row, tool

_SOURCES = {
    "auto": "automatic",
    "bodies": "bodies, outlined by brightness",
    "blobs": "round spots (blobs)",
    "grid": "everything the model sees (grid)",
    "examples": "what resembles the objects clicked",
}
_WAYS = {
    "seeds": "on every frame, then joined",
    "model": "on this frame, then carried by the model",
}
_SIDES = {"guessed": None, "bright": False, "dark": True}
_EDITING = (
    "Seeds are points: napari's tools at the left add, move and delete them. Those that you add "
    "are clicks."
)


class CountTab(QWidget):
    """`told` comes with a sentence and whether something is wrong, `asked` with what a key or button is called by.

    Parameters
    ----------
    controller, canvas
        Who does it, and where seeds are shown.
    labels
        Label layers that may be the source.
    """

    told = Signal(str, bool)
    asked = Signal(str)

    def __init__(
        self, controller: Controller, canvas: Canvas, labels: Callable[[], Sequence[Any]]
    ) -> None:
        super().__init__()
        self._controller, self._canvas, self._labels = controller, canvas, labels
        self._guessed: tuple[Place, bool | None] | None = None
        self._pixel_um: float | None = None
        self.what, self.result, self.hint = muted(), muted(), muted(_EDITING)
        self.source, self.way, self.side, self.size = (
            QComboBox(),
            QComboBox(),
            QComboBox(),
            QDoubleSpinBox(),
        )
        self.find, self.count, self.save = (
            QPushButton("1  Find seeds"),
            QPushButton("2  Count"),
            QPushButton("3  Save labels and tables…"),
        )
        self.edit = tool(
            "point",
            "Add, move and delete seeds with napari's own tools",
            self._on_edit,
            text="Edit seeds",
            checkable=True,
        )
        self.stop = tool("stop", "Stop; objects that are done stay", controller.cancel)
        self.bar = QProgressBar()
        self._lay_out()
        self._theme = once(self, lambda: follow_theme(self))
        self._connect()
        self.offer()

    def _lay_out(self) -> None:
        for box, entries in ((self.way, _WAYS), (self.side, _SIDES)):
            for key, entry in entries.items():
                box.addItem(entry if box is self.way else key, key if box is self.way else entry)
        self.size.setRange(0.0, 100_000.0)
        self.size.setDecimals(1)
        self.size.setSpecialValueText("guessed")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field, tip in (
            ("Find", self.source, "How objects are found"),
            (
                "Where",
                self.way,
                (
                    "On every frame, and then which is which; or on the frame you look at, and the "
                    "model does the rest"
                ),
            ),
            ("Diameter", self.size, "Of a typical object; 0: guessed from the image"),
            ("Objects are", self.side, "Brighter or darker than what is around them"),
        ):
            form.addRow(label, field)
            field.setToolTip(tip)
            field.setAccessibleName(label)
        for box in (self.source, self.way):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(12)
        self.bar.setFixedHeight(16)
        layout = column(self, margin=8)
        layout.addWidget(heading("Count without a click"))
        layout.addWidget(self.what)
        layout.addLayout(form)
        for part in (
            row(self.find, self.edit),
            self.hint,
            row(self.count, self.stop),
            self.bar,
            self.result,
            self.save,
        ):
            layout.addWidget(part) if isinstance(part, QWidget) else layout.addLayout(part)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.find.clicked.connect(lambda *_: self.look())
        self.count.clicked.connect(lambda *_: self.go_on())
        self.save.clicked.connect(lambda *_: self.asked.emit("save"))
        self.side.currentIndexChanged.connect(lambda *_: self._guess())

    def showEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Qt's: it has the colours of the window now."""
        super().showEvent(event)
        self._theme.start()

    def changeEvent(self, event: Any) -> None:  # noqa: N802
        """Qt's: the theme changed."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._theme.start()

    def offer(self) -> None:
        """List the sources there are: those known by name, and label layers."""
        chosen = self.source.currentData()
        blocker = QSignalBlocker(self.source)
        self.source.clear()
        for name, title in _SOURCES.items():
            self.source.addItem(title, name)
        for layer in self._labels():
            self.source.addItem(f"labels: {layer.name}", layer)
        self.source.setCurrentIndex(
            max(
                0,
                next(
                    (n for n in range(self.source.count()) if self.source.itemData(n) is chosen), 0
                ),
            )
        )
        blocker.unblock()

    def wanted(self) -> Wanted:
        """What is chosen. Raises LabelsError for a label layer of another shape."""
        source, size = self.source.currentData(), self.size.value()
        place, reading = self._controller.place, self._canvas.reading
        by_name = isinstance(source, str)
        counting = Counting(
            seeds=source if by_name else "labels",
            trust=self.way.currentData(),
            diameter_um=size if size and self._pixel_um else None,
            diameter_px=size if size and not self._pixel_um else None,
            dark=self.side.currentData(),
        )
        planes = (
            None
            if by_name or place is None or reading is None
            else planes_of(source, reading, place)
        )
        return Wanted(counting, planes, self._controller.frame)

    def look(self, then: Callable[[], Any] = lambda: None) -> None:
        """Find seeds; they are shown as they come."""
        try:
            wanted = self.wanted()
        except Sam2Error as error:
            self.told.emit(str(error), True)
            return
        self.result.setText("")
        self._controller.find(wanted, then)

    def go_on(self) -> None:
        """Make objects of the seeds that are shown; where there are none, find them first."""
        seeds = self._canvas.seeds
        if (
            seeds is None
            or seeds.layer is None
            or not seeds.layer.visible
            or not len(seeds.layer.data)
        ):
            self.look(lambda: self._count() if self._controller.book.seeds else self._counted())
        else:
            self._count()

    def show_state(self, snapshot: Snapshot) -> None:
        """Enable what makes sense now, and show how far it is."""
        place = self._controller.place
        moving = snapshot.stage in (Stage.RUNNING, Stage.PAUSED)
        for widget in (self.find, self.count, self.source, self.way, self.size, self.side):
            widget.setEnabled(place is not None and not moving)
        self.stop.setEnabled(moving)
        self.save.setEnabled(snapshot.prompted and not moving)
        seeds = self._canvas.seeds
        shown = seeds is not None and seeds.layer is not None and bool(seeds.layer.visible)
        self.edit.setEnabled(shown and not moving)
        self.hint.setVisible(shown)
        if not shown:
            self.edit.setChecked(False)
        self.bar.setRange(
            0, max(1, snapshot.total) if moving or snapshot.stage is not Stage.BUSY else 0
        )
        self.bar.setValue(snapshot.done)
        self.bar.setFormat(f"{snapshot.done} of {snapshot.total}" if moving else "")
        here = sum(1 for each in snapshot.objects if each.frames)
        text = snapshot.message if moving else ""
        self.result.setText(
            text
            or (
                f"{here} object{'' if here == 1 else 's'} in this stack."
                if here
                else snapshot.message
            )
        )
        self._show_place(place)

    def _show_place(self, place: Place | None) -> None:
        if place is None:
            self.what.setText("Open an image first.")
            return
        choice = place.choice
        channel = "" if choice.channel is None else f", channel {choice.channel}"
        self.what.setText(f"{choice.name}, along {choice.along}{channel}, as chosen in the panel")
        if self._guessed is None or self._guessed[0] != place:
            self._guess()

    def _guess(self) -> None:
        """Show how large the objects are, where nobody says."""
        place = self._controller.place
        if place is None:
            return
        dark = self.side.currentData()
        self._guessed = place, dark
        self._pixel_um = place.choice.stack.spacing.y_um
        self.size.setSuffix(" µm" if self._pixel_um else " px")
        self.size.setSpecialValueText("guessed")

        def show(scale: Scale | None) -> None:
            if self._guessed != (place, dark) or scale is None:
                return
            size = scale.diameter_px * (self._pixel_um or 1.0)
            kind = "" if dark is not None else ", dark" if scale.dark else ", bright"
            self.size.setSpecialValueText(
                f"guessed: {size:.1f}{' µm' if self._pixel_um else ' px'}{kind}"
            )

        self._controller.guess(show, dark=dark)

    def _count(self) -> None:
        seeds = self._canvas.seeds
        if seeds is None:
            return
        placed = seeds.placed()
        seeds.hide()
        self.edit.setChecked(False)
        self._controller.count(placed, self._counted)

    def _counted(self) -> None:
        count = len(self._controller.book.log.track_ids)
        self.told.emit(
            f"{count} object{'' if count == 1 else 's'}: look through them, correct, then save",
            False,
        )

    def _on_edit(self) -> None:
        if self._canvas.seeds is not None:
            self._canvas.seeds.edit(self.edit.isChecked())
