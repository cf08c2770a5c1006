"""TrainingTab: fine-tune the model on the accepted frames of the open session."""

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
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sam2.core.errors import Sam2Error
from napari_sam2.gui.app.accepted_frames import MIN_FRAMES, AcceptedFrames
from napari_sam2.gui.app.fine_tuner import (
    TRAINABLE_TITLES,
    FineTuner,
    FineTuningPlan,
    TrainingProgress,
    find_free_name,
    get_model_path,
)
from napari_sam2.gui.widgets.elements import make_form

if TYPE_CHECKING:
    from napari_sam2.train.recipe import Recipe

_DEFAULT_MINUTES = 5.0
_PREVIEW_CAPTION = (
    "Held-out frames, propagated from the left. Green: the masks that you accepted. Magenta: the "
    "model's masks."
)

log = logging.getLogger(__name__)


class PreviewImage(QLabel):
    """An image that fills the space there is."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._pixmap = QPixmap()
        self.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter)
        self.setMinimumHeight(80)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Expanding)

    def show_png(self, png: bytes | None) -> None:
        """Show a PNG image; None clears it."""
        self._pixmap = QPixmap()
        if png is not None:
            self._pixmap.loadFromData(png)
        self._rescale()

    def resizeEvent(self, event: Any) -> None:
        """Fit the image."""
        super().resizeEvent(event)
        self._rescale()

    def _rescale(self) -> None:
        if self._pixmap.isNull():
            self.setPixmap(QPixmap())
            return
        self.setPixmap(
            self._pixmap.scaled(
                self.size(),
                Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.SmoothTransformation,
            )
        )


class TrainingTab(QWidget):
    """Fine-tuning in a thread of its own; call `refresh` if frames or the model changed.

    Parameters
    ----------
    get_accepted
        Gives the frames to train on; None if no image is open.
    get_model_name
        Gives the name or path of the model to start from.
    folder
        The folder of the new model; that of the known models by default.
    """

    model_trained = Signal(str)
    """The file of a new model, which is a known model now."""
    notified = Signal(str, bool)
    """A sentence for the person, and whether it is an error."""
    _progressed = Signal(object)
    _finished = Signal(object, object)

    def __init__(
        self,
        get_accepted: Callable[[], AcceptedFrames | None],
        get_model_name: Callable[[], str],
        *,
        folder: Path | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.recipe_override: Recipe | None = None  # replaces the choices of the person
        self._get_accepted, self._get_model_name, self._folder = (
            get_accepted,
            get_model_name,
            folder,
        )
        self._fine_tuner: FineTuner | None = None
        self._started_s = 0.0
        self.summary_label, self.scores_label, self._caption_label = (
            QLabel(),
            QLabel(),
            QLabel(_PREVIEW_CAPTION),
        )
        self._trains_choice, self._minutes_box, self.name_edit = (
            QComboBox(),
            QDoubleSpinBox(),
            QLineEdit(),
        )
        self.detector_box = QCheckBox("Teach counting too")
        self.start_button, self.progress_bar, self.preview = (
            QPushButton(),
            QProgressBar(),
            PreviewImage(),
        )
        self._build_layout()
        self._progressed.connect(self._show_progress)
        self._finished.connect(self._on_finished)
        self.start_button.clicked.connect(lambda *_: self.stop() if self.running else self.start())
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether a training is running."""
        return self._fine_tuner is not None

    def refresh(self) -> None:
        """Show the frames that there are to train on."""
        found = self._get_accepted()
        self.summary_label.setText(
            found.summary[0].upper() + found.summary[1:] + "." if found else "Open an image first."
        )
        if not self.running:
            self.start_button.setEnabled(found is not None and len(found.frames) >= MIN_FRAMES)
            if not self.name_edit.isModified():
                self.name_edit.setText(find_free_name(self._get_model_name(), self._folder))

    def start(self) -> None:
        """Start to train, with what is chosen."""
        found = self._get_accepted()
        trains = self._trains_choice.currentData()
        plan = FineTuningPlan(
            self._get_model_name(),
            self.name_edit.text().strip(),
            trains,
            self._minutes_box.value(),
            self.detector_box.isChecked(),
        )
        try:
            get_model_path(plan.name, self._folder)
        except Sam2Error as error:
            self.notified.emit(str(error), True)
            return
        if found is None:
            return
        self._fine_tuner, self._started_s = FineTuner(self._emit_progress), time.monotonic()
        self.preview.show_png(None)
        self._caption_label.setVisible(False)
        self.scores_label.setText("Preparing the frames…")
        self._show_running(True)
        Thread(
            target=self._train,
            args=(self._fine_tuner, found, plan),
            name="napari-sam2-training",
            daemon=True,
        ).start()

    def stop(self) -> None:
        """Stop after the next step. The best model so far is kept."""
        if self._fine_tuner is not None:
            self._fine_tuner.stop()
            self.start_button.setEnabled(False)
            self.start_button.setText("Stopping…")

    def closeEvent(self, event: Any) -> None:
        """Stop the training with the window."""
        self.stop()
        super().closeEvent(event)

    def _build_layout(self) -> None:
        for trains, words in TRAINABLE_TITLES.items():
            self._trains_choice.addItem(words, trains)
        self._minutes_box.setRange(0.5, 24 * 60)
        self._minutes_box.setDecimals(1)
        self._minutes_box.setValue(_DEFAULT_MINUTES)
        self._minutes_box.setSuffix(" min")
        self.detector_box.setChecked(True)
        self.name_edit.setPlaceholderText("name of the new model")
        self.summary_label.setWordWrap(True)
        self.scores_label.setWordWrap(True)
        self._caption_label.setWordWrap(True)
        self._caption_label.setVisible(False)
        self._caption_label.setStyleSheet("font-size: 11px;")
        self.progress_bar.setRange(0, 1000)
        self.progress_bar.setTextVisible(True)
        form = make_form(
            (
                "Train",
                self._trains_choice,
                (
                    "The parts of the model that are trained. Recommended: all of the small "
                    "included model; masks and propagation of a large one."
                ),
            ),
            (
                "Time",
                self._minutes_box,
                "Training time. If you stop earlier, the best model is kept.",
            ),
            (
                "Detector",
                self.detector_box,
                (
                    "Also train what finds objects without a click, as in the Count tab. All "
                    "objects of the accepted frames must have masks; if many seem to have none, "
                    "it is left out."
                ),
            ),
            ("New model", self.name_edit, "Its name in the list of models"),
        )
        layout = QVBoxLayout(self)
        layout.addWidget(self.summary_label)
        layout.addLayout(form)
        layout.addWidget(self.start_button)
        layout.addWidget(self.progress_bar)
        layout.addWidget(self.scores_label)
        layout.addWidget(self._caption_label)
        layout.addWidget(self.preview, 1)
        self._show_running(False)

    def _show_running(self, running: bool) -> None:
        self.start_button.setText("Stop and keep the best model" if running else "Fine-tune")
        self.start_button.setEnabled(True)
        self.progress_bar.setVisible(running)
        self.progress_bar.setValue(0)
        self.progress_bar.setFormat("")
        for field in (
            self._trains_choice,
            self._minutes_box,
            self.detector_box,
            self.name_edit,
        ):
            field.setEnabled(not running)

    def _train(self, fine_tuner: FineTuner, accepted: AcceptedFrames, plan: FineTuningPlan) -> None:
        """Train, in a thread, and pass the result to the thread of the window."""
        model_path: Path | None = None
        failure: Exception | None = None
        try:
            model_path = fine_tuner.finetune(
                accepted, plan, folder=self._folder, recipe=self.recipe_override
            )
        except Exception as error:  # noqa: BLE001 - shown to the person
            failure = error
        with suppress(RuntimeError):  # the window was closed
            self._finished.emit(model_path, failure)

    def _emit_progress(self, progress: TrainingProgress) -> None:
        with suppress(RuntimeError):
            self._progressed.emit(progress)

    def _show_progress(self, progress: TrainingProgress) -> None:
        if not self.running:
            return
        self.progress_bar.setValue(int(1000 * progress.fraction))
        part = (
            f"detector, step {progress.detector_step}"
            if progress.detection
            else f"step {progress.step}"
        )
        left = self._format_time_left(progress.fraction)
        self.progress_bar.setFormat(f"{part} · {left}")
        self.scores_label.setText(describe_progress(progress))
        if progress.preview_png is not None:
            self.preview.show_png(progress.preview_png)
            self._caption_label.setVisible(True)

    def _format_time_left(self, fraction: float) -> str:
        spent = time.monotonic() - self._started_s
        if fraction < 0.02:
            return "just started"
        left = spent * (1 - fraction) / fraction
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"

    def _on_finished(self, model_path: Path | None, error: Exception | None) -> None:
        fine_tuner, self._fine_tuner = self._fine_tuner, None
        self._show_running(False)
        if error is not None:
            self.scores_label.setText("")
            if not isinstance(error, Sam2Error):
                log.error("training failed", exc_info=error)
            self.notified.emit(
                f"The training failed: {' '.join(str(error).split()) or type(error).__name__}", True
            )
        elif model_path is None:
            self.notified.emit(
                "The model did not get better on the held-out frames, so it was not saved. Accept "
                "more frames, or train longer.",
                False,
            )
        else:
            left_out = fine_tuner.detector_left_out if fine_tuner else ""
            note = f" Its detector was left out: {left_out}." if left_out else ""
            self.notified.emit(f"The model {model_path.stem} is ready.{note}", False)
            self.name_edit.setModified(False)
            self.model_trained.emit(str(model_path))
        self.refresh()


def describe_progress(progress: TrainingProgress) -> str:
    """Describe the scores on held-out frames, before training and now."""
    if not progress.scores or progress.best is None:
        return "Preparing the frames…"
    first, best = progress.scores[0], progress.best
    if len(progress.scores) == 1:
        return (
            f"Before training: IoU {first.click_iou:.2f} after one click, "
            f"{first.propagated_iou:.2f} propagated."
        )
    better = f"best so far at step {best.step}" if best.step else "not better yet"
    text = (
        f"IoU on held-out frames: {first.click_iou:.2f} → {best.click_iou:.2f} after one click, "
        f"{first.propagated_iou:.2f} → {best.propagated_iou:.2f} propagated ({better})."
    )
    if progress.detection is None:
        return text
    before, after = progress.detection
    return (
        f"{text} Without a click: F1 {before.f1:.2f} → {after.f1:.2f}, count error "
        f"{before.count_error:.0%} → {after.count_error:.0%}."
    )
