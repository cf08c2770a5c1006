"""FineTuner: fine-tuning on accepted frames, which reports its progress and can be stopped.

No Qt; torch is loaded when it starts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from napari_sam2.core.errors import OutputError
from napari_sam2.gui.app.accepted_frames import AcceptedFrames
from napari_sam2.models.weights.cards import DETECTOR_SUFFIX
from napari_sam2.models.weights.files import get_cache_folder

if TYPE_CHECKING:
    from napari_sam2.train.data.clip import Clip
    from napari_sam2.train.recipe import Recipe

_PROMPTABLE_SHARE = 2 / 3  # of the progress, if the detector is tuned too
_VALIDATE_EVERY_STEPS = 25  # about ten seconds of the embedded model on a processor

TrainableParts = Literal["decoder", "decoder+memory", "everything"]

TRAINABLE_TITLES: dict[TrainableParts | None, str] = {
    None: "recommended parts",
    "decoder": "masks only (fastest)",
    "decoder+memory": "masks and propagation",
    "everything": "the whole model",
}
"""What may be trained, the default first."""


@dataclass(frozen=True)
class ValidationScores:
    """Mean IoU, 0 to 1, on held-out frames after `step` steps: after one click, and propagated."""

    step: int
    click_iou: float
    propagated_iou: float


@dataclass(frozen=True)
class DetectionScores:
    """What is found on held-out frames without a click: F1 at IoU 0.5, and the count error."""

    f1: float
    count_error: float


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training: its steps, the scores so far, and the newest preview."""

    fraction: float
    step: int
    scores: tuple[ValidationScores, ...] = ()
    best: ValidationScores | None = None
    preview_png: bytes | None = None
    detection: tuple[DetectionScores, DetectionScores] | None = None
    """Before the tuning of the detector, and the best so far."""
    detector_step: int = 0


@dataclass(frozen=True)
class FineTuningPlan:
    """The model to start from (a name or path), the name of the result, what to train, how long."""

    model: str
    name: str
    trains: TrainableParts | None = None
    minutes: float = 5.0
    detector: bool = True

    def make_recipe(self) -> Recipe:
        """Make the recipe of this plan."""
        from napari_sam2.train.recipe import Recipe, ValidationOptions

        validating = ValidationOptions(every=_VALIDATE_EVERY_STEPS, clips=8, length=3)
        return Recipe(
            trainable=self.trains,
            minutes=self.minutes,
            steps=1_000_000,
            validation=validating,
            detector="auto" if self.detector else "never",
        )


class FineTuner:
    """A training hook that reports progress in the training's thread, and can stop it once."""

    def __init__(self, report: Callable[[TrainingProgress], None]) -> None:
        self._report_callback = report
        self._stop_event = Event()
        self._scores: tuple[ValidationScores, ...] = ()
        self._last: TrainingProgress | None = None
        self.detector_left_out = ""
        self._promptable_share = 1.0  # of the whole progress; the rest is the detector's

    def stop(self) -> None:
        """Stop after the next step, from any thread. The best model so far is kept."""
        self._stop_event.set()

    def finetune(
        self,
        accepted: AcceptedFrames,
        plan: FineTuningPlan,
        *,
        folder: Path | None = None,
        recipe: Recipe | None = None,
    ) -> Path | None:
        """Train, and return the file of the new model in `folder`; None if it is not better.

        Raises the errors of `core.errors`; then no file is left.
        """
        from napari_sam2.train.finetune import finetune
        from napari_sam2.train.hooks import Hook, PreviewImages

        out = get_model_path(plan.name, folder)
        work = out.parent / f"{out.stem}-training"
        recipe = recipe or plan.make_recipe()
        self._promptable_share = 1.0 if recipe.detector == "never" else _PROMPTABLE_SHARE
        better = False
        try:
            hooks: list[Hook] = [PreviewImages(clips=2), self]
            card = finetune(
                [accepted.make_training_pair()],
                model=plan.model,
                out=out,
                recipe=recipe,
                hooks=hooks,
            )
            detector = card.training["detector"]
            self.detector_left_out = detector.get("left_out", "")
            if self._last is not None and self.detector_left_out:
                self._report_callback(replace(self._last, fraction=1.0))
            tuned = not self.detector_left_out and detector["best"]["step"] > 0
            better = card.training["best"]["step"] > 0 or tuned
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if not better:
                beside = out.with_name(out.stem + DETECTOR_SUFFIX)
                for left in (out, out.with_suffix(".json"), beside):
                    left.unlink(missing_ok=True)
        return out if better else None

    def on_start(self, training: Any) -> None:
        """Report that the training started."""
        self._report(training)

    def on_clip(self, training: Any, clip: Clip) -> Clip:
        """Stop if that was requested; the clip stays as it is."""
        if self._stop_event.is_set():
            training.stop("stopped")
        return clip

    def on_step(self, training: Any, step: Any) -> None:
        """Report a step."""
        if self._stop_event.is_set():
            training.stop("stopped")
        self._report(training)

    def on_validate(self, training: Any, validation: Any) -> None:
        """Report the scores, with the preview that was drawn just before."""
        self._scores = tuple(
            ValidationScores(each.step, each.iou_1, each.iou_propagated)
            for each in training.history
        )
        preview = None
        with suppress(OSError):
            preview = (
                training.environment.folder / f"preview-{validation.step:06d}.png"
            ).read_bytes()
        self._report(training, preview)

    def on_end(self, training: Any, outcome: Any) -> None:
        """Report the end."""
        self._report(training)

    def on_detector(self, progress: Any) -> None:
        """Report a step of the detector, and stop it if that was requested."""
        if self._stop_event.is_set():
            progress.stop("stopped")
        first, best = progress.history[0], progress.best
        detection = (
            DetectionScores(first.f1, first.count_error),
            DetectionScores(best.f1, best.count_error),
        )
        share = self._promptable_share
        promptable = self._last or TrainingProgress(1.0, 0)
        self._report_callback(
            replace(
                promptable,
                fraction=share + (1 - share) * progress.fraction,
                detector_step=progress.step,
                preview_png=None,
                detection=detection,
            )
        )

    def _report(self, training: Any, preview_png: bytes | None = None) -> None:
        best = next(
            (each for each in self._scores if training.best and each.step == training.best.step),
            None,
        )
        self._last = TrainingProgress(
            self._promptable_share * training.fraction,
            training.step,
            self._scores,
            best,
            preview_png,
        )
        self._report_callback(self._last)


def get_model_path(name: str, folder: Path | None = None) -> Path:
    """The file of a new model of that name.

    Raises OutputError if the name is not allowed or not free.
    """
    stem = name.strip()
    if not stem or any(sign in stem for sign in '/\\:*?"<>|') or stem.startswith("."):
        raise OutputError(
            f"{name!r} cannot be the name of a model: use letters, digits, spaces and dashes"
        )
    out = (folder or get_cache_folder()) / f"{stem}.safetensors"
    if out.exists():
        raise OutputError(f"there is a model called {stem!r} already: choose another name")
    return out


def find_free_name(model: str, folder: Path | None = None) -> str:
    """Suggest a free name for a fine-tuned model."""
    base = f"{Path(model).stem if model.endswith('.safetensors') else model}-tuned"
    names = (base, *(f"{base}-{number}" for number in range(2, 1000)))
    return next(
        name
        for name in names
        if not ((folder or get_cache_folder()) / f"{name}.safetensors").exists()
    )
