"""Hooks fulfil their contract, and have their effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, ModelError
from napari_sam2.testing.contracts import HookContract
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.events import TrainingContext, TrainingStep
from napari_sam2.train.finetune import finetune
from napari_sam2.train.hooks import (
    HOOKS,
    BaseHook,
    EarlyStopping,
    Hook,
    LogHook,
    PreviewImages,
)
from napari_sam2.train.smoke import make_dataset, make_recipe, run_smoke_training
from napari_sam2.train.state_files import read_state


class _SmokeContract(HookContract):
    def train(self, folder: Path, hooks: Sequence[Hook]) -> ModelCard:
        return run_smoke_training(folder, hooks)


class TestBaseHook(_SmokeContract):
    def make_hook(self) -> Hook:
        return BaseHook()


class TestPreview(_SmokeContract):
    def make_hook(self) -> Hook:
        return PreviewImages(clips=1)


class _Darker(BaseHook):
    def on_clip(self, training: TrainingContext, clip: Clip) -> Clip:
        return replace(clip, frames=clip.frames * np.float32(0.5))


class TestCustomHook(_SmokeContract):
    changes_training = True

    def make_hook(self) -> Hook:
        return _Darker()


def test_the_contract_finds_a_hook_that_changes_the_shape(tmp_path: Path) -> None:
    class Cropping(BaseHook):
        def on_clip(self, training: TrainingContext, clip: Clip) -> Clip:
            return replace(clip, frames=clip.frames[:, :32, :32], labels=clip.labels[:, :32, :32])

    class Contract(_SmokeContract):
        def make_hook(self) -> Hook:
            return Cropping()

    with pytest.raises(AssertionError, match="became"):
        Contract().test_clips_keep_their_shape_and_range(tmp_path)


def test_a_preview_is_drawn_for_each_validation(tmp_path: Path) -> None:
    from matplotlib.image import imread

    run_smoke_training(tmp_path, [PreviewImages(clips=1)])
    pictures = sorted((tmp_path / "trial-training").glob("preview-*.png"))
    assert [picture.name for picture in pictures] == [
        "preview-000000.png",
        "preview-000003.png",
        "preview-000006.png",
    ]
    assert imread(pictures[0]).shape[:2] == (64, 128)


def test_logs_have_a_row_for_each_validation(tmp_path: Path) -> None:
    lines: list[str] = []
    run_smoke_training(tmp_path, [LogHook(lines.append)])
    rows = (tmp_path / "trial-training" / "validations.csv").read_text().splitlines()
    columns = "step,iou_1,iou_3,iou_box,iou_carried,count_error,iou_track,score"
    assert rows[0] == columns and len(rows) == 4
    assert (
        lines[-1].startswith("finished after 6 steps")
        and sum("(best)" in line for line in lines) >= 1
    )


def test_training_that_gets_no_better_stops_early(tmp_path: Path) -> None:
    run_smoke_training(tmp_path / "base")
    chosen = make_recipe(
        steps=40,
        learning_rate=1e-12,
        average=0.0,
        validating={"every": 1, "clips": 1, "length": 2, "patience": 2},
    )
    card = finetune(
        make_dataset(),
        model=tmp_path / "base" / "trial.safetensors",
        out=tmp_path / "x.safetensors",
        recipe=chosen,
    )
    assert card.training["steps"] < 10 and "no better for 2 validations" in card.training["ended"]
    assert EarlyStopping(2)


def test_the_learning_rate_rises_and_falls(tmp_path: Path) -> None:
    rates: list[float] = []

    class Recording(BaseHook):
        def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
            rates.append(training.learning_rate)

    run_smoke_training(tmp_path / "base")
    chosen = make_recipe(
        steps=12,
        warmup=4,
        learning_rate=1e-3,
        trains="decoder",
        validating={"every": 12, "clips": 1, "length": 2},
    )
    finetune(
        make_dataset(),
        model=tmp_path / "base" / "tiny.safetensors",
        out=tmp_path / "x.safetensors",
        recipe=chosen,
        hooks=[Recording()],
    )
    assert (
        rates[:3] == sorted(rates[:3])
        and rates[4:] == sorted(rates[4:], reverse=True)
        and rates[-1] == pytest.approx(1e-5)
    )


def test_a_damaged_state_is_reported(tmp_path: Path) -> None:
    run_smoke_training(tmp_path)
    path = tmp_path / "trial-training" / "state.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="remove it to start the training again"):
        read_state(path)


def test_missing_tensorboard_is_reported(tmp_path: Path) -> None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ModelError, match="pip install tensorboard"):
            run_smoke_training(tmp_path, [HOOKS.get("tensorboard")()])
    else:
        pytest.skip("tensorboard is installed")
