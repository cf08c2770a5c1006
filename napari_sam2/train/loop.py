"""The training loop: batches, steps and validations. Everything else is done by hooks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.errors import LabelsError, ModelError
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.train import losses
from napari_sam2.train.average import WeightAverage
from napari_sam2.train.clip_propagation import CorrectionPolicy, PropagationOptions, propagate_batch
from napari_sam2.train.data.batches import (
    BatchSampler,
    CachedFeatureSampler,
    Dataset,
    SampledBatch,
    StreamingSampler,
)
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.simulated_prompts import choose_correction
from napari_sam2.train.events import TrainingEnvironment, TrainingResult, TrainingStep
from napari_sam2.train.hooks import Hook
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.trainable import get_trainable, is_encoder_trainable
from napari_sam2.train.validation import Validation, sample_validation_clips, validate

# Frames by which the first frame counts as older: clips are short, but stacks are not.
_AGE_OFFSETS = (0, 0, 0, 4, 10, 20)

# Share of the corrected clips that are also corrected on a later frame.
_LATER_CORRECTION_SHARE = 0.25


class TrainingError(ModelError):
    """Training cannot continue. The best checkpoint so far is kept."""


class Training:
    """A network in training.

    Hooks read `step`, `history` and `best`, set `learning_rate`, and may `stop` it: see
    `events.TrainingContext`.

    Parameters
    ----------
    network
        On its device, with its trainable weights selected (see `trainable.select_trainable`).
    on_best
        Called with the network and each validation that is better than all before. The network
        then has the weights that were validated.
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
        # Without dropout: small networks and short trainings need none.
        self.network: Sam2Network = network.eval()
        self.recipe, self.environment, self.hooks = recipe, environment, tuple(hooks)
        self.step, self.elapsed_s = 0, 0.0
        self.history: list[Validation] = []
        largest = max(shape.size or environment.size for shape in recipe.shapes)
        self.clips = sample_validation_clips(
            dataset, recipe.validation, size=recipe.validation.size or largest, seed=recipe.seed
        )
        if not self.clips:
            raise LabelsError(
                "no held-out image shows an object that is large enough to validate on: hold out "
                "other images"
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
        """How much of the training is done, 0..1: in steps or in minutes, whichever is more."""
        minutes = self.recipe.minutes
        spent = (
            (self.elapsed_s + time.monotonic() - self._started_s) / 60 / minutes if minutes else 0.0
        )
        return min(1.0, max(self.step / self.recipe.steps, spent))

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = value

    @property
    def propagation_options(self) -> PropagationOptions:
        """How a clip is propagated without corrections."""
        return PropagationOptions(self.environment.memory_limits)

    def stop(self, reason: str) -> None:
        """End training after the current step."""
        self._reason = self._reason or reason

    def run(self) -> TrainingResult:
        """Train to the end. Raises TrainingError if the loss is not finite."""
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
            step = TrainingStep(self.step, loss, parts, norm, time.monotonic() - began)
            for hook in self.hooks:
                hook.on_step(self, step)
        if self.history[-1].step != self.step:
            self._validate()
        assert self.best is not None
        result = TrainingResult(self._reason or "finished", self.step, self.best)
        for hook in self.hooks:
            hook.on_end(self, result)
        return result

    def state_dict(self) -> dict[str, Any]:
        """The state for an exact resume, as tensors, numbers and text."""
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
        """Continue from a state that `state_dict` returned."""
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
        """Pass a clip through all hooks."""
        for hook in self.hooks:
            clip = hook.on_clip(self, clip)
        return clip

    def _make_sampler(self, dataset: Dataset) -> BatchSampler:
        stream = StreamingSampler(
            dataset, self.recipe, self.environment.size, self.apply_clip_hooks
        )
        if is_encoder_trainable(self.network):
            return stream
        return CachedFeatureSampler(stream, self.network, self.environment.device)

    def _take_step(self) -> tuple[float, dict[str, float], float]:
        """Take one step of the optimizer: returns the loss, its parts and the gradient's norm."""
        batch_losses: list[float] = []
        parts: dict[str, float] = {}
        for _ in range(self.recipe.accumulate):
            loss, parts = self._compute_loss(self._sampler(self._rng))
            self._scaler.scale(loss / self.recipe.accumulate).backward()  # type: ignore[no-untyped-call]
            batch_losses.append(float(loss.detach()))
        self._scaler.unscale_(self._optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights.values(), self.recipe.clip_norm))
        mean = sum(batch_losses) / len(batch_losses)
        if not math.isfinite(mean) or not (math.isfinite(norm) or self._scaler.is_enabled()):
            raise TrainingError(
                f"step {self.step + 1}: the loss is {mean!r} and the gradient {norm!r}, but both "
                f"must be finite: try a learning_rate below {self.learning_rate:.1e}. The best "
                "checkpoint so far is kept"
            )
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.update(self.step + 1)
        return mean, parts, norm

    def _compute_loss(self, sample: SampledBatch) -> tuple[Tensor, dict[str, float]]:
        batch = sample.batch.to(self.environment.device)
        options, correct = self._sample_propagation_options(batch.frames.shape[1])
        with self._autocast():
            result = propagate_batch(
                self.network, batch, options, correct, features=sample.features
            )
        loss, parts = losses.compute_loss(result.decoder_passes, batch, self.recipe.losses)
        head = getattr(self.network.vision_encoder, "outline", None)
        if result.finest_features is not None and head is not None and self.recipe.losses.outline:
            labels = sample.labels.flatten(0, 1).to(self.environment.device)
            outline = losses.compute_outline_loss(result.finest_features.float(), head, labels)
            loss = loss + self.recipe.losses.outline * outline
            parts = {**parts, "outline": float(outline.detach())}
        return loss, parts

    def _sample_propagation_options(
        self, length: int
    ) -> tuple[PropagationOptions, CorrectionPolicy]:
        """Draw how a batch is propagated, and how its masks are corrected."""
        rng, recipe = self._rng, self.recipe
        shares = np.array(recipe.correction_shares)
        clicks = int(rng.choice(len(shares), p=shares / shares.sum()))
        corrections = {0: clicks}
        if clicks and length > 1 and rng.random() < _LATER_CORRECTION_SHARE:
            corrections[int(rng.integers(1, length))] = 1
        options = replace(
            self.propagation_options,
            corrections=corrections,
            true_presence=self.step < recipe.true_presence_steps,
            age_offset=int(rng.choice(_AGE_OFFSETS)),
        )
        click_rng = rng if rng.random() < recipe.random_correction_share else None
        return options, lambda prediction, truth: choose_correction(prediction, truth, click_rng)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(
            self.environment.device.split(":")[0], dtype=getattr(torch, self.recipe.precision)
        )

    def _is_validation_due(self) -> bool:
        """Whether this step is to be validated and, after a resume, was not validated before."""
        return self.step % self.recipe.validation.every == 0 and (
            not self.history or self.history[-1].step != self.step
        )

    def _validate(self) -> None:
        with self._average.use_average():
            validation = validate(
                self.network,
                self.clips,
                self.propagation_options,
                max_objects=self.recipe.validation.objects,
                step=self.step,
                device=self.environment.device,
            )
            better = self.best is None or validation.score > self.best.score
            self.history.append(validation)
            if better:
                self._on_best(self.network, validation)
            for hook in self.hooks:
                hook.on_validate(self, validation)


def _make_optimizer(weights: dict[str, torch.nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """Make an AdamW whose weight decay spares biases, norms and single vectors."""
    decaying = [value for value in weights.values() if value.ndim > 1]
    others = [value for value in weights.values() if value.ndim <= 1]
    groups = [
        {"params": decaying, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
