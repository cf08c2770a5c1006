"""Hooks of training: checkpoints, logs, early stopping, learning rate, pictures, and your own."""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from napari_sam2.core.errors import ModelError, OutputError, PlanError
from napari_sam2.core.registry import Registry
from napari_sam2.models.weights.files import convert_write_errors, make_folder, replace_atomically
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.detector.tuning import DetectorProgress
from napari_sam2.train.events import TrainingContext, TrainingResult, TrainingStep
from napari_sam2.train.state_files import read_state
from napari_sam2.train.validation import Validation

MIN_RATE_FRACTION = 0.01
"""The learning rate at the end of a cosine, as a share of the highest one."""


class Hook(Protocol):
    """An observer of training. Inherit from `BaseHook` to override only some of its methods."""

    def on_start(self, training: TrainingContext) -> None:
        """Called before the first step, and before the first step after a resume."""
        ...

    def on_clip(self, training: TrainingContext, clip: Clip) -> Clip:
        """Called with each training clip: return it, or another clip of the same shape."""
        ...

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        """Called after each step."""
        ...

    def on_validate(self, training: TrainingContext, validation: Validation) -> None:
        """Called after each validation; the network still has the weights that were validated."""
        ...

    def on_end(self, training: TrainingContext, result: TrainingResult) -> None:
        """Called when training is complete, but not if it is interrupted."""
        ...


class BaseHook:
    """A hook that does nothing."""

    def on_start(self, training: TrainingContext) -> None:
        """Do nothing."""

    def on_clip(self, training: TrainingContext, clip: Clip) -> Clip:
        """Return the clip unchanged."""
        return clip

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        """Do nothing."""

    def on_validate(self, training: TrainingContext, validation: Validation) -> None:
        """Do nothing."""

    def on_end(self, training: TrainingContext, result: TrainingResult) -> None:
        """Do nothing."""


class LearningRateSchedule(BaseHook):
    """The recipe's schedule: a warm-up, then a cosine down to a hundredth, or a constant."""

    def on_start(self, training: TrainingContext) -> None:
        """Set the rate of the first step."""
        training.learning_rate = self._compute_rate(training)

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        """Set the rate of the next step."""
        training.learning_rate = self._compute_rate(training)

    def _compute_rate(self, training: TrainingContext) -> float:
        recipe = training.recipe
        rise = min(1.0, (training.step + 1) / (recipe.warmup + 1))
        if recipe.schedule == "constant":
            return recipe.learning_rate * rise
        fall = (
            MIN_RATE_FRACTION
            + (1 - MIN_RATE_FRACTION) * (1 + math.cos(math.pi * training.fraction)) / 2
        )
        return recipe.learning_rate * rise * fall


class Checkpointing(BaseHook):
    """Saves the whole state as ``state.pt`` every few minutes and at the end, and resumes from it.

    Parameters
    ----------
    identity
        A hash of model, data and recipe. The state of another training is never resumed.
    minutes
        Time between two saves.
    """

    def __init__(self, identity: str, *, minutes: float = 3.0) -> None:
        self._identity = identity
        self._interval_min = minutes
        self._last_write = time.monotonic()

    def on_start(self, training: TrainingContext) -> None:
        """Resume from the saved state. Raises OutputError if it belongs to another training."""
        path = self._get_path(training)
        self._last_write = time.monotonic()
        if path.is_file():
            state = read_state(path)
            if state["identity"] != self._identity:
                raise OutputError(
                    f"{path} belongs to a training with another model, data or recipe: remove "
                    "that folder, or choose another out"
                )
            training.load_state_dict(state)
        else:
            self.save(training)  # so that training can be resumed however early it is interrupted

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        """Save the state if enough time has passed."""
        if time.monotonic() - self._last_write > 60 * self._interval_min:
            self.save(training)

    def on_end(self, training: TrainingContext, result: TrainingResult) -> None:
        """Save the last state: if the same training is started again, it ends at once."""
        self.save(training)

    def save(self, training: TrainingContext) -> None:
        """Save the state now."""
        state = io.BytesIO()  # torch.save to a file reports a full disk by an error of its own
        torch.save({**training.state_dict(), "identity": self._identity}, state)
        with replace_atomically(self._get_path(training)) as temporary:
            temporary.write_bytes(state.getbuffer())
        self._last_write = time.monotonic()

    def _get_path(self, training: TrainingContext) -> Path:
        return training.environment.folder / "state.pt"


class CsvLog(BaseHook):
    """Writes ``steps.csv`` and ``validations.csv`` into the training's folder.

    A row of ``steps.csv`` is the mean over `every` steps. A resumed training appends.
    """

    def __init__(self, *, every: int = 10) -> None:
        self._every = every
        self._steps: list[dict[str, float]] = []

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        """Write a row every few steps."""
        values = {
            "loss": step.loss,
            **step.parts,
            "norm": step.norm,
            "seconds": step.seconds,
            "learning_rate": training.learning_rate,
        }
        self._steps.append(values)
        if step.number % self._every == 0:
            means = {
                name: float(np.mean([each[name] for each in self._steps if name in each]))
                for name in values
            }
            _append_row(training.environment.folder / "steps.csv", {"step": step.number, **means})
            self._steps.clear()

    def on_validate(self, training: TrainingContext, validation: Validation) -> None:
        """Write a row."""
        _append_row(training.environment.folder / "validations.csv", validation.as_dict())


