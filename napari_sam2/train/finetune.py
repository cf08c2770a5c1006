"""Fine-tuning: train a model on annotated images, and write the best checkpoint to a file."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import ModelError, OutputError
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.models.gpu_memory import BatchLimitedModel
from napari_sam2.models.load import load_detector, load_model
from napari_sam2.models.network.object_maps import ObjectMapPredictor
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.weights import cards, checkpoints
from napari_sam2.models.weights.files import (
    get_cache_folder,
    get_embedded_folder,
    replace_atomically,
)
from napari_sam2.train.adapt import add_abilities
from napari_sam2.train.clip_propagation import MemoryLimits
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.datasets import build_dataset
from napari_sam2.train.data.pairs import AnnotatedStack
from napari_sam2.train.detector.tuning import (
    DetectorHook,
    DetectorProgress,
    DetectorTuning,
    TuningOptions,
)
from napari_sam2.train.detector.tuning_data import DetectorFrames
from napari_sam2.train.events import TrainingEnvironment, TrainingResult
from napari_sam2.train.hooks import (
    HOOKS,
    Checkpointing,
    CsvLog,
    EarlyStopping,
    Hook,
    LearningRateSchedule,
)
from napari_sam2.train.loop import Training, TrainingError
from napari_sam2.train.lora import merge_adapters
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.trainable import TrainableParts, select_trainable
from napari_sam2.train.validation import Validation

log = logging.getLogger(__name__)

TrainingData = Dataset | Sequence[AnnotatedStack | str | Path] | str | Path
"""Paths for `discovery.find_pairs`, annotated stacks, or a dataset that is already split."""

_RESUMABLE_FIELDS = {
    "steps",
    "minutes",
    "device",
    "threads",
    "hooks",
    "detector",
    "detector_steps",
}
"""Fields of a recipe that may change between an interruption and the resume."""

_MAX_NAMED = 20  # groups named in a card

# Side of the input, if the model allows it: a crop of 256 pixels takes four times as long.
_MAX_DEFAULT_SIZE_PX = 128


_DETECTOR_SHARE = 1 / 3  # of the minutes, if the detector is tuned


def finetune(
    data: TrainingData,
    *,
    model: str | Path = "nano",
    out: str | Path,
    recipe: Recipe | str | Path | None = None,
    hooks: Sequence[Hook] = (),
) -> ModelCard:
    """Fine-tune `model` on annotated images, and write the best checkpoint to `out`.

    The card lies beside `out`, and so does a folder ``OUT-training`` with logs and the state of
    the training: after an interruption, the same call resumes. `out` holds the best checkpoint
    from the first validation on, which is that of the untrained model. Then a copy of the model's
    detector is tuned on the same frames (`Recipe.detector`); if it gets better on those that are
    held out, it is written beside `out`, and the card names it.

    Parameters
    ----------
    data
        See `TrainingData`. Part of the images, movies or patients is held out for validation; of a
        single stack, part of its frames.
    model
        Name or file of the model to start from.
    out
        A ``.safetensors`` file.
    recipe
        A Recipe or its TOML file; the default recipe if not given.
    hooks
        Called after the hooks of the recipe; see `hooks.Hook`.

    Returns
    -------
    ModelCard
        The card of the new model.

    Raises
    ------
    LabelsError, FileError
        Data that cannot be trained on, or of which nothing can be held out.
    RecipeError, UnknownModelError, CheckpointError, OutputError
        A recipe or model that cannot be used, or an `out` that cannot be written or exists.
    TrainingError
        The loss is not finite, or training was interrupted. `out` holds the best checkpoint.
    """
    out = Path(out)
    recipe = _read_recipe(recipe)
    folder = out.parent / f"{out.stem}-training"
    _check_output(out, folder)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    base = StartingModel.of(model, recipe)
    recipe = recipe.model_copy(update={"trainable": base.trainable})
    if not isinstance(data, Dataset):
        data = build_dataset(data, recipe, object_crops=base.card.object_crops)
    _copy_detector(model, out)
    teacher = DetectorTeacher.of(model, base, recipe, data)
    best = BestCheckpoint(base, recipe, data, out)
    identity = _compute_identity(base.card, recipe, data)
    training = Training(
        base.network,
        data,
        teacher.leave_time(recipe),
        TrainingEnvironment(base.size, base.memory_limits, base.device, folder),
        hooks=[*_make_hooks(identity, recipe), *hooks],
        on_best=best,
    )
    try:
        result = training.run()
        taught = teacher.teach(out, folder, identity, [*training.hooks])
    except KeyboardInterrupt as error:
        raise TrainingError(
            f"interrupted at step {training.step}: {out} holds the best checkpoint so far; run "
            "the same call again to resume"
        ) from error
    return best.write_final_card(result, training.history[0], taught)


@dataclass(frozen=True, eq=False)
class StartingModel:
    """The model that training starts from: on its device, with its trainable weights selected."""

    network: Sam2Network
    card: ModelCard
    trainable: TrainableParts
    device: str
    size: int
    memory_limits: MemoryLimits

    @classmethod
    def of(cls, name: str | Path, recipe: Recipe) -> StartingModel:
        """Load a model and select what trains. Raises ModelError if it is not a SAM 2 model."""
        model = load_model(name, device=recipe.device)
        model = model.inner if isinstance(model, BatchLimitedModel) else model
        if not isinstance(model, Sam2Predictor):
            raise ModelError(
                f"{model.card.name} belongs to another package: only SAM 2 and models derived "
                "from it can be trained here"
            )
        card = model.card
        trainable: TrainableParts = recipe.trainable or (
            "everything" if card.object_crops else "decoder+memory"
        )
        network = add_abilities(model.network, recipe.abilities).to(model.device)
        select_trainable(network, trainable, rank=recipe.rank)
        sizes = [side for side in card.input_sizes if side <= _MAX_DEFAULT_SIZE_PX]
        recent = card.memory_slots - 1 if recipe.recent is None else recipe.recent
        if recent >= network.configuration.slots:
            raise ModelError(
                f"recent is {recent}: {card.name} has temporal encodings for 0 to "
                f"{network.configuration.slots - 1}"
            )
        return cls(
            network.to(model.device),
            card,
            trainable,
            model.device,
            max(sizes, default=card.input_sizes[0]),
            MemoryLimits(recent, recipe.pointers or card.pointers),
        )


@dataclass(frozen=True)
class TaughtDetector:
    """What the card says of the detector: its hash, and figures, or why it was left out."""

    sha256: str
    figures: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class DetectorTeacher:
    """Tunes a copy of a model's detector on the annotated frames; `left_out` says why not."""

    detector: ObjectMapPredictor
    base: StartingModel
    recipe: Recipe
    frames: DetectorFrames | None
    left_out: str = ""

    @classmethod
    def of(
        cls, model: str | Path, base: StartingModel, recipe: Recipe, dataset: Dataset
    ) -> DetectorTeacher:
        """For a model; the frames are read, and looked at for objects without a label."""
        options = InferenceOptions(device=base.device)
        detector = load_detector(model, options=options)
        if recipe.detector == "never":
            return cls(detector, base, recipe, None, "not wanted")
        frames = DetectorFrames.of(dataset)
        if frames is None:
            return cls(detector, base, recipe, None, "the data have no whole annotated frames")
        if recipe.detector == "auto":
            missing, labelled = frames.count_unlabelled(detector)
            if missing > labelled:
                reason = (
                    f"the frames seem to be annotated in part only: {missing} objects without a "
                    f'label beside {labelled} with one; detector = "always" trains it all the same'
                )
                return cls(detector, base, recipe, None, reason)
        return cls(detector, base, recipe, frames)

    def leave_time(self, recipe: Recipe) -> Recipe:
        """The recipe of the promptable parts: with less time if the detector needs some."""
        if self.frames is None or recipe.minutes is None:
            return recipe
        return recipe.model_copy(update={"minutes": recipe.minutes * (1 - _DETECTOR_SHARE)})

    def teach(
        self, out: Path, folder: Path, identity: str, hooks: Sequence[Hook]
    ) -> TaughtDetector:
        """Tune, and write the detector of `out` if it is better than before."""
        card = self.base.card
        if self.frames is None:
            log.warning("the detector was left out: %s", self.left_out)
            return TaughtDetector(card.detector_sha256, {"left_out": self.left_out})
        recipe = self.recipe
        tuning = DetectorTuning(
            self.detector.network.state_dict(),
            self.frames,
            TuningOptions(
                steps=min(recipe.detector_steps, -(-recipe.steps // 2)),
                minutes=recipe.minutes and recipe.minutes * _DETECTOR_SHARE,
                rehearsal=recipe.rehearsal,
                seed=recipe.seed,
                device=self.base.device,
            ),
            folder,
            identity + self.detector.sha256,
        )
        observers = [hook for hook in hooks if isinstance(hook, DetectorHook)]

        def report(progress: DetectorProgress) -> None:
            for hook in observers:
                hook.on_detector(progress)

        progress = tuning.run(report)
        sha256 = card.detector_sha256
        if progress.best.step:
            sha256 = checkpoints.write_detector(out, tuning.best_weights)
        figures = {
            "before": progress.history[0].as_dict(),
            "best": progress.best.as_dict(),
            "steps": progress.step,
            "ended": progress.reason or "finished",
            "base_sha256": self.detector.sha256,
            "frames": len(self.frames.train),
        }
        return TaughtDetector(sha256, figures)


@dataclass(frozen=True, eq=False)
class BestCheckpoint:
    """Writes the best weights so far to a file; called with each better validation."""

    base: StartingModel
    recipe: Recipe
    dataset: Dataset
    out: Path

    def __call__(self, network: Sam2Network, validation: Validation) -> None:
        """Write the weights in half precision, with their card."""
        self._write(merge_adapters(network), {"best": validation.as_dict()})

    def write_final_card(
        self, result: TrainingResult, first_validation: Validation, taught: TaughtDetector
    ) -> ModelCard:
        """Write the same weights with a card that describes the whole training."""
        tensors, _ = checkpoints.read_checkpoint(self.out)
        figures = {
            "before": first_validation.as_dict(),
            "best": result.best.as_dict(),
            "steps": result.steps,
            "ended": result.reason,
            "detector": dict(taught.figures),
        }
        return self._write(tensors, figures, taught.sha256)

    def _write(
        self,
        tensors: Mapping[str, Tensor],
        figures: Mapping[str, Any],
        detector_sha256: str | None = None,
    ) -> ModelCard:
        half = {name: value.half() for name, value in tensors.items()}
        metadata = {"configuration": self.base.network.configuration.to_json()}
        card = self._make_card(figures)
        if detector_sha256 is not None:
            card = replace(card, detector_sha256=detector_sha256)
        return checkpoints.write_checkpoint(self.out, half, card, metadata=metadata)

    def _make_card(self, figures: Mapping[str, Any]) -> ModelCard:
        base, groups = self.base.card, self.dataset.source.groups()
        sides = {"trained_on": self.dataset.train, "held_out": self.dataset.held_out}
        training = {
            "base": {"name": base.name, "sha256": base.sha256, "source": base.source},
            "trains": self.recipe.trainable,
            "recipe": self.recipe.model_dump(mode="json", exclude_defaults=True),
            "data": {
                side: _shorten_names(sorted({groups[item] for item in items}))
                for side, items in sides.items()
            },
            **figures,
        }
        return replace(
            base,
            name=self.out.stem,
            description=(
                f"{base.name}, fine-tuned ({self.recipe.trainable}) on "
                f"{len(self.dataset.train)} images or stacks"
            ),
            source=f"napari_sam2 finetune, from {base.name}",
            sha256="",
            memory_slots=self.base.memory_limits.recent + 1,
            pointers=self.base.memory_limits.pointers,
            training=training,
        )


def _copy_detector(model: str | Path, out: Path) -> None:
    """Put the detector of the model to start from beside `out`, unless all models find it."""
    path = cards.find_detector(cards.locate(model))
    if path is None or path.parent in (get_embedded_folder(), get_cache_folder()):
        return
    with replace_atomically(out.with_name(out.stem + cards.DETECTOR_SUFFIX)) as temporary:
        shutil.copyfile(path, temporary)


def _read_recipe(recipe: Recipe | str | Path | None) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return Recipe() if recipe is None else Recipe.read(recipe)


def _make_hooks(identity: str, recipe: Recipe) -> list[Hook]:
    """Make the hooks of every training, and those that the recipe names."""
    hooks: list[Hook] = [Checkpointing(identity), LearningRateSchedule(), CsvLog()]
    if recipe.validation.patience is not None:
        hooks.append(EarlyStopping(recipe.validation.patience))
    return [*hooks, *(HOOKS.get(name)() for name in recipe.hooks)]


def _shorten_names(groups: Sequence[str]) -> list[str]:
    """Keep the first names only, and count the others."""
    if len(groups) <= _MAX_NAMED:
        return list(groups)
    return [*groups[:_MAX_NAMED], f"and {len(groups) - _MAX_NAMED} more"]


def _compute_identity(card: ModelCard, recipe: Recipe, dataset: Dataset) -> str:
    groups = dataset.source.groups()
    parts = {
        "model": card.sha256,
        "recipe": recipe.model_dump(mode="json", exclude=_RESUMABLE_FIELDS, exclude_defaults=True),
        "data": [[groups[item] for item in side] for side in (dataset.train, dataset.held_out)],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _check_output(out: Path, folder: Path) -> None:
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: expected a name ending in .safetensors")
    if out.exists() and not (folder / "state.pt").is_file():
        raise OutputError(f"{out} exists: remove it, or choose another name")
