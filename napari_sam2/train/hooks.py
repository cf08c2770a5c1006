"""Hooks: what happens beside training.

Checkpoints with exact resume, logs, early stopping, learning rate, pictures, your own.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from napari_sam2.core.errors import CheckpointError, ModelError, OutputError, PlanError
from napari_sam2.core.registry import Registry
from napari_sam2.models.weights.files import convert_write_errors, make_folder, replace_atomically
from napari_sam2.train.data.clip import Clip

if TYPE_CHECKING:
    from napari_sam2.train.loop import Training, TrainingResult, TrainingStep
    from napari_sam2.train.validation import Validation

MIN_RATE_FRACTION = 0.01
"""Of the learning rate: what a cosine falls to."""


class Hook(Protocol):
    """What is told as training goes on. Inherit from `BaseHook` to answer to some of it only."""

    def on_start(self, training: Training) -> None:
        """Before the first step, and before the first step after a resume."""
        ...

    def on_clip(self, training: Training, clip: Clip) -> Clip:
        """A clip is about to be trained on: return it, or another one of the same shape."""
        ...

    def on_step(self, training: Training, step: TrainingStep) -> None:
        """A step was taken."""
        ...

    def on_validate(self, training: Training, validation: Validation) -> None:
        """The held-out clips were looked at; the network holds the weights that were validated."""
        ...

    def on_end(self, training: Training, result: TrainingResult) -> None:
        """Training ended by itself; not called where it broke off."""
        ...


class BaseHook:
    """A hook that does nothing."""

    def on_start(self, training: Training) -> None:
        """Nothing."""

    def on_clip(self, training: Training, clip: Clip) -> Clip:
        """The clip as it is."""
        return clip

    def on_step(self, training: Training, step: TrainingStep) -> None:
        """Nothing."""

    def on_validate(self, training: Training, validation: Validation) -> None:
        """Nothing."""

    def on_end(self, training: Training, result: TrainingResult) -> None:
        """Nothing."""


class LearningRateSchedule(BaseHook):
    """The recipe's schedule: a rise, then a cosine down to a hundredth, or the same to the end."""

    def on_start(self, training: Training) -> None:
        """Of the first step."""
        training.learning_rate = self._compute_rate(training)

    def on_step(self, training: Training, step: TrainingStep) -> None:
        """Of the next one."""
        training.learning_rate = self._compute_rate(training)

    def _compute_rate(self, training: Training) -> float:
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
    """The whole state in ``state.pt`` every so many minutes and at the end; where it is there, training goes on from it.

    `identity` is what the training is made of (model, data, recipe): another training's state is
    never taken up.
    """

    def __init__(self, identity: str, *, minutes: float = 3.0) -> None:
        self._identity = identity
        self._interval_min = minutes
        self._last_write = time.monotonic()

    def on_start(self, training: Training) -> None:
        """Take up the state that is there. Raises OutputError where it is of another training."""
        path = self._get_path(training)
        self._last_write = time.monotonic()
        if path.is_file():
            state = read_state(path)
            if state["identity"] != self._identity:
                raise OutputError(
                    f"{path}: is of a training with another model, data or recipe: remove that "
                    "folder, or choose another out"
                )
            training.load_state_dict(state)
        else:
            self._write(training)  # so that an interruption at any time can be gone on from

    def on_step(self, training: Training, step: TrainingStep) -> None:
        """Now and then."""
        if time.monotonic() - self._last_write > 60 * self._interval_min:
            self._write(training)

    def on_end(self, training: Training, result: TrainingResult) -> None:
        """The last state, so that the same training, asked for again, is seen to be done."""
        self._write(training)

    def _write(self, training: Training) -> None:
        state = io.BytesIO()  # torch.save of a file tells of a full disk in words of its own
        torch.save({**training.state_dict(), "identity": self._identity}, state)
        with replace_atomically(self._get_path(training)) as temporary:
            temporary.write_bytes(state.getbuffer())
        self._last_write = time.monotonic()

    def _get_path(self, training: Training) -> Path:
        return training.environment.folder / "state.pt"


class CsvLog(BaseHook):
    """``steps.csv`` (means over `every` steps) and ``validations.csv`` in the training's folder; a resumed one appends."""

    def __init__(self, *, every: int = 10) -> None:
        self._every = every
        self._steps: list[dict[str, float]] = []

    def on_step(self, training: Training, step: TrainingStep) -> None:
        """A row every so many steps."""
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

    def on_validate(self, training: Training, validation: Validation) -> None:
        """A row each."""
        _append_row(training.environment.folder / "validations.csv", validation.as_dict())