class LogHook(BaseHook):
    """Passes a line of text per validation to `log`, e.g. a logger's ``info``, or ``print``."""

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log
        self._detector_lines = 0

    def on_validate(self, training: TrainingContext, validation: Validation) -> None:
        """Log the figures."""
        best = training.best
        mark = " (best)" if best and best.step == validation.step else ""
        self._log(
            f"step {validation.step}: IoU {validation.iou_1:.3f} after one click, "
            f"{validation.iou_3:.3f} after three, "
            f"{validation.iou_box:.3f} from a box, {validation.iou_propagated:.3f} propagated; "
            f"count error {validation.count_error:.2f}{mark}"
        )

    def on_detector(self, progress: DetectorProgress) -> None:
        """Log a validation of the detector, once."""
        if len(progress.history) == self._detector_lines:
            return
        self._detector_lines = len(progress.history)
        found = progress.history[-1]
        mark = " (best)" if progress.best is found else ""
        self._log(
            f"detector, step {found.step}: F1 {found.f1:.3f} without a click, count error "
            f"{found.count_error:.2f}{mark}"
        )

    def on_end(self, training: TrainingContext, result: TrainingResult) -> None:
        """Log why training ended."""
        self._log(
            f"{result.reason} after {result.steps} steps; the best was step {result.best.step}"
        )


class ProgressBar(BaseHook):
    """Shows a progress bar with the loss on stderr."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_start(self, training: TrainingContext) -> None:
        """Show the bar."""
        from tqdm import tqdm

        self._bar = tqdm(
            total=100,
            desc="training",
            unit="%",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        """Advance the bar."""
        self._bar.set_postfix_str(f"step {step.number}, loss {step.loss:.3f}", refresh=False)
        self._bar.update(100 * training.fraction - self._bar.n)

    def on_end(self, training: TrainingContext, result: TrainingResult) -> None:
        """Close the bar; it stays on the screen."""
        self._bar.close()

    def on_detector(self, progress: DetectorProgress) -> None:
        """Say how far the detector is, on stderr."""
        if progress.step % 25 == 0 or progress.fraction >= 1:
            from tqdm import tqdm

            tqdm.write(f"detector: {100 * progress.fraction:.0f}%", file=sys.stderr)


class TensorBoard(BaseHook):
    """Writes losses and validations for TensorBoard. Needs the package tensorboard."""

    def __init__(self) -> None:
        self._writer: Any = None

    def on_start(self, training: TrainingContext) -> None:
        """Open the log. Raises ModelError if tensorboard is missing."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModelError(
                "the hook tensorboard needs the package tensorboard: install it with `pip "
                "install tensorboard`"
            ) from error
        self._writer = SummaryWriter(str(training.environment.folder))

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        """Write the loss and its parts."""
        for name, value in {"loss": step.loss, **step.parts}.items():
            self._writer.add_scalar(f"train/{name}", value, step.number)

    def on_validate(self, training: TrainingContext, validation: Validation) -> None:
        """Write each figure."""
        for name, value in validation.as_dict().items():
            self._writer.add_scalar(f"held out/{name}", value, validation.step)

    def on_end(self, training: TrainingContext, result: TrainingResult) -> None:
        """Close the log."""
        self._writer.close()


class EarlyStopping(BaseHook):
    """Stops training after `patience` validations in a row without improvement."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_start(self, training: TrainingContext) -> None:
        """Stop a resumed training at once if it was stopped before."""
        if training.history:
            self._check_patience(training)

    def on_validate(self, training: TrainingContext, validation: Validation) -> None:
        """Stop if the best validation is too long ago."""
        self._check_patience(training)

    def _check_patience(self, training: TrainingContext) -> None:
        scores = [each.score for each in training.history]
        waited = len(scores) - 1 - scores.index(max(scores))
        if waited >= self._patience:
            training.stop(f"no better for {waited} validations")


class PreviewImages(BaseHook):
    """Draws held-out clips at each validation: outlines of the truth green, predictions magenta."""

    def __init__(self, *, clips: int = 3) -> None:
        self._clips = clips

    def on_validate(self, training: TrainingContext, validation: Validation) -> None:
        """Write e.g. ``preview-000050.png`` into the training's folder."""
        from napari_sam2.train.preview import draw_preview

        shown = training.clips[: self._clips]
        picture = draw_preview(
            training.network, shown, training.propagation_options, training.environment.device
        )
        with replace_atomically(
            training.environment.folder / f"preview-{validation.step:06d}.png"
        ) as temporary:
            _write_png(temporary, picture)


def _append_row(path: Path, row: dict[str, float]) -> None:
    make_folder(path.parent)
    fresh = not path.is_file()
    with convert_write_errors(path), path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(row)
        writer.writerow([f"{value:.6g}" for value in row.values()])


def _write_png(path: Path, picture: np.ndarray) -> None:
    from matplotlib.image import imsave

    imsave(path, picture, format="png")


HOOKS: Registry[Hook] = Registry("hooks", PlanError)
"""Hooks by name, for recipes.

Other packages add theirs under the entry point group ``napari_sam2.hooks``.
"""
HOOKS.register("tensorboard", TensorBoard)
HOOKS.register("preview", PreviewImages)
