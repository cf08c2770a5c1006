"""Coach: fine-tuning on accepted frames, told of as it goes, stopped when asked.

No Qt; torch is loaded when it begins.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from napari_sam2.core.errors import OutputError
from napari_sam2.gui.app.accepted_frames import AcceptedFrames
from napari_sam2.models.weights.files import get_cache_folder

if TYPE_CHECKING:
    from napari_sam2.train.data.clip import Clip
    from napari_sam2.train.recipe import Recipe

# steps between two looks at the held-out frames: some ten seconds of the embedded model on a
# processor
_VALIDATE_EVERY_STEPS = 25

TrainableParts = Literal["decoder", "decoder+memory", "everything"]

TRAINABLE_TITLES: dict[TrainableParts | None, str] = {
    None: "what suits the model",
    "decoder": "outlines only (fastest)",
    "decoder+memory": "outlines and following",
    "everything": "everything",
}
"""What may train, in words, the best first guess first."""


@dataclass(frozen=True)
class ValidationScores:
    """What the model does on held-out frames: mean IoU after one click and carried to other frames, 0 to 1, after `step` steps."""

    step: int
    click_iou: float
    propagated_iou: float


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is: `fraction` of its time, `step`s taken, the figures so far, and the newest picture (PNG)."""

    fraction: float
    step: int
    scores: tuple[ValidationScores, ...] = ()
    best: ValidationScores | None = None
    preview_png: bytes | None = None


@dataclass(frozen=True)
class FineTuningPlan:
    """What a person chose: the model to start from (a name or a path), the name of the result, what trains, how long."""

    model: str
    name: str
    trains: TrainableParts | None = None
    minutes: float = 5.0

    def make_recipe(self) -> Recipe:
        """The same as a recipe."""
        from napari_sam2.train.recipe import Recipe, ValidationOptions

        validating = ValidationOptions(every=_VALIDATE_EVERY_STEPS, clips=8, length=3)
        return Recipe(
            trainable=self.trains, minutes=self.minutes, steps=1_000_000, validation=validating
        )


class FineTuner:
    """A training hook that tells `report` of each Lesson (in the training's thread), and stops when asked. Used once."""

    def __init__(self, report: Callable[[TrainingProgress], None]) -> None:
        self._report_callback = report
        self._stop_event = Event()
        self._scores: tuple[ValidationScores, ...] = ()

    def stop(self) -> None:
        """Stop after the next step, from any thread; the best so far is kept."""
        self._stop_event.set()

    def finetune(
        self,
        accepted: AcceptedFrames,
        plan: FineTuningPlan,
        *,
        folder: Path | None = None,
        recipe: Recipe | None = None,
    ) -> Path | None:
        """Train, and wait for it: the file of the new model, in `folder` (where known models lie), None where none came out better.

        Raises the errors of `core.errors`; then nothing is left behind.
        """
        from napari_sam2.train.finetune import finetune
        from napari_sam2.train.hooks import Hook, PreviewImages

        out = get_model_path(plan.name, folder)
        work = out.parent / f"{out.stem}-training"
        better = False
        try:
            hooks: list[Hook] = [PreviewImages(clips=2), self]
            card = finetune(
                [accepted.make_training_pair()],
                model=plan.model,
                out=out,
                recipe=recipe or plan.make_recipe(),
                hooks=hooks,
            )
            better = card.training["best"]["step"] > 0
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if not better:
                for left in (out, out.with_suffix(".json")):
                    left.unlink(missing_ok=True)
        return out if better else None

    def on_start(self, training: Any) -> None:
        """Say that it began."""
        self._report(training)

    def on_clip(self, training: Any, clip: Clip) -> Clip:
        """The clip as it is."""
        if self._stop_event.is_set():
            training.stop("stopped")
        return clip

    def on_step(self, training: Any, step: Any) -> None:
        """Say how far it is."""
        if self._stop_event.is_set():
            training.stop("stopped")
        self._report(training)

    def on_validate(self, training: Any, validation: Any) -> None:
        """Say how good it is, with the picture that was drawn just before."""
        self._scores = tuple(
            ValidationScores(each.step, each.iou_1, each.iou_propagated)
            for each in training.history
        )
        picture = None
        with suppress(OSError):
            picture = (
                training.environment.folder / f"preview-{validation.step:06d}.png"
            ).read_bytes()
        self._report(training, picture)

    def on_end(self, training: Any, outcome: Any) -> None:
        """Say that it ended."""
        self._report(training)

    def _report(self, training: Any, preview_png: bytes | None = None) -> None:
        best = next(
            (each for each in self._scores if training.best and each.step == training.best.step),
            None,
        )
        self._report_callback(
            TrainingProgress(training.fraction, training.step, self._scores, best, preview_png)
        )


def get_model_path(name: str, folder: Path | None = None) -> Path:
    """Where a model of that name goes.

    Raises OutputError for a name that is none, or that is taken.
    """
    wanted = name.strip()
    if not wanted or any(sign in wanted for sign in '/\\:*?"<>|') or wanted.startswith("."):
        raise OutputError(
            f"{name!r} cannot be the name of a model: use letters, digits, spaces and dashes"
        )
    out = (folder or get_cache_folder()) / f"{wanted}.safetensors"
    if out.exists():
        raise OutputError(f"there is a model called {wanted!r} already: choose another name")
    return out


def find_free_name(model: str, folder: Path | None = None) -> str:
    """A name for what comes of a model, one that is not taken."""
    base = f"{Path(model).stem if model.endswith('.safetensors') else model}-tuned"
    names = (base, *(f"{base}-{number}" for number in range(2, 1000)))
    return next(
        name
        for name in names
        if not ((folder or get_cache_folder()) / f"{name}.safetensors").exists()
    )
