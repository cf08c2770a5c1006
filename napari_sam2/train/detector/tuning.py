"""Tuning of a detector on a few annotated frames: a copy of it is trained, and the best is kept."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.errors import OutputError
from napari_sam2.models.network.conv_encoder import ConvEncoder
from napari_sam2.models.network.detector import DetectorNetwork
from napari_sam2.models.network.object_maps import HIDDEN, ObjectMapPredictor
from napari_sam2.models.weights.files import replace_atomically
from napari_sam2.train.average import WeightAverage
from napari_sam2.train.detector.loss import compute_losses
from napari_sam2.train.detector.pool import CropPool, DetectionBatch
from napari_sam2.train.detector.tuning_data import DetectorFrames, DetectorScore
from napari_sam2.train.state_files import read_state

_POOL_SIDE, _SIDE, _BATCH = 144, 128, 8
_POOL_CAPACITY, _FIRST_CROPS, _REFRESH = 200, 32, 1.0
_ENCODER_RATE, _HEAD_RATE, _WARM_UP_STEPS, _AVERAGE = 1e-4, 3e-4, 20, 0.98
_SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class TuningOptions:
    """How long a detector is tuned: until one of `steps` and `minutes` is used up.

    `rehearsal` is the share of crops of the embedded model's training data, `every` the steps
    between validations.
    """

    steps: int = 300
    minutes: float | None = None
    every: int = 100
    rehearsal: float = 0.5
    seed: int = 0
    device: str = "cpu"


@dataclass
class DetectorProgress:
    """A tuning as its observers see it; they may `stop` it after the current step."""

    step: int = 0
    fraction: float = 0.0
    history: list[DetectorScore] = field(default_factory=list)
    reason: str = ""

    @property
    def best(self) -> DetectorScore:
        """The best score so far; of equal ones, the first."""
        return max(self.history, key=lambda each: each.score)

    def stop(self, reason: str) -> None:
        """End the tuning after the current step."""
        self.reason = self.reason or reason


@runtime_checkable
class DetectorHook(Protocol):
    """A hook of training that observes the tuning of the detector too."""

    def on_detector(self, progress: DetectorProgress) -> None:
        """Called before the first step, after each step and after each validation."""
        ...


class DetectorTuning:
    """The loop, with everything that a resume needs in ``detector.pt`` of its folder.

    Parameters
    ----------
    start
        Weights of the detector to start from.
    identity
        A hash of data and recipe. The state of another tuning is never resumed.
    """

    def __init__(
        self,
        start: Mapping[str, Tensor],
        frames: DetectorFrames,
        options: TuningOptions,
        folder: Path,
        identity: str,
    ) -> None:
        self._frames, self._options, self._identity = frames, options, identity
        self._path = folder / "detector.pt"
        self.progress = DetectorProgress()
        self.network = DetectorNetwork(ConvEncoder(HIDDEN))
        self.network.load_state_dict({name: value.float() for name, value in start.items()})
        self.network.to(options.device)
        self.best_weights = self._copy_weights()
        self._average = WeightAverage(dict(self.network.named_parameters()), _AVERAGE)
        self._optimizer = self._build_optimizer()
        self._seconds = 0.0
        self._rng = np.random.default_rng(options.seed)

    def run(self, report: Callable[[DetectorProgress], None]) -> DetectorProgress:
        """Tune to the end; a state that was saved before is resumed."""
        progress, options = self.progress, self._options
        self._resume()
        start = last_save = time.monotonic()
        before = self._seconds
        if not progress.history:
            self._validate()
        report(progress)
        pool: CropPool | None = None
        while not progress.reason and progress.fraction < 1:
            pool = pool or self._make_pool()
            pool.refresh(_REFRESH)
            self._take_step(pool.draw_batch(_BATCH, _SIDE))
            self._seconds = before + time.monotonic() - start
            spent = self._seconds / 60 / options.minutes if options.minutes else 0.0
            progress.fraction = min(1.0, max(progress.step / options.steps, spent))
            if progress.step % options.every == 0:
                self._validate()
            report(progress)
            if time.monotonic() - last_save > _SAVE_EVERY_S:
                last_save = time.monotonic()
                self._save()
        if progress.history[-1].step != progress.step:
            self._validate()
        self._save()
        report(progress)
        return progress

    def make_best_predictor(self) -> ObjectMapPredictor:
        """The best detector so far, ready to use."""
        return ObjectMapPredictor.of(self.best_weights, "", self._options.device)

    def _make_pool(self) -> CropPool:
        draw = self._frames.make_draw(_POOL_SIDE, self._options.rehearsal)
        pool = CropPool(draw, side=_POOL_SIDE, capacity=_POOL_CAPACITY, rng=self._rng)
        pool.fill(_FIRST_CROPS)
        return pool

    def _take_step(self, batch: DetectionBatch) -> None:
        device, progress = self._options.device, self.progress
        factor = min(1.0, (progress.step + 1) / _WARM_UP_STEPS)
        factor *= float(np.clip(1.02 - progress.fraction, 0.02, 1))
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_rate"] * factor
        moved = DetectionBatch(
            batch.grey.to(device), batch.targets.to(device), batch.counts.to(device)
        )
        loss = compute_losses(self.network(moved.grey).float(), moved)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        self._average.update(progress.step)

    def _validate(self) -> None:
        """Measure the averaged weights as the program uses them, and keep them if they are best."""
        progress = self.progress
        with self._average.use_average():
            maps = ObjectMapPredictor(self.network, "", self._options.device)
            found = self._frames.measure(maps, progress.step)
            progress.history.append(found)
            if progress.best is found:
                self.best_weights = self._copy_weights()
        self.network.train()

    def _copy_weights(self) -> dict[str, Tensor]:
        state = self.network.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def _build_optimizer(self) -> torch.optim.Optimizer:
        encoder = list(self.network.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        rest = [each for each in self.network.parameters() if id(each) not in known]
        groups = [
            {"params": encoder, "base_rate": _ENCODER_RATE},
            {"params": rest, "base_rate": _HEAD_RATE},
        ]
        return torch.optim.AdamW(groups, lr=_HEAD_RATE, weight_decay=0.01)

    def _save(self) -> None:
        progress, state = self.progress, io.BytesIO()
        values: dict[str, Any] = {
            "identity": self._identity,
            "network": self._copy_weights(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self.best_weights,
            "history": [[each.step, each.f1, each.count_error] for each in progress.history],
            "step": progress.step,
            "fraction": progress.fraction,
            "seconds": self._seconds,
        }
        torch.save(values, state)
        with replace_atomically(self._path) as temporary:
            temporary.write_bytes(state.getbuffer())

    def _resume(self) -> None:
        if not self._path.is_file():
            return
        state = read_state(self._path)
        if state["identity"] != self._identity:
            raise OutputError(
                f"{self._path} belongs to a training with other data or another detector: remove "
                "that folder, or choose another out"
            )
        self.network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.best_weights, self._seconds = state["best"], state["seconds"]
        progress = self.progress
        progress.step, progress.fraction = state["step"], state["fraction"]
        progress.history = [DetectorScore(int(step), *rest) for step, *rest in state["history"]]
        self._rng = np.random.default_rng([self._options.seed, progress.step])
