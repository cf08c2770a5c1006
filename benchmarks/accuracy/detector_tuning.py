"""Tuning of the detector: what a few annotated slices gain in finding objects without a click.

python -m benchmarks.accuracy.detector_tuning --minutes 3 --out results.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy.finetuning import ANNOTATED, HELD_OUT, load_ovule
from benchmarks.support.machine import describe_machine
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.models.load import load_detector
from napari_sam2.train.data.annotated import ReadOptions, open_pairs
from napari_sam2.train.data.pairs import AnnotatedPlane
from napari_sam2.train.detector.tuning import DetectorTuning, TuningOptions
from napari_sam2.train.detector.tuning_data import DetectorFrames


def load_planes(slices: slice) -> list[AnnotatedPlane]:
    """The annotated planes of some slices of the ovule sample."""
    stack, labels = load_ovule(slices)
    (pair,) = open_pairs(np.asarray(stack.data), labels, options=ReadOptions(axes="zyx", along="z"))
    return [pair.read(frame) for frame in pair.annotated]


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune on five of the annotated slices, keep the last for validation, measure on others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    annotated = load_planes(ANNOTATED)
    measured = DetectorFrames([], [load_planes(HELD_OUT)])
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tuning = DetectorTuning(
            load_detector().network.state_dict(),
            DetectorFrames(annotated[:-1], [annotated[-1:]]),
            TuningOptions(steps=options.steps, minutes=options.minutes, every=50),
            Path(folder),
            "",
        )
        progress = tuning.run(lambda _: None)
    minutes = (time.monotonic() - began) / 60
    before = measured.measure(load_detector(), 0)
    tuned = tuning.make_best_predictor()
    after = measured.measure(tuned, progress.best.step)
    scores = {"before": before, "after": after}
    rows = [(name, score.f1, score.count_error, score.step) for name, score in scores.items()]
    truth = [len(np.unique(labels[labels > 0])) for _, labels in measured.held_out[0]]
    print(format_markdown(("slices 16 to 31", "F1 at 0.5", "count error", "step"), rows))
    print(f"{progress.step} steps, {minutes:.1f} min; {np.mean(truth):.0f} objects a slice")
    figures = {name: score.as_dict() for name, score in scores.items()}
    results = {**figures, "steps": progress.step, "minutes": minutes}
    write_results({**results, "machine": describe_machine()}, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
