"""Fine-tuning of the detector on annotated frames, beside the promptable parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam2.api.samples import SAMPLES
from napari_sam2.core.card import ModelCard
from napari_sam2.models.load import load_detector
from napari_sam2.models.network.object_maps import ObjectMapPredictor
from napari_sam2.models.weights import cards
from napari_sam2.train.data.annotated import open_pairs
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack
from napari_sam2.train.detector.tuning import DetectorProgress, DetectorTuning, TuningOptions
from napari_sam2.train.detector.tuning_data import DetectorFrames
from napari_sam2.train.finetune import finetune
from napari_sam2.train.hooks import BaseHook
from napari_sam2.train.smoke import make_dataset, make_recipe, write_tiny_model

_SAMPLES = SAMPLES[0].image.parent


def open_ovule(keep: int | None = None) -> AnnotatedStack:
    """Four slices of the ovule sample, cropped; `keep` leaves only so many objects."""
    (pair,) = open_pairs(_SAMPLES / "ovule_z.ome.tif", _SAMPLES / "ovule_z_labels.ome.tif")

    def read(frame: int) -> AnnotatedPlane:
        pixels, labels = (each[:160, :160] for each in pair.read(frame))
        if keep is not None:
            labels = np.where(np.isin(labels, np.unique(labels[labels > 0])[:keep]), labels, 0)
        return pixels, labels

    shown = [frame for frame in pair.annotated if read(frame)[1].any()]
    middle = len(shown) // 2
    return replace(
        pair,
        shape=(len(pair.annotated), 160, 160),
        annotated=tuple(shown[middle - 2 : middle + 2]),
        read=read,
    )


class _Stop(BaseHook):
    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    def on_detector(self, progress: DetectorProgress) -> None:
        self.seen = progress.step
        if progress.step >= self.at:
            progress.stop("stopped")


def tune(folder: Path, *hooks: BaseHook, keep: int | None = None, **changes: object) -> ModelCard:
    recipe = make_recipe(trains="decoder", steps=8, **{"detector": "always", **changes})
    tiny = folder / "tiny.safetensors"
    model = tiny if tiny.is_file() else write_tiny_model(folder)
    out = folder / "tuned.safetensors"
    return finetune([open_ovule(keep)], model=model, out=out, recipe=recipe, hooks=hooks)


def test_the_card_tells_the_detector_before_and_after(tmp_path: Path) -> None:
    card = tune(tmp_path, detector_steps=3)
    figures = card.training["detector"]
    assert figures["steps"] == 3 and figures["ended"] == "finished"
    for part in ("before", "best"):
        assert 0 <= figures[part]["f1"] <= 1 and figures[part]["count_error"] >= 0
        assert 0 <= card.training[part]["iou_track"] <= 1
    assert figures["best"]["score"] >= figures["before"]["score"]
    used = load_detector(tmp_path / "tuned.safetensors").sha256
    improved = figures["best"]["step"] > 0
    assert (used == load_detector().sha256) != improved
    assert card.has_detector == improved


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_stopped_tuning_goes_on(tmp_path: Path, at: int) -> None:
    hook = _Stop(at)
    first = tune(tmp_path, hook, detector_steps=3)
    assert first.training["detector"]["ended"] == "stopped" and hook.seen == at
    again = tune(tmp_path, detector_steps=3)
    assert again.training["detector"]["steps"] == 3
    assert again.training["detector"]["before"] == first.training["detector"]["before"]


def test_the_detector_can_be_left_out(tmp_path: Path) -> None:
    hook = _Stop(100)
    card = tune(tmp_path, hook, detector="never")
    assert card.training["detector"] == {"left_out": "not wanted"}
    assert hook.seen == 0 and not card.has_detector
    assert not list(tmp_path.glob(f"*{cards.DETECTOR_SUFFIX}"))


def test_data_without_whole_frames_leave_the_detector_out(tmp_path: Path) -> None:
    out = tmp_path / "tuned.safetensors"
    card = finetune(
        make_dataset(), model=write_tiny_model(tmp_path), out=out, recipe=make_recipe(steps=3)
    )
    assert "whole annotated frames" in card.training["detector"]["left_out"]


def _make_nuclei(number: int) -> AnnotatedPlane:
    rng = np.random.default_rng(number)
    y, x = np.indices((160, 160))
    pixels = rng.normal(0.1, 0.02, (160, 160)).astype(np.float32)
    labels = np.zeros((160, 160), np.int32)
    for index in range(16):
        centre = np.array(divmod(index, 4)) * 38 + 22 + rng.uniform(-4, 4, 2)
        disc = np.hypot(y - centre[0], x - centre[1]) < rng.uniform(9, 12)
        pixels[disc] += 0.6
        labels[disc] = index + 1
    return np.clip(pixels, 0, 1), labels


@pytest.mark.parametrize(("kept", "partial"), [(1, True), (3, True), (15, False), (16, False)])
def test_frames_annotated_in_part_are_recognised(kept: int, partial: bool) -> None:
    planes = [_make_nuclei(number) for number in range(3)]
    seen = [(pixels, np.where(labels <= kept, labels, 0)) for pixels, labels in planes]
    missing, labelled = DetectorFrames(seen[:1], [seen[1:]]).count_unlabelled(load_detector())
    assert (missing > labelled) == partial


def test_the_detector_learns_what_it_did_not_see(tmp_path: Path) -> None:
    """From a detector whose last layer sees nothing to one that finds the objects."""
    planes = [_make_nuclei(number) for number in range(3)]
    frames = DetectorFrames(planes[:2], [planes[2:]])
    start = load_detector().network.state_dict()
    start = {name: value.clone() for name, value in start.items()}
    start["head.bias"][0] -= 8
    blind = frames.measure(ObjectMapPredictor.of(start, ""), 0)
    options = TuningOptions(steps=40, every=20, rehearsal=0.0)
    tuning = DetectorTuning(start, frames, options, tmp_path, "identity")
    torch.manual_seed(0)
    progress = tuning.run(lambda _: None)
    assert progress.history[0] == blind
    assert progress.best.score >= blind.score
    tuned = tuning.make_best_predictor()
    assert frames.measure(tuned, progress.best.step) == progress.best


def test_a_model_tuned_again_keeps_its_detector(tmp_path: Path) -> None:
    from napari_sam2.models.weights import checkpoints

    base = write_tiny_model(tmp_path)
    weights = {name: value + 0.01 for name, value in load_detector().network.state_dict().items()}
    sha256 = checkpoints.write_detector(base, weights)
    tensors, metadata = checkpoints.read_checkpoint(base)
    card = replace(cards.load_card(base), detector_sha256=sha256)
    checkpoints.write_checkpoint(
        base, tensors, card, metadata={"configuration": metadata["configuration"]}
    )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    out = folder / "again.safetensors"
    card = finetune(
        [open_ovule()],
        model=base,
        out=out,
        recipe=make_recipe(trains="decoder", steps=3, detector="never"),
    )
    assert card.detector_sha256 == sha256 == load_detector(out).sha256