class LogHook(BaseHook):
    """A line of text per validation, given to `log`: a logger's ``info``, or ``print``."""

    def __init__(self, log: Callable[[str], object]) -> None:
        self._log = log

    def on_validate(self, training: Training, validation: Validation) -> None:
        """What is known of it."""
        best = training.best
        mark = " (best)" if best and best.step == validation.step else ""
        self._log(
            f"step {validation.step}: IoU {validation.iou_1:.3f} after one click, "
            f"{validation.iou_3:.3f} after three, "
            f"{validation.iou_box:.3f} from a box, {validation.iou_propagated:.3f} carried; count "
            f"error {validation.count_error:.2f}{mark}"
        )

    def on_end(self, training: Training, result: TrainingResult) -> None:
        """Why."""
        self._log(
            f"{result.reason} after {result.steps} steps; the best was step {result.best.step}"
        )


class ProgressBar(BaseHook):
    """A progress bar on stderr, with the loss."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_start(self, training: Training) -> None:
        """Show it."""
        from tqdm import tqdm

        self._bar = tqdm(
            total=100,
            desc="training",
            unit="%",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
        )

    def on_step(self, training: Training, step: TrainingStep) -> None:
        """Move it on."""
        self._bar.set_postfix_str(f"step {step.number}, loss {step.loss:.3f}", refresh=False)
        self._bar.update(100 * training.fraction - self._bar.n)

    def on_end(self, training: Training, result: TrainingResult) -> None:
        """Leave it as it stands."""
        self._bar.close()


class TensorBoard(BaseHook):
    """The same for TensorBoard, in the training's folder. Needs the package tensorboard."""

    def __init__(self) -> None:
        self._writer: Any = None

    def on_start(self, training: Training) -> None:
        """Open the log. Raises ModelError where tensorboard is missing."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModelError(
                "the hook tensorboard needs the package tensorboard: install it with `pip "
                "install tensorboard`"
            ) from error
        self._writer = SummaryWriter(str(training.environment.folder))

    def on_step(self, training: Training, step: TrainingStep) -> None:
        """The loss and its parts."""
        for name, value in {"loss": step.loss, **step.parts}.items():
            self._writer.add_scalar(f"train/{name}", value, step.number)

    def on_validate(self, training: Training, validation: Validation) -> None:
        """Each figure."""
        for name, value in validation.as_dict().items():
            self._writer.add_scalar(f"held out/{name}", value, validation.step)

    def on_end(self, training: Training, result: TrainingResult) -> None:
        """Close the log."""
        self._writer.close()


class EarlyStopping(BaseHook):
    """Stop where so many validations in a row were no better than the best."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_start(self, training: Training) -> None:
        """A training that was stopped stays so."""
        if training.history:
            self._check_patience(training)

    def on_validate(self, training: Training, validation: Validation) -> None:
        """Count those since the best."""
        self._check_patience(training)

    def _check_patience(self, training: Training) -> None:
        scores = [each.score for each in training.history]
        waited = len(scores) - 1 - scores.index(max(scores))
        if waited >= self._patience:
            training.stop(f"no better for {waited} validations")


class PreviewImages(BaseHook):
    """A picture per validation: held-out clips, the truth in green, the answers in magenta, what agrees in white."""

    def __init__(self, *, clips: int = 3) -> None:
        self._clips = clips

    def on_validate(self, training: Training, validation: Validation) -> None:
        """``preview-000050.png`` in the training's folder."""
        from napari_sam2.train.preview import draw_preview

        shown = training.clips[: self._clips]
        picture = draw_preview(
            training.network, shown, training.propagation_options, training.environment.device
        )
        with replace_atomically(
            training.environment.folder / f"preview-{validation.step:06d}.png"
        ) as temporary:
            _write_png(temporary, picture)


def read_state(path: Path) -> dict[str, Any]:
    """The state in a file; no code in it is run. Raises CheckpointError where it is damaged."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); remove it to begin anew"
        ) from error
    return state


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
"""Hooks by name, for recipes; other packages add theirs under the entry point group ``napari_sam2.hooks``."""
HOOKS.register("tensorboard", TensorBoard)
HOOKS.register("preview", PreviewImages)
