"""Fine-tuning: train a model on annotated images, and write the best checkpoint to a file."""

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
from napari_sam2.train.clip_propagation import MemoryLimits
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.datasets import build_dataset
from napari_sam2.train.data.pairs import AnnotatedStack
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

TrainingData = Dataset | Sequence[AnnotatedStack | str | Path] | str | Path
"""Paths for `discovery.find_pairs`, annotated stacks, or a dataset that is already split."""

_RESUMABLE_FIELDS = {"steps", "minutes", "device", "threads", "hooks"}
"""Fields of a recipe that may change between an interruption and the resume."""

_MAX_NAMED = 20  # groups named in a card

# Side of the input, if the model allows it: a crop of 256 pixels takes four times as long.
_MAX_DEFAULT_SIZE_PX = 128


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
    from the first validation on, which is that of the untrained model.

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
    best = BestCheckpoint(base, recipe, data, out)
    training = Training(
        base.network,
        data,
        recipe,
        TrainingEnvironment(base.size, base.memory_limits, base.device, folder),
        hooks=[*_make_hooks(_compute_identity(base.card, recipe, data), recipe), *hooks],
        on_best=best,
    )
    try:
        result = training.run()
    except KeyboardInterrupt as error:
        raise TrainingError(
            f"interrupted at step {training.step}: {out} holds the best checkpoint so far; run "
            "the same call again to resume"
        ) from error
    return best.write_final_card(result, training.history[0])


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

    def write_final_card(self, result: TrainingResult, first_validation: Validation) -> ModelCard:
        """Write the same weights with a card that describes the whole training."""
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
