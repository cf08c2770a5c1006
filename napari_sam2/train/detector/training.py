"""Train the detector: resumable, in the background, for as long as there is time.

    python -m napari_sam2.train.detector.training --data ../shared/train --run RUN --minutes 120

continues where RUN/latest.pt stands, else starts from --start or from nano's encoder. The rate
is constant until the last part of the minutes, in which it falls to nothing: give more minutes
and resume, and it rises again.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_sam2.models.load import load_model
from napari_sam2.models.network.detector import DetectorNetwork, rename_prototype_keys
from napari_sam2.train.average import WeightAverage
from napari_sam2.train.detector.loss import compute_losses
from napari_sam2.train.detector.mix import TrainingMix
from napari_sam2.train.detector.pool import CropPool, DetectionBatch
from napari_sam2.train.detector.validation import DetectorValidation

_LOG_EVERY = 50  # steps
_FIRST_CROPS = 500  # drawn before the first step


@dataclass(frozen=True)
class TrainingOptions:
    """What may be tried.

    Parameters
    ----------
    minutes
        Of training in all, those before a resume counted in.
    decay
        Last share of the minutes in which the rate falls linearly to zero.
    batch, side
        Crops a step, and their sides in pixels.
    refresh
        New crops a step; batch / refresh is how often each is used.
    """

    minutes: float = 120.0
    decay: float = 0.4
    batch: int = 16
    side: int = 128
    pool_side: int = 176
    pool_capacity: int = 1500
    refresh: float = 2.0
    head_rate: float = 1e-3
    encoder_rate: float = 5e-4
    warm_up_steps: int = 200
    average: float = 0.998
    bfloat16: bool = True
    save_every_s: float = 300.0
    validate_every_s: float = 900.0
    seed: int = 0


class DetectorTraining:
    """The loop with everything that a resume needs: weights, their average, optimizer, clock."""

    def __init__(self, run: Path, options: TrainingOptions, mix: TrainingMix) -> None:
        self._run, self._options = run, options
        self.network = build_network()
        self.average = WeightAverage(dict(self.network.named_parameters()), options.average)
        self._optimizer = self._build_optimizer()
        self._step, self._seconds, self._best = 0, 0.0, -1.0
        self._rng = np.random.default_rng((options.seed, time.time_ns()))
        self._pool = CropPool(
            mix.draw, side=options.pool_side, capacity=options.pool_capacity, rng=self._rng
        )
        self._validation = DetectorValidation(mix)

    def train(self, report: Callable[[str], None] = print) -> None:
        """Until the minutes are used up."""
        options = self._options
        self._pool.fill(_FIRST_CROPS)
        report(f"pool filled; step {self._step}, {self._seconds / 60:.1f} min so far")
        log = TrainingLog(self._run / "log.csv")
        last_save = last_validation = self._seconds
        start = time.monotonic() - self._seconds
        while self._seconds < 60 * options.minutes:
            loading = time.monotonic()
            self._pool.refresh(options.refresh)
            batch = self._pool.draw_batch(options.batch, options.side)
            computing = time.monotonic()
            parts = self._take_step(batch)
            now = time.monotonic()
            log.add(parts, load_s=computing - loading, compute_s=now - computing)
            self._seconds = now - start
            if self._step % _LOG_EVERY == 0:
                log.write(self._step, self._seconds, self._compute_rate_factor())
            if self._seconds - last_validation > options.validate_every_s:
                last_validation = self._seconds
                report(self._validate())
            if self._seconds - last_save > options.save_every_s:
                last_save = self._seconds
                self.save()
        report(self._validate())
        self.save()

    def _take_step(self, batch: DetectionBatch) -> dict[str, float]:
        factor = self._compute_rate_factor()
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_rate"] * factor
        grey = batch.grey.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._options.bfloat16):
            logits = self.network(grey)
        parts = compute_losses(logits.float(), batch)
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1
        self.average.update(self._step)
        return {name: part.item() for name, part in parts.items()}

    def _compute_rate_factor(self) -> float:
        options = self._options
        left = 1 - self._seconds / (60 * options.minutes)
        warm = min(1.0, (self._step + 1) / options.warm_up_steps)
        return warm * float(np.clip(left / options.decay, 0.01, 1))

    def _build_optimizer(self) -> torch.optim.Optimizer:
        options = self._options
        encoder = list(self.network.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        rest = [p for p in self.network.parameters() if id(p) not in known]
        groups = [
            {"params": encoder, "base_rate": options.encoder_rate},
            {"params": rest, "base_rate": options.head_rate},
        ]
        return torch.optim.AdamW(groups, lr=options.head_rate, weight_decay=0.01)

    def _validate(self) -> str:
        score = self._validation.measure(build_network(self.average.state_dict()))
        with (self._run / "validation.csv").open("a") as file:
            row = [self._step, round(self._seconds), *(f"{v:.4f}" for v in score.values())]
            if file.tell() == 0:
                csv.writer(file).writerow(["step", "seconds", *score])
            csv.writer(file).writerow(row)
        if score["mean"] > self._best:
            self._best = score["mean"]
            save_half(self.average.state_dict(), self._run / "best-average.safetensors")
        return f"step {self._step}: " + ", ".join(f"{k} {v:.3f}" for k, v in score.items())

    def start_from(self, tensors: dict[str, Tensor]) -> None:
        """Take weights only; the average starts from them, the optimizer anew."""
        self.network.load_state_dict(tensors)
        weights = dict(self.network.named_parameters())
        self.average = WeightAverage(weights, self._options.average)

    def save(self) -> None:
        """Write RUN/latest.pt and the averaged weights beside it, each in one stroke."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "seconds": self._seconds,
            "best": self._best,
        }
        temporary = self._run / "latest.pt.part"
        torch.save(state, temporary)
        os.replace(temporary, self._run / "latest.pt")
        save_half(self.average.state_dict(), self._run / "latest-average.safetensors")

    def resume(self) -> None:
        """Go on from RUN/latest.pt."""
        state = torch.load(self._run / "latest.pt", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        rates = [group["base_rate"] for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["base_rate"] = rate
        self._step, self._seconds, self._best = state["step"], state["seconds"], state["best"]


class TrainingLog:
    """A CSV file of mean losses and of how the time was spent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, parts: dict[str, float], *, load_s: float, compute_s: float) -> None:
        """Count one step in."""
        for name, value in {**parts, "load_s": load_s, "compute_s": compute_s}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def write(self, step: int, seconds: float, rate_factor: float) -> None:
        """Append the means since the last row."""
        means = {name: total / max(self._count, 1) for name, total in self._sums.items()}
        with self._path.open("a") as file:
            if file.tell() == 0:
                csv.writer(file).writerow(["step", "seconds", "rate", *means])
            values = [f"{value:.4f}" for value in means.values()]
            csv.writer(file).writerow([step, round(seconds), f"{rate_factor:.3f}", *values])
        self._sums, self._count = {}, 0


def build_network(weights: Mapping[str, Tensor] | None = None) -> DetectorNetwork:
    """A detector with these weights, ready to measure, or else on a copy of nano's encoder."""
    nano: Any = load_model("nano", device="cpu")  # a model of ours, with a network
    network: Any = DetectorNetwork(nano.network.vision_encoder)
    made: DetectorNetwork = network.to(memory_format=torch.channels_last)
    if weights is not None:
        made.load_state_dict(weights)
        made.eval()
    return made


def load_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a safetensors file in single precision, the prototype's renamed."""
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    is_prototype = any(name.startswith("enc.") for name in tensors)
    return rename_prototype_keys(tensors) if is_prototype else tensors


def save_half(tensors: dict[str, Tensor], path: Path) -> None:
    """Write weights in half precision, in one stroke."""
    temporary = path.with_suffix(".part")
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, temporary)
    os.replace(temporary, path)


def main() -> None:
    """Start or resume a training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--extra", type=Path, help="folder of the evaluation data")
    parser.add_argument("--run", type=Path, required=True, help="folder for what is learned")
    parser.add_argument("--start", type=Path, help="weights to start a new training from")
    parser.add_argument("--minutes", type=float, default=TrainingOptions.minutes)
    parser.add_argument("--decay", type=float, default=TrainingOptions.decay)
    parser.add_argument("--side", type=int, default=TrainingOptions.side)
    parser.add_argument("--pool-side", type=int, default=TrainingOptions.pool_side)
    parser.add_argument("--batch", type=int, default=TrainingOptions.batch)
    parser.add_argument("--refresh", type=float, default=TrainingOptions.refresh)
    parser.add_argument("--head-rate", type=float, default=TrainingOptions.head_rate)
    parser.add_argument("--encoder-rate", type=float, default=TrainingOptions.encoder_rate)
    parser.add_argument("--validate-every", type=float, default=900.0, metavar="SECONDS")
    given = parser.parse_args()
    given.run.mkdir(parents=True, exist_ok=True)
    options = TrainingOptions(
        minutes=given.minutes,
        decay=given.decay,
        side=given.side,
        pool_side=given.pool_side,
        batch=given.batch,
        refresh=given.refresh,
        head_rate=given.head_rate,
        encoder_rate=given.encoder_rate,
        validate_every_s=given.validate_every,
    )
    mix = TrainingMix(given.data, options.pool_side, given.extra)
    training = DetectorTraining(given.run, options, mix)
    if (given.run / "latest.pt").exists():
        training.resume()
    elif given.start:
        training.start_from(load_weights(given.start))
    training.train(lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
