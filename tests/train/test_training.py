"""Training: which weights train, what is resumed, and what is saved."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam2.core.errors import LabelsError, OutputError, Sam2Error
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.weights import checkpoints
from napari_sam2.train.data.augment import Augmentation
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.events import TrainingContext, TrainingStep
from napari_sam2.train.finetune import finetune
from napari_sam2.train.hooks import BaseHook, LogHook
from napari_sam2.train.loop import TrainingError
from napari_sam2.train.recipe import Recipe, RecipeError
from napari_sam2.train.smoke import (
    TINY,
    StripedSquares,
    make_dataset,
    make_recipe,
    write_tiny_model,
)
from napari_sam2.train.trainable import get_trainable, is_encoder_trainable, select_trainable
from tests.models.networks import make_network


class _Crash(Exception):
    pass


class _CrashingHook(BaseHook):
    """Saves the state after a step, then raises, as a crash of the machine does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        if step.number == self.after:
            training.hooks[0].save(training)  # type: ignore[attr-defined]
            raise _Crash


class _NanHook(BaseHook):
    """Sets a trainable weight to NaN after a step."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
        if step.number == self.after:
            next(iter(get_trainable(training.network).values())).data.fill_(float("nan"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base"))


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoints.read_checkpoint(path)[0]


@pytest.mark.parametrize("trains", ["everything", "decoder+memory", "decoder"])
def test_a_resumed_training_equals_an_uninterrupted_one(
    tiny: Path, tmp_path: Path, trains: str
) -> None:
    chosen = make_recipe(trains=trains, average=0.5)
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    whole = finetune(make_dataset(), model=tiny, out=one, recipe=chosen)
    for after in (2, 3):
        with pytest.raises(_Crash):
            finetune(
                make_dataset(), model=tiny, out=other, recipe=chosen, hooks=[_CrashingHook(after)]
            )
    resumed = finetune(make_dataset(), model=tiny, out=other, recipe=chosen)
    assert (
        whole.training["best"] == resumed.training["best"]
        and whole.training["steps"] == resumed.training["steps"] == 6
    )
    state, again = (
        torch.load(tmp_path / f"{name}-training" / "state.pt", weights_only=True)
        for name in ("one", "other")
    )
    for part in ("weights", "average"):
        for name, value in state[part].items():
            assert torch.equal(value, again[part][name]), name
    for name, value in _weights(one).items():
        assert torch.equal(value, _weights(other)[name]), name


@pytest.mark.parametrize(
    ("trains", "moving", "still"),
    [
        (
            "decoder",
            ("mask_decoder.transformer",),
            (
                "vision_encoder",
                "mask_decoder.conv_s",
                "memory_",
                "prompt_encoder",
                "object_pointer",
            ),
        ),
        (
            "decoder+memory",
            ("mask_decoder.transformer", "memory_encoder"),
            ("vision_encoder", "mask_decoder.conv_s", "prompt_encoder"),
        ),
        (
            "everything",
            ("vision_encoder.stem", "prompt_encoder.mask_embed"),
            ("shared_image_embedding", "no_memory_positional"),
        ),
    ],
)
def test_only_selected_weights_change(
    tiny: Path, tmp_path: Path, trains: str, moving: tuple[str, ...], still: tuple[str, ...]
) -> None:
    finetune(
        make_dataset(),
        model=tiny,
        out=tmp_path / "tuned.safetensors",
        recipe=make_recipe(trains=trains, average=0.0, learning_rate=1e-2, steps=3),
    )
    state = torch.load(tmp_path / "tuned-training" / "state.pt", weights_only=True)["weights"]
    before = _weights(tiny)
    assert not [name for name in state if name.startswith(still)]
    for part in moving:
        changed = [
            name
            for name, value in state.items()
            if name.startswith(part) and not torch.equal(value, before[name])
        ]
        assert changed, part
    after = _weights(tmp_path / "tuned.safetensors")
    for name, value in before.items():
        if name.startswith(still):
            assert torch.equal(value.half(), after[name].half()), name


def test_a_frozen_encoder_has_no_gradients_and_encodes_each_frame_once(
    tiny: Path, tmp_path: Path
) -> None:
    seen = []

    class Counting(BaseHook):
        def on_start(self, training: TrainingContext) -> None:
            encoder = training.network.vision_encoder
            encoder.register_forward_hook(
                lambda module, given, out: seen.append((len(given[0]), out[0].requires_grad))
            )

    chosen = make_recipe(
        trains="decoder+memory",
        pool=2,
        steps=9,
        validating={"every": 9, "clips": 1, "length": 2, "objects": 2},
    )
    finetune(
        make_dataset(),
        model=tiny,
        out=tmp_path / "tuned.safetensors",
        recipe=chosen,
        hooks=[Counting()],
    )
    assert not any(grad for _, grad in seen)
    # two validations: a clip of two frames, and its first frame twice
    in_training = sum(count for count, _ in seen) - 2 * (2 + 1 + 1)
    assert in_training == 2 * 2


def test_only_the_best_checkpoint_is_kept(tiny: Path, tmp_path: Path) -> None:
    """With a learning rate that is much too high, the result is the untrained model."""
    out = tmp_path / "tuned.safetensors"
    card = finetune(
        make_dataset(),
        model=tiny,
        out=out,
        recipe=make_recipe(learning_rate=0.1, average=0.0, warmup=0, schedule="constant"),
    )
    history = np.loadtxt(tmp_path / "tuned-training" / "validations.csv", delimiter=",", skiprows=1)
    best = history[history[:, -1].argmax()]
    assert card.training["best"]["step"] == best[0] and card.training["best"][
        "score"
    ] == pytest.approx(best[-1], rel=1e-4)
    if best[0] == 0:
        assert all(
            torch.equal(value.half(), _weights(out)[name]) for name, value in _weights(tiny).items()
        )
    assert len(history) == 3


def test_a_loss_that_is_not_finite_stops_training_and_the_best_stays(
    tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned.safetensors"
    with pytest.raises(TrainingError, match="step 5: the loss is nan"):
        finetune(make_dataset(), model=tiny, out=out, recipe=make_recipe(), hooks=[_NanHook(4)])
    assert all(torch.isfinite(value).all() for value in _weights(out).values())
    assert checkpoints.verify_checkpoint(out).training["best"]["step"] in (0, 3)


def test_the_result_loads_as_a_model_with_its_card(tiny: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    card = finetune(
        make_dataset(),
        model=tiny,
        out=tmp_path / "tuned.safetensors",
        recipe=make_recipe(learns=["pointer_time"]),
        hooks=[LogHook(lines.append)],
    )
    loaded = load_model(tmp_path / "tuned.safetensors", device="cpu")
    assert isinstance(loaded, Sam2Predictor) and loaded.card.sha256 == card.sha256
    assert (card.name, card.licence, card.memory_slots, card.pointers) == ("tuned", "CC0-1.0", 3, 4)
    assert card.training["base"]["name"] == "tiny" and len(card.training["base"]["sha256"]) == 64
    assert (
        card.training["data"]["held_out"] == ["scene 3"]
        and "scene 3" not in card.training["data"]["trained_on"]
    )
    assert set(card.training["best"]) == {
        "step",
        "iou_1",
        "iou_3",
        "iou_box",
        "iou_carried",
        "iou_track",
        "count_error",
        "score",
    }
    assert [line.split(":")[0] for line in lines[:3]] == ["step 0", "step 3", "step 6"]


class CrossedStripes(StripedSquares):
    """Squares and background of equal brightness that differ by the direction of stripes only."""

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        clip = super().draw(item, rng, length=length, size=size)
        across, along = (0.5 + 0.3 * (-1.0) ** (axis // 2) for axis in np.indices((size, size)))
        return replace(clip, frames=np.where(clip.labels > 0, across, along).astype(np.float32))


def test_an_unknown_kind_of_scene_is_learned_in_seconds(tmp_path: Path) -> None:
    chosen = Recipe.of(
        {
            "trains": "everything",
            "steps": 60,
            "warmup": 5,
            "learning_rate": 1e-3,
            "average": 0.0,
            "shapes": [{"size": 64, "clips": 2, "length": 2, "objects": 4}],
            "validating": {"every": 60, "clips": 1, "length": 2},
            "device": "cpu",
        }
    )
    dataset = Dataset(CrossedStripes(), (0, 1, 2), (3,), Augmentation.identity())
    card = finetune(dataset, model="nano", out=tmp_path / "stripes.safetensors", recipe=chosen)
    before, best = card.training["before"], card.training["best"]
    assert before["iou_1"] < 0.6 and best["iou_1"] > 0.8 and best["iou_carried"] > 0.8, (
        before,
        best,
    )


def test_a_hook_stops_training(tiny: Path, tmp_path: Path) -> None:
    class Stopping(BaseHook):
        def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
            training.stop("enough")

    card = finetune(
        make_dataset(),
        model=tiny,
        out=tmp_path / "tuned.safetensors",
        recipe=make_recipe(),
        hooks=[Stopping()],
    )
    assert (card.training["steps"], card.training["ended"]) == (1, "enough")


def test_mixed_precision_and_accumulation_run(tiny: Path, tmp_path: Path) -> None:
    seen = set()

    class Recording(BaseHook):
        def on_start(self, training: TrainingContext) -> None:
            training.network.memory_encoder.projection.register_forward_hook(
                lambda module, given, out: seen.add(out.dtype)
            )

    chosen = make_recipe(precision="bfloat16", accumulate=2, steps=2)
    card = finetune(
        make_dataset(),
        model=tiny,
        out=tmp_path / "tuned.safetensors",
        recipe=chosen,
        hooks=[Recording()],
    )
    assert card.training["steps"] == 2 and seen == {torch.bfloat16, torch.float32}, (
        "expected training in half precision, and validation in full precision"
    )


def test_lora_trains_the_encoder_by_adapters_and_leaves_a_plain_file(
    tiny: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    out = tmp_path / "tuned.safetensors"
    finetune(
        make_dataset(),
        model=tiny,
        out=out,
        recipe=make_recipe(trains="lora", learning_rate=1e-2, average=0.0, steps=3),
    )
    state = torch.load(tmp_path / "tuned-training" / "state.pt", weights_only=True)["weights"]
    assert [name for name in state if "lora_" in name] and all(
        "lora_" in name or name.startswith("mask_decoder") for name in state
    )
    assert isinstance(load_model(out, device="cpu"), Sam2Predictor)


def test_merged_adapters_predict_as_adapters_do() -> None:
    pytest.importorskip("peft")
    from napari_sam2.models.network.sam2_network import Sam2Network
    from napari_sam2.train.lora import merge_adapters

    adapted = make_network(TINY)
    select_trainable(adapted, "lora", rank=2)
    assert is_encoder_trainable(adapted)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.1)
    pixels = torch.rand(1, 1, 64, 64)
    plain = Sam2Network.of(TINY, merge_adapters(adapted))
    torch.testing.assert_close(
        plain.embed(pixels)[2], adapted.embed(pixels)[2], atol=1e-4, rtol=1e-3
    )
    assert not torch.allclose(
        make_network(TINY).embed(pixels)[2], plain.embed(pixels)[2], atol=1e-2
    )


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda tiny, tmp: finetune(make_dataset(), model=tiny, out=tmp / "x.pt"),
            OutputError,
            "ending in .safetensors",
        ),
        (
            lambda tiny, tmp: finetune(make_dataset(), model=tiny, out=tiny),
            OutputError,
            "safetensors exists: remove it",
        ),
        (
            lambda tiny, tmp: finetune(
                Dataset(StripedSquares(), (0, 1), ()), model=tiny, out=tmp / "x.safetensors"
            ),
            LabelsError,
            "no images held out",
        ),
        (
            lambda tiny, tmp: finetune(
                Dataset(StripedSquares(), (0, 1), (1,)), model=tiny, out=tmp / "x.safetensors"
            ),
            LabelsError,
            "both trained on",
        ),
        (lambda tiny, tmp: Recipe.read(tmp / "none.toml"), Sam2Error, "cannot be read"),
        (lambda tiny, tmp: Recipe.of({"step": 3}), RecipeError, "step: Extra inputs"),
        (lambda tiny, tmp: Recipe.of({"prompts": {"points": 1}}), RecipeError, "prompts.points: "),
        (lambda tiny, tmp: Recipe.of({"shapes": [{"size": 100}]}), RecipeError, "multiple of 32"),
        (
            lambda tiny, tmp: finetune(
                make_dataset(),
                model=tiny,
                out=tmp / "x.safetensors",
                recipe=make_recipe(hooks=["none"]),
            ),
            Sam2Error,
            "no hooks is called",
        ),
    ],
    ids=[
        "wrong suffix",
        "existing file",
        "nothing held out",
        "held out and trained on",
        "no recipe",
        "unknown field",
        "unknown nested field",
        "odd size",
        "unknown hook",
    ],
)
def test_wrong_arguments_are_refused(
    tiny: Path,
    tmp_path: Path,
    call: Callable[[Path, Path], object],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        call(tiny, tmp_path)


def test_the_state_of_another_training_is_not_resumed(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.safetensors"
    finetune(make_dataset(), model=tiny, out=out, recipe=make_recipe(steps=2))
    with pytest.raises(OutputError, match="another model, data or recipe"):
        finetune(make_dataset(), model=tiny, out=out, recipe=make_recipe(steps=2, seed=1))


def test_a_finished_training_continues_with_more_steps(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.safetensors"
    finetune(make_dataset(), model=tiny, out=out, recipe=make_recipe(steps=3))
    steps: list[int] = []

    class Counting(BaseHook):
        def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
            steps.append(step.number)

    assert (
        finetune(
            make_dataset(), model=tiny, out=out, recipe=make_recipe(steps=5), hooks=[Counting()]
        ).training["steps"]
        == 5
    )
    assert steps == [4, 5]


def test_a_full_disk_is_reported_and_keeps_existing_files(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tuned.safetensors"

    def full(self: Path, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    class Filling(BaseHook):
        def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
            monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(OutputError, match="no space left for state.pt"):
        finetune(
            make_dataset(), model=tiny, out=out, recipe=make_recipe(steps=2), hooks=[Filling()]
        )
    assert checkpoints.verify_checkpoint(out)
    assert torch.load(tmp_path / "tuned-training" / "state.pt", weights_only=True)["step"] == 0


def test_an_interruption_from_the_keyboard_can_be_resumed(tiny: Path, tmp_path: Path) -> None:
    class Interrupting(BaseHook):
        def on_step(self, training: TrainingContext, step: TrainingStep) -> None:
            raise KeyboardInterrupt

    with pytest.raises(
        TrainingError, match="interrupted at step 1: .* holds the best checkpoint so far"
    ):
        finetune(
            make_dataset(),
            model=tiny,
            out=tmp_path / "tuned.safetensors",
            recipe=make_recipe(steps=2),
            hooks=[Interrupting()],
        )
    assert (
        finetune(
            make_dataset(),
            model=tiny,
            out=tmp_path / "tuned.safetensors",
            recipe=make_recipe(steps=2),
        ).training["steps"]
        == 2
    )


def test_a_recipe_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'trains = "lora"\nminutes = 10\n[[shapes]]\nsize = 128\n[prompts]\nbox = '
        "0.5\n[losses]\ndice = 2.0\n"
    )
    read = Recipe.read(path)
    assert (read.trainable, read.shapes[0].size, read.prompts.box, read.losses.dice) == (
        "lora",
        128,
        0.5,
        2.0,
    )
