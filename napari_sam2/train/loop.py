"""Loop: batches, steps and validations until the recipe says enough.

What else happens, hooks do.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.errors import LabelsError, ModelError
from napari_sam2.models.network.sam2_network import Network
from napari_sam2.train import losses
from napari_sam2.train.average import Average
from napari_sam2.train.data.batches import Drawn, Draws, Material, Pool, Stream
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.simulated_prompts import correction
from napari_sam2.train.forward import Correct, Script, rehearse
from napari_sam2.train.hooks import Hook
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.trainable import encodes, trained
from napari_sam2.train.validation import Validation, held_out, validate

_OLDER = (
    0,
    0,
    0,
    4,
    10,
    20,
)  # frames a walk is said to have lasted already: clips are short, stacks are not
_ON_THE_WAY = 0.25  # of corrected clips of several frames are also corrected on a later frame


class TrainingError(ModelError):
    """Training that cannot go on; what was best before it is kept."""


@dataclass(frozen=True)
class Setting:
    """Where a training runs: the input size, the memories shown, the device, and the folder of its files."""

    size: int
    recent: int
    pointers: int
    device: str
    folder: Path


@dataclass(frozen=True)
class Step:
    """One step done: its number from 1, the loss, its parts by name, the length of the gradient, and seconds it took."""

    number: int
    loss: float
    parts: dict[str, float]
    norm: float
    seconds: float


@dataclass(frozen=True)
class Outcome:
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
    kept
        Called with the network (holding the weights that were validated) and each validation better
        than all before.
    """

    def __init__(
        self,
        network: Network,
        material: Material,
        recipe: Recipe,
        setting: Setting,
        *,
        hooks: Sequence[Hook] = (),
        kept: Callable[[Network, Validation], None] = lambda network, validation: None,
    ) -> None:
        self.network = (
            network.eval()
        )  # without dropout: small networks and short trainings need none
        self.recipe, self.setting, self.hooks = recipe, setting, tuple(hooks)
        self.step, self.elapsed = 0, 0.0
        self.history: list[Validation] = []
        largest = max(shape.size or setting.size for shape in recipe.shapes)
        self.clips = held_out(
            material, recipe.validating, size=recipe.validating.size or largest, seed=recipe.seed
        )
        if not self.clips:
            raise LabelsError(
                "nothing to validate on: the held-out images show no object large enough; hold "
                "out others"
            )
        self._kept = kept
        self._weights = trained(network)
        self._optimizer = _optimizer(self._weights, recipe)
        self._average = Average(self._weights, recipe.average)
        self._scaler = torch.amp.GradScaler(
            setting.device.split(":")[0], enabled=recipe.precision == "float16"
        )
        self._rng = np.random.default_rng(recipe.seed)
        self._draw = self._draws(material)
        self._reason = ""
        self._since = time.monotonic()

    @property
    def best(self) -> Validation | None:
        """The best validation so far."""
        return max(self.history, key=lambda each: each.score, default=None)

    @property
    def fraction(self) -> float:
        """How much of the training is done, 0..1, in steps or in minutes, whichever is more."""
        minutes = self.recipe.minutes
        spent = (self.elapsed + time.monotonic() - self._since) / 60 / minutes if minutes else 0.0
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
    def script(self) -> Script:
        """How a clip is walked, nobody correcting."""
        return Script(recent=self.setting.recent, pointers=self.setting.pointers)

    def stop(self, reason: str) -> None:
        """End after this step."""
        self._reason = self._reason or reason

    def run(self) -> Outcome:
        """Train to the end. Raises TrainingError where the loss is no number any more."""
        self._since = time.monotonic()
        for hook in self.hooks:
            hook.on_start(self)
        while True:
            if self._due():
                self._validate()
            if self._reason or self.fraction >= 1:
                break
            began = time.monotonic()
            loss, parts, norm = self._take()
            self.step += 1
            done = Step(self.step, loss, parts, norm, time.monotonic() - began)
            for hook in self.hooks:
                hook.on_step(self, done)
        if self.history[-1].step != self.step:
            self._validate()
        assert self.best is not None
        outcome = Outcome(self._reason or "finished", self.step, self.best)
        for hook in self.hooks:
            hook.on_end(self, outcome)
        return outcome

    def state(self) -> dict[str, Any]:
        """All that is needed to go on exactly as if nothing had happened: tensors, numbers and text."""
        return {
            "weights": {
                name: value.detach().cpu().clone() for name, value in self._weights.items()
            },
            "optimizer": self._optimizer.state_dict(),
            "average": self._average.state(),
            "scaler": self._scaler.state_dict(),
            "rng": json.dumps(self._rng.bit_generator.state),
            "step": self.step,
            "elapsed": self.elapsed + time.monotonic() - self._since,
            "history": [asdict(each) for each in self.history],
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        for name, value in self._weights.items():
            value.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._average.restore(state["average"])
        self._scaler.load_state_dict(state["scaler"])
        self._rng.bit_generator.state = json.loads(state["rng"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.history = [Validation(**each) for each in state["history"]]
        self._since = time.monotonic()

    def noted(self, clip: Clip) -> Clip:
        """A clip as the hooks leave it."""
        for hook in self.hooks:
            clip = hook.on_clip(self, clip)
        return clip

    def _draws(self, material: Material) -> Draws:
        stream = Stream(material, self.recipe, self.setting.size, self.noted)
        return stream if encodes(self.network) else Pool(stream, self.network, self.setting.device)

    def _take(self) -> tuple[float, dict[str, float], float]:
        """One step of the optimizer: the loss, its parts, the length of the gradient."""
        losses_: list[float] = []
        parts: dict[str, float] = {}
        for _ in range(self.recipe.accumulate):
            loss, parts = self._loss(self._draw(self._rng))
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

    def _loss(self, drawn: Drawn) -> tuple[Tensor, dict[str, float]]:
        batch = drawn.batch.to(self.setting.device)
        script, correct = self._scripted(batch.frames.shape[1])
        with self._mixed():
            walk = rehearse(self.network, batch, script, correct, features=drawn.features)
        loss, parts = losses.total(walk.attempts, batch, self.recipe.losses)
        head = getattr(self.network.vision_encoder, "outline", None)
        if walk.finest is not None and head is not None and self.recipe.losses.outline:
            labels = drawn.labels.flatten(0, 1).to(self.setting.device)
            seen = losses.outline(walk.finest.float(), head, labels)
            loss, parts = (
                loss + self.recipe.losses.outline * seen,
                {**parts, "outline": float(seen.detach())},
            )
        return loss, parts

    def _scripted(self, length: int) -> tuple[Script, Correct]:
        """How this batch is walked, and who corrects."""
        rng, recipe = self._rng, self.recipe
        shares = np.array(recipe.corrected)
        clicks = int(rng.choice(len(shares), p=shares / shares.sum()))
        corrections = {0: clicks}
        if clicks and length > 1 and rng.random() < _ON_THE_WAY:
            corrections[int(rng.integers(1, length))] = 1
        script = Script(
            recent=self.setting.recent,
            pointers=self.setting.pointers,
            corrections=corrections,
            taught=self.step < recipe.taught,
            older=int(rng.choice(_OLDER)),
        )
        where = rng if rng.random() < recipe.loose else None
        return script, lambda prediction, truth: correction(prediction, truth, where)

    def _mixed(self) -> AbstractContextManager[Any]:
        if self.recipe.precision == "float32":
            return nullcontext()
        return torch.autocast(
            self.setting.device.split(":")[0], dtype=getattr(torch, self.recipe.precision)
        )

    def _due(self) -> bool:
        """Whether this step is to be validated and was not yet, as where training is taken up again."""
        return self.step % self.recipe.validating.every == 0 and (
            not self.history or self.history[-1].step != self.step
        )

    def _validate(self) -> None:
        with self._average.in_place():
            asked = self.recipe.validating
            found = validate(
                self.network,
                self.clips,
                self.script,
                most=asked.objects,
                step=self.step,
                device=self.setting.device,
            )
            better = self.best is None or found.score > self.best.score
            self.history.append(found)
            if better:
                self._kept(self.network, found)
            for hook in self.hooks:
                hook.on_validate(self, found)


def _optimizer(weights: dict[str, torch.nn.Parameter], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; biases, norms and single vectors do not decay."""
    decaying = [value for value in weights.values() if value.ndim > 1]
    others = [value for value in weights.values() if value.ndim <= 1]
    groups = [
        {"params": decaying, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
