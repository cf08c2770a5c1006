"""finetune: from annotated images and a model to another model, as a file like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import ModelError, OutputError
from napari_sam2.models.gpu_memory import BatchLimitedModel
from napari_sam2.models.load import load_model
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.weights import checkpoints
from napari_sam2.train.adapt import add_abilities
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.datasets import build_dataset
from napari_sam2.train.data.pairs import AnnotatedStack
from napari_sam2.train.hooks import (
    HOOKS,
    Checkpointing,
    CsvLog,
    EarlyStopping,
    Hook,
    LearningRateSchedule,
)
from napari_sam2.train.loop import Training, TrainingEnvironment, TrainingError, TrainingResult
from napari_sam2.train.lora import merge_adapters
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.trainable import TrainableParts, select_trainable
from napari_sam2.train.validation import Validation

TrainingData = Dataset | Sequence[AnnotatedStack | str | Path] | str | Path
"""Paths as `found.find_pairs` takes them, pairs, or both sides chosen already."""

_RESUMABLE_FIELDS = {"steps", "minutes", "device", "threads", "hooks"}
"""Fields of a recipe that may be changed between an interruption and going on."""

_MAX_NAMED = 20  # groups named in a card
# side of the input where the model takes it: a crop is learned from in a quarter of the time of one
# of 256
_MAX_DEFAULT_SIZE_PX = 128


def finetune(
    data: TrainingData,
    *,
    model: str | Path = "nano",
    out: str | Path,
    recipe: Recipe | str | Path | None = None,
    hooks: Sequence[Hook] = (),
) -> ModelCard:
    """Train `model` on annotated images and write the best of it to `out`, a ``.safetensors`` file with its card beside it.

    Beside it is also a folder ``OUT-training`` with logs and the state of the training: the same
    call goes on from there where it was interrupted. `out` holds the best model from the first
    validation on, which is the untrained one.

    Parameters
    ----------
    data
        See `TrainingData`. Part of the images, movies or patients (of a single stack, part of its frames)
        is held out.
    recipe
        A Recipe or its TOML file.
    hooks
        Told of everything after those of the recipe; see `hooks.Hook`.

    Raises
    ------
    LabelsError, FileError
        Data that cannot be trained on, or of which nothing could be held out.
    RecipeError, UnknownModelError, CheckpointError, OutputError
        A recipe or model that cannot be used; a place that cannot be written, or holds another
        model.
    TrainingError
        The loss is no number any more, or somebody interrupted; `out` holds what was best until
        then.
    """
    out = Path(out)
    chosen = (
        recipe
        if isinstance(recipe, Recipe)
        else Recipe.read(recipe)
        if recipe is not None
        else Recipe()
    )
    folder = out.parent / f"{out.stem}-training"
    _check_output(out, folder)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    base = StartingModel.of(model, chosen)
    chosen = chosen.model_copy(update={"trainable": base.trainable})
    material = (
        data
        if isinstance(data, Dataset)
        else build_dataset(data, chosen, object_crops=base.card.object_crops)
    )
    kept = BestCheckpoint(base, chosen, material, out)
    built_in: list[Hook] = [
        Checkpointing(_compute_identity(base.card, chosen, material)),
        LearningRateSchedule(),
        CsvLog(),
    ]
    if chosen.validation.patience is not None:
        built_in.append(EarlyStopping(chosen.validation.patience))
    named = [HOOKS.get(name)() for name in chosen.hooks]
    setting = TrainingEnvironment(base.size, base.recent, base.pointers, base.device, folder)
    training = Training(
        base.network, material, chosen, setting, hooks=[*built_in, *named, *hooks], on_best=kept
    )
    try:
        outcome = training.run()
    except KeyboardInterrupt as error:
        raise TrainingError(
            f"interrupted at step {training.step}: {out} holds the best so far; the same call "
            "goes on"
        ) from error
    return kept.write_final_card(outcome, training.history[0])


@dataclass(frozen=True, eq=False)
class StartingModel:
    """The model that training starts from, ready to train: on its device, its weights chosen."""

    network: Sam2Network
    card: ModelCard
    trainable: TrainableParts
    device: str
    size: int
    recent: int
    pointers: int

    @classmethod
    def of(cls, name: str | Path, recipe: Recipe) -> StartingModel:
        """Load it and choose what trains. Raises ModelError for a model that is not one of ours."""
        model = load_model(name, device=recipe.device)
        model = model.inner if isinstance(model, BatchLimitedModel) else model
        if not isinstance(model, Sam2Predictor):
            raise ModelError(
                f"{model.card.name} is brought by another package: only SAM 2 and its relatives "
                "can be trained here"
            )
        card = model.card
        trains: TrainableParts = recipe.trainable or (
            "everything" if card.object_crops else "decoder+memory"
        )
        network = add_abilities(model.network, recipe.abilities).to(model.device)
        select_trainable(network, trains, rank=recipe.rank)
        usual = [side for side in card.input_sizes if side <= _MAX_DEFAULT_SIZE_PX]
        recent = card.memory_slots - 1 if recipe.recent is None else recipe.recent
        if recent >= network.configuration.slots:
            raise ModelError(
                f"recent is {recent}: {card.name} has temporal encodings for 0 to "
                f"{network.configuration.slots - 1}"
            )
        size, pointers = max(usual, default=card.input_sizes[0]), recipe.pointers or card.pointers
        return cls(network.to(model.device), card, trains, model.device, size, recent, pointers)


@dataclass(frozen=True, eq=False)
class BestCheckpoint:
    """The best weights so far, in a file; called with each better validation."""

    base: StartingModel
    recipe: Recipe
    dataset: Dataset
    out: Path

    def __call__(self, network: Sam2Network, validation: Validation) -> None:
        """Write the weights, as precise as the model they come from, with their card."""
        self._write(merge_adapters(network), {"best": validation.as_dict()})

    def write_final_card(self, result: TrainingResult, first_validation: Validation) -> ModelCard:
        """The same weights, their card telling of the whole training."""
        tensors, _ = checkpoints.read_checkpoint(self.out)
        figures = {
            "before": first_validation.as_dict(),
            "best": result.best.as_dict(),
            "steps": result.steps,
            "ended": result.reason,
        }
        return self._write(tensors, figures)

    def _write(self, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]) -> ModelCard:
        half = {name: value.half() for name, value in tensors.items()}
        metadata = {"configuration": self.base.network.configuration.to_json()}
        return checkpoints.write_checkpoint(
            self.out, half, self._make_card(figures), metadata=metadata
        )

    def _make_card(self, figures: Mapping[str, Any]) -> ModelCard:
        base, groups = self.base.card, self.dataset.source.groups()
        sides = {"trained_on": self.dataset.train, "held_out": self.dataset.held_out}
        told = {
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
            memory_slots=self.base.recent + 1,
            pointers=self.base.pointers,
            training=told,
        )


def _shorten_names(groups: Sequence[str]) -> list[str]:
    """The names of a few groups; of many, the first and how many more."""
    return (
        list(groups)
        if len(groups) <= _MAX_NAMED
        else [*groups[:_MAX_NAMED], f"and {len(groups) - _MAX_NAMED} more"]
    )


def _compute_identity(card: ModelCard, recipe: Recipe, dataset: Dataset) -> str:
    groups = dataset.source.groups()
    made_of = {
        "model": card.sha256,
        "recipe": recipe.model_dump(mode="json", exclude=_RESUMABLE_FIELDS, exclude_defaults=True),
        "data": [[groups[item] for item in side] for side in (dataset.train, dataset.held_out)],
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _check_output(out: Path, folder: Path) -> None:
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: expected a name ending in .safetensors")
    if out.exists() and not (folder / "state.pt").is_file():
        raise OutputError(f"{out}: is there already: remove it, or choose another name")
