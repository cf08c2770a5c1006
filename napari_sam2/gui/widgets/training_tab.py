"""TrainingTab: fine-tune the model on the accepted frames of this session, and watch how it gets on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.app.accepted_frames import LEAST, Accepted
from napari_sam2.gui.app.fine_tuner import CHOICES, Coach, Lesson, Plan, free_name, place_of

if TYPE_CHECKING:
    from napari_sam2.train.recipe import Recipe

_MINUTES = 5.0
_PREVIEW = (
    "Frames held out, carried from the left: green is what you accepted, magenta the model's "
    "answer on top of it."
)

log = logging.getLogger(__name__)


class Picture(QLabel):
    """A picture as large as there is room for."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._whole = QPixmap()
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter)
        self.setMinimumHeight(80)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)

    def show_png(self, png: bytes | None) -> None:
        """Show another one; None: none."""
        self._whole = QPixmap()
        if png is not None:
            self._whole.loadFromData(png)
        self._fit()

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Fit."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        if self._whole.isNull():
            self.setPixmap(QPixmap())
            return
        self.setPixmap(
            self._whole.scaled(
                self.size(),
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        )


class TrainingTab(QWidget):
    """Fine-tuning in plain choices.

    It runs in a thread of its own; `refresh` after frames were accepted or the model changed.

    `trained` comes with the file of a new model, which is among the known models by then; `told`
    with a sentence for the person, and whether something is wrong.

    Parameters
    ----------
    accepted
        What there is to learn from now; None where nothing is open.
    model
        The name or path of the model to start from.
    folder
        Where the result goes; where known models lie, if not given.
    """

    trained = Signal(str)
    told = Signal(str, bool)
    _lesson = Signal(object)
    _ended = Signal(object, object)

    def __init__(
        self,
        accepted: Callable[[], Accepted | None],
        model: Callable[[], str],
        *,
        folder: Path | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.recipe: Recipe | None = None  # takes the place of what is chosen here
        self._accepted, self._model, self._folder = accepted, model, folder
        self._coach: Coach | None = None
        self._began = 0.0
        self._summary, self._figures, self._caption = QLabel(), QLabel(), QLabel(_PREVIEW)
        self._trains, self._minutes, self._name = QComboBox(), QDoubleSpinBox(), QLineEdit()
        self._start, self._progress, self._picture = QPushButton(), QProgressBar(), Picture()
        self._lay_out()
        self._lesson.connect(self._show)
        self._ended.connect(self._end)
        self._start.clicked.connect(lambda *_: self.stop() if self.running else self.start())
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether a training is under way."""
        return self._coach is not None

    def refresh(self) -> None:
        """Show what there is to learn from."""
        found = self._accepted()
        self._summary.setText(
            found.summary[0].upper() + found.summary[1:] + "." if found else "Open an image first."
        )
        if not self.running:
            self._start.setEnabled(found is not None and len(found.frames) >= LEAST)
            if not self._name.isModified():
                self._name.setText(free_name(self._model(), self._folder))

    def start(self) -> None:
        """Begin, with what is chosen; what stands in the way is told."""
        found = self._accepted()
        trains = self._trains.currentData()
        plan = Plan(self._model(), self._name.text().strip(), trains, self._minutes.value())
        try:
            place_of(plan.name, self._folder)
        except Sam2Error as error:
            self.told.emit(str(error), True)
            return
        if found is None:
            return
        self._coach, self._began = Coach(self._tell), time.monotonic()
        self._picture.show_png(None)
        self._caption.setVisible(False)
        self._figures.setText("Looking at the frames…")
        self._show_running(True)
        Thread(
            target=self._teach,
            args=(self._coach, found, plan),
            name="napari-sam2-training",
            daemon=True,
        ).start()

    def stop(self) -> None:
        """Stop after the next step; the best so far is kept."""
        if self._coach is not None:
            self._coach.stop()
            self._start.setEnabled(False)
            self._start.setText("Stopping…")

    def closeEvent(self, event: Any) -> None:  # noqa: N802
        """A training does not outlive its window."""
        self.stop()
        super().closeEvent(event)

    def _lay_out(self) -> None:
        for trains, words in CHOICES.items():
            self._trains.addItem(words, trains)
        self._trains.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._trains.setMinimumContentsLength(12)
        self._minutes.setRange(0.5, 24 * 60)
        self._minutes.setDecimals(1)
        self._minutes.setValue(_MINUTES)
        self._minutes.setSuffix(" min")
        self._name.setPlaceholderText("name of the new model")
        self._summary.setWordWrap(True)
        self._figures.setWordWrap(True)
        self._caption.setWordWrap(True)
        self._caption.setVisible(False)
        self._caption.setStyleSheet("font-size: 11px;")
        self._progress.setRange(0, 1000)
        self._progress.setTextVisible(True)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field, tip in (
            (
                "Learns",
                self._trains,
                (
                    "Which part of the model changes: of the small embedded one, all of it; of a "
                    "large one, outlines and following"
                ),
            ),
            ("For", self._minutes, "How long; stopping earlier keeps the best so far"),
            ("New model", self._name, "What it will be called in the list of models"),
        ):
            form.addRow(label, field)
            field.setToolTip(tip)
            field.setAccessibleName(label)
        layout = QVBoxLayout(self)
        layout.addWidget(self._summary)
        layout.addLayout(form)
        layout.addWidget(self._start)
        layout.addWidget(self._progress)
        layout.addWidget(self._figures)
        layout.addWidget(self._caption)
        layout.addWidget(self._picture, 1)
        self._show_running(False)

    def _show_running(self, running: bool) -> None:
        self._start.setText("Stop and keep the best" if running else "Fine-tune")
        self._start.setEnabled(True)
        self._progress.setVisible(running)
        self._progress.setValue(0)
        self._progress.setFormat("")
        for field in (self._trains, self._minutes, self._name):
            field.setEnabled(not running)

    def _teach(self, coach: Coach, accepted: Accepted, plan: Plan) -> None:
        """In the training's thread: the file, or the error, is handed to the window's."""
        made: Path | None = None
        wrong: Exception | None = None
        try:
            made = coach.teach(accepted, plan, folder=self._folder, recipe=self.recipe)
        except Exception as error:  # noqa: BLE001 - told to the person, whatever it is
            wrong = error
        with suppress(RuntimeError):  # the window was closed
            self._ended.emit(made, wrong)

    def _tell(self, lesson: Lesson) -> None:
        with suppress(RuntimeError):
            self._lesson.emit(lesson)

    def _show(self, lesson: Lesson) -> None:
        if not self.running:
            return
        self._progress.setValue(int(1000 * lesson.fraction))
        self._progress.setFormat(f"step {lesson.step} · {self._left(lesson.fraction)}")
        self._figures.setText(told_of(lesson))
        if lesson.picture is not None:
            self._picture.show_png(lesson.picture)
            self._caption.setVisible(True)

    def _left(self, fraction: float) -> str:
        spent = time.monotonic() - self._began
        if fraction < 0.02:
            return "just begun"
        left = spent * (1 - fraction) / fraction
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"

    def _end(self, made: Path | None, wrong: Exception | None) -> None:
        self._coach = None
        self._show_running(False)
        if wrong is not None:
            self._figures.setText("")
            if not isinstance(wrong, Sam2Error):
                log.error("training failed", exc_info=wrong)
            self.told.emit(
                f"training stopped: {' '.join(str(wrong).split()) or type(wrong).__name__}", True
            )
        elif made is None:
            self.told.emit(
                "the model did not get better on the frames held out, and nothing was kept: "
                "accept more frames, or give it longer",
                False,
            )
        else:
            self.told.emit(f"{made.stem} is ready: choose it in the list of models", False)
            self._name.setModified(False)
            self.trained.emit(str(made))
        self.refresh()


def told_of(lesson: Lesson) -> str:
    """How good the model is on frames it does not learn from, before and now, in words."""
    if not lesson.figures or lesson.best is None:
        return "Looking at the frames…"
    first, best = lesson.figures[0], lesson.best
    if len(lesson.figures) == 1:
        return (
            f"Before: overlap {first.clicked:.2f} after one click, {first.carried:.2f} carried "
            "to other frames."
        )
    better = f"best so far at step {best.step}" if best.step else "not better yet"
    return (
        f"Overlap with what you accepted, on frames held out: {first.clicked:.2f} → "
        f"{best.clicked:.2f} after one click, "
        f"{first.carried:.2f} → {best.carried:.2f} carried ({better})."
    )
