"""Fine-tuning: what a few annotated slices of a new domain gain, and what is lost on nuclei.

python -m benchmarks.accuracy.finetuning PACK --out results.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.images import DOMAINS, measure_domain
from benchmarks.accuracy.propagation import measure_propagation
from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.stacks import MIN_FRAMES, SAMPLE_STACK, AnnotatedStack, TrackingCase
from napari_sam2.api.samples import SAMPLES
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.models.load import load_model
from napari_sam2.train.data.annotated import ReadOptions, open_pairs
from napari_sam2.train.finetune import finetune
from napari_sam2.train.hooks import LogHook
from napari_sam2.train.recipe import Recipe

ANNOTATED = slice(5, 11)
"""Slices of the ovule for training; part of them is held out for validation."""

HELD_OUT = slice(16, 32)
"""Slices to measure on, at least five slices away from those for training."""

MIN_GAIN, MAX_LOSS, MAX_MINUTES = 0.10, 0.02, 10
"""Requirements: IoU gained on the held-out slices, IoU lost on nuclei, and minutes."""

_SAMPLES = SAMPLES[0].image.parent


def load_ovule(slices: slice) -> tuple[Stack, np.ndarray]:
    """Load slices of the sample, and their labels (frames, H, W)."""
    stack = open_stack(_SAMPLES / "ovule_z.ome.tif")
    truth = open_labels(_SAMPLES / "ovule_z_labels.ome.tif")
    planes = [truth.read_plane({"z": z}) for z in range(truth.sizes["z"])]
    labels = np.stack(planes).astype(np.int64)
    return Stack(np.asarray(stack.data[slices]), "zyx", stack.spacing), labels[slices]


def measure_scores(model: VideoModel, pack: Path, objects: int) -> dict[str, float]:
    """Measure IoU on held-out slices of the ovule, held-out nuclei and the time-lapse sample."""
    case = _make_ovule_case(objects)
    scores = {
        f"ovule, {kind}": measure_propagation(model, case, kind)["iou"] for kind in ("click", "box")
    }
    nuclei = measure_domain(model, DOMAINS[0].read(Path(), pack), objects)
    scores |= {f"nuclei, {kind}": nuclei[kind] for kind in ("click", "three", "box")}
    sample = AnnotatedStack(
        "",
        str(_SAMPLES / SAMPLE_STACK.image),
        str(_SAMPLES / SAMPLE_STACK.truth),
        SAMPLE_STACK.axes,
        SAMPLE_STACK.along,
    )
    migrating = measure_propagation(model, TrackingCase.of(sample, Path("/"), 15), "box")
    return {**scores, "migrating nuclei, propagated": migrating["iou"]}


def _make_ovule_case(objects: int) -> TrackingCase:
    stack, labels = load_ovule(HELD_OUT)
    count = int(labels.max()) + 1
    areas = np.stack([np.bincount(plane.ravel(), minlength=count) for plane in labels])[:, 1:]
    frames = (areas > 0).sum(axis=0)
    order = np.argsort(-frames, kind="stable").tolist()
    chosen = sorted([index for index in order if frames[index] >= MIN_FRAMES][:objects])
    prompt_frames = {index + 1: int(areas[:, index].argmax()) for index in chosen}
    return TrackingCase(stack.as_video("z"), labels, prompt_frames)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure before and after, print a table; 0 if all requirements are reached."""
    options = _parse_options(arguments)
    about, model = describe_machine(), load_model(options.model)
    before = measure_scores(model, options.pack, options.objects)
    recipe = Recipe.read(options.recipe) if options.recipe else Recipe()
    recipe = recipe.model_copy(update={"minutes": options.minutes, "steps": 100_000})
    stack, labels = load_ovule(ANNOTATED)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tuned = Path(folder) / "tuned.safetensors"
        finetune(
            open_pairs(
                stack.data, labels, name="ovule", options=ReadOptions(axes="zyx", along="z")
            ),
            model=options.model,
            out=tuned,
            recipe=recipe,
            hooks=[LogHook(print)],
        )
        minutes = (time.monotonic() - began) / 60
        after = measure_scores(load_model(tuned), options.pack, options.objects)
    rows: list[list[Any]] = [
        [name, before[name], after[name], after[name] - before[name]] for name in before
    ]
    print("\n" + format_markdown(["measured on", "before", "after", "gained"], rows))
    gained = min(after[name] - before[name] for name in before if name.startswith("ovule"))
    lost = max(before[name] - after[name] for name in before if "nuclei" in name)
    write_results(
        {"machine": about, "minutes": minutes, "before": before, "after": after}, options.out
    )
    return report_checks(
        [
            (f"gained at least {gained:.3f}, required {MIN_GAIN}", gained >= MIN_GAIN),
            (f"lost at most {lost:.3f} on nuclei, allowed {MAX_LOSS}", lost < MAX_LOSS),
            (f"{minutes:.1f} minutes, allowed {MAX_MINUTES}", minutes <= MAX_MINUTES),
        ]
    )


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.finetuning",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument(
        "pack", type=Path, help="folder with manifest.csv and .npz files (nuclei of its split val)"
    )
    parser.add_argument("--model", default="nano", help="name or file of a model")
    parser.add_argument("--recipe", type=Path, help="TOML file; the default recipe if not given")
    parser.add_argument("--minutes", type=float, default=8.0, help="minutes of training")
    parser.add_argument("--objects", type=int, default=60, help="objects of each kind, at most")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
