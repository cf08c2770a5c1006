"""Loop: batches, steps and validations until the recipe says enough.

What else happens, hooks do.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.errors import LabelsError, ModelError
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.train import losses
from napari_sam2.train.average import WeightAverage
from napari_sam2.train.data.batches import (
    BatchSampler,
    CachedFeatureSampler,
    Dataset,
    SampledBatch,
    StreamingSampler,
)
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.simulated_prompts import choose_correction
from napari_sam2.train.forward import CorrectionPolicy, PropagationOptions, propagate_batch
from napari_sam2.train.hooks import Hook
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.trainable import get_trainable, is_encoder_trainable
from napari_sam2.train.validation import Validation, sample_validation_clips, validate

_AGE_OFFSETS = (
    0,
    0,
    0,
    4,
    10,
    20,
)  # frames a walk is said to have lasted already: clips are short, stacks are not
_LATER_CORRECTION_SHARE = (
    0.25  # of corrected clips of several frames are also corrected on a later frame
)


class TrainingError(ModelError):
    """Training that cannot go on; what was best before it is kept."""


@dataclass(frozen=True)
class TrainingEnvironment:
    """Where a training runs: the input size, the memories shown, the device, and the folder of its files."""

    size: int
    recent: int
    pointers: int
    device: str
    folder: Path


@dataclass(frozen=True)
class TrainingStep:
    """One step done: its number from 1, the loss, its parts by name, the length of the gradient, and seconds it took."""

    number: int
    loss: float
    parts: dict[str, float]
    norm: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """Why training ended, after how many steps, and the best validation."""

    reason: str
    steps: int
    best: Validation


class Training:
    """A network being trained.

    Hooks read `step`, `history` and `best`, set `learning_rate`, and may `stop` it.

    Parameters
    ----------
    network
        On its device; which weights train is settled already (see `tuned.choose`).
    on_best
        Called with the network (holding the weights that were validated) and each validation better
        than all before.
    """

    def __init__(
        self,
        network: Sam2Network,
        dataset: Dataset,
        recipe: Recipe,
        environment: TrainingEnvironment,
        *,
        hooks: Sequence[Hook] = (),
        on_best: Callable[[Sam2Network, Validation], None] = lambda network, validation: None,
    ) -> None:
        self.network = (
            network.eval()
        )  # without dropout: small networks and short trainings need none
        self.recipe, self.environment, self.hooks = recipe, environment, tuple(hooks)
        self.step, self.elapsed_s = 0, 0.0
        self.history: list[Validation] = []
        largest = max(shape.size or environment.size for shape in recipe.shapes)
        self.clips = sample_validation_clips(
            dataset, recipe.validation, size=recipe.validation.size or largest, seed=recipe.seed
        )
        if not self.clips:
            raise LabelsError(
                "nothing to validate on: the held-out images show no object large enough; hold "
                "out others"
            )
        self._on_best = on_best
        self._weights = get_trainable(network)
        self._optimizer = _make_optimizer(self._weights, recipe)
        self._average = WeightAverage(self._weights, recipe.average)
        self._scaler = torch.amp.GradScaler(
            environment.device.split(":")[0], enabled=recipe.precision == "float16"
        )
        self._rng = np.random.default_rng(recipe.seed)
        self._sampler = self._make_sampler(dataset)
        self._reason = ""
        self._started_s = time.monotonic()

    @property
    def best(self) -> Validation | None:
        """The best validation so far."""
        return max(self.history, key=lambda each: each.score, default=None)

    @property
    def fraction(self) -> float:
        """How much of the training is done, 0..1, in steps or in minutes, whichever is more."""
        minutes = self.recipe.minutes
        spent = (
            (self.elapsed_s + time.monotonic() - self._started_s) / 60 / minutes if minutes else 0.0
        )
        return min(1.0, max(self.step / self.recipe.steps, spent))

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = value

    @property
    def propagation_options(self) -> PropagationOptions:
        """How a clip is walked, nobody correcting."""
        return PropagationOptions(
            recent=self.environment.recent, pointers=self.environment.pointers
        )

    def stop(self, reason: str) -> None:
        """End after this step."""
        self._reason = self._reason or reason

    def run(self) -> TrainingResult:
        """Train to the end. Raises TrainingError where the loss is no number any more."""
        self._started_s = time.monotonic()
        for hook in self.hooks:
            hook.on_start(self)
        while True:
            if self._is_validation_due():
                self._validate()
            if self._reason or self.fraction >= 1:
                break
            began = time.monotonic()
            loss, parts, norm = self._take_step()
            self.step += 1
            done = TrainingStep(self.step, loss, parts, norm, time.monotonic() - began)
            for hook in self.hooks:
                hook.on_step(self, done)
        if self.history[-1].step != self.step:
            self._validate()
        assert self.best is not None
        outcome = TrainingResult(self._reason or "finished", self.step, self.best)
        for hook in self.hooks:
            hook.on_end(self, outcome)
        return outcome

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on exactly as if nothing had happened: tensors, numbers and text."""
        return {
            "weights": {
                name: value.detach().cpu().clone() for name, value in self._weights.items()
            },
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": json.dumps(self._rng.bit_generator.state),
            "step": self.step,
            "elapsed": self.elapsed_s + time.monotonic() - self._started_s,
            "history": [each.to_state() for each in self.history],
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, value in self._weights.items():
            value.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._average.load_state_dict(state["average"])
        self._scaler.load_state_dict(state["scaler"])
        self._rng.bit_generator.state = json.loads(state["rng"])
        self.step, self.elapsed_s = state["step"], state["elapsed"]
        self.history = [Validation.from_state(each) for each in state["history"]]
        self._started_s = time.monotonic()

    def apply_clip_hooks(self, clip: Clip) -> Clip:
        """A clip as the hooks leave it."""
        for hook in self.hooks:
            clip = hook.on_clip(self, clip)
        return clip

    def _make_sampler(self, dataset: Dataset) -> BatchSampler:
        stream = StreamingSampler(
            dataset, self.recipe, self.environment.size, self.apply_clip_hooks
        )
        return (
            stream
            if is_encoder_trainable(self.network)
            else CachedFeatureSampler(stream, self.network, self.environment.device)
        )

    def _take_step(self) -> tuple[float, dict[str, float], float]:
        """One step of the optimizer: the loss, its parts, the length of the gradient."""
        losses_: list[float] = []
        parts: dict[str, float] = {}
        for _ in range(self.recipe.accumulate):
            loss, parts = self._compute_loss(self._sampler(self._rng))
            self._scaler.scale(loss / self.recipe.accumulate).backward()  # type: ignore[no-untyped-call]
            losses_.append(float(loss.detach()))
        self._scaler.unscale_(self._optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights.values(), self.recipe.clip_norm))
        mean = sum(losses_) / len(losses_)
        if not math.isfinite(mean) or not (math.isfinite(norm) or self._scaler.is_enabled()):
            raise TrainingError(
                f"step {self.step + 1}: the loss is {mean!r}, the gradient {norm!r}: no numbers "
                "any more; "
                f"try a learning_rate below {self.learning_rate:.1e}. What was best until then "
                "is kept"
            )
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.update(self.step + 1)
        return mean, parts, norm

    def _compute_loss(self, sample: SampledBatch) -> tuple[Tensor, dict[str, float]]:
        batch = sample.batch.to(self.environment.device)
        script, correct = self._sample_propagation_options(batch.frames.shape[1])
        with self._autocast():
            walk = propagate_batch(self.network, batch, script, correct, features=sample.features)
        loss, parts = losses.compute_loss(walk.decoder_passes, batch, self.recipe.losses)
        head = getattr(self.network.vision_encoder, "outline", None)
        if walk.finest_features is not None and head is not None and self.recipe.losses.outline:
            labels = sample.labels.flatten(0, 1).to(self.environment.device)
            seen = losses.compute_outline_loss(walk.finest_features.float(), head, labels)
            loss, parts = (
                loss + self.recipe.losses.outline * seen,
                {**parts, "outline": float(seen.detach())},
            )
        return loss, parts

    def _sample_propagation_options(
        self, length: int
    ) -> tuple[PropagationOptions, CorrectionPolicy]:
        """How this batch is walked, and who corrects."""
        rng, recipe = self._rng, self.recipe
        shares = np.array(recipe.correction_shares)
        clicks = int(rng.choice(len(shares), p=shares / shares.sum()))
        corrections = {0: clicks}
        if clicks and length > 1 and rng.random() < _LATER_CORRECTION_SHARE:
            corrections[int(rng.integers(1, length))] = 1
        script = PropagationOptions(
            recent=self.environment.recent,
            pointers=self.environment.pointers,
            corrections=corrections,
            true_presence=self.step < recipe.true_presence_steps,
            age_offset=int(rng.choice(_AGE_OFFSETS)),
        )
        where = rng if rng.random() < recipe.random_correction_share else None
        return script, lambda prediction, truth: choose_correction(prediction, truth, where)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(
            self.environment.device.split(":")[0], dtype=getattr(torch, self.recipe.precision)
        )

    def _is_validation_due(self) -> bool:
        """Whether this step is to be validated and was not yet, as where training is taken up again."""
        return self.step % self.recipe.validation.every == 0 and (
            not self.history or self.history[-1].step != self.step
        )

    def _validate(self) -> None:
        with self._average.use_average():
            asked = self.recipe.validation
            found = validate(
                self.network,
                self.clips,
                self.propagation_options,
                max_objects=asked.objects,
                step=self.step,
                device=self.environment.device,
            )
            better = self.best is None or found.score > self.best.score
            self.history.append(found)
            if better:
                self._on_best(self.network, found)
            for hook in self.hooks:
                hook.on_validate(self, found)


def _make_optimizer(weights: dict[str, torch.nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; biases, norms and single vectors do not decay."""
    decaying = [value for value in weights.values() if value.ndim > 1]
    others = [value for value in weights.values() if value.ndim <= 1]
    groups = [
        {"params": decaying, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
