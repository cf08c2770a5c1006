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
from napari_sam2.models.gpu_memory import Fitting
from napari_sam2.models.load import load_model
from napari_sam2.models.network.sam2_network import Network
from napari_sam2.models.predictor import Sam2
from napari_sam2.models.weights import checkpoints
from napari_sam2.train.adapt import taught
from napari_sam2.train.data.batches import Material
from napari_sam2.train.data.datasets import material_of
from napari_sam2.train.data.pairs import Pair
from napari_sam2.train.hooks import HOOKS, Checkpointing, CsvLog, EarlyStopping, Hook, LearningRate
from napari_sam2.train.loop import Outcome, Setting, Training, TrainingError
from napari_sam2.train.lora import merged
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.trainable import Trains, choose
from napari_sam2.train.validation import Validation

Data = Material | Sequence[Pair | str | Path] | str | Path
"""Paths as `found.find_pairs` takes them, pairs, or both sides chosen already."""

_FREE = {"steps", "minutes", "device", "threads", "hooks"}
"""Fields of a recipe that may be changed between an interruption and going on."""

_FEW = 20  # groups named in a card
# side of the input where the model takes it: a crop is learned from in a quarter of the time of one
# of 256
_USUAL = 128


def finetune(
    data: Data,
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
        See `Data`. Part of the images, movies or patients (of a single stack, part of its frames)
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
    _check_place(out, folder)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    base = Base.of(model, chosen)
    chosen = chosen.model_copy(update={"trains": base.trains})
    material = (
        data if isinstance(data, Material) else material_of(data, chosen, follows=base.card.follows)
    )
    kept = Kept(base, chosen, material, out)
    built_in: list[Hook] = [
        Checkpointing(_identity(base.card, chosen, material)),
        LearningRate(),
        CsvLog(),
    ]
    if chosen.validating.patience is not None:
        built_in.append(EarlyStopping(chosen.validating.patience))
    named = [HOOKS.get(name)() for name in chosen.hooks]
    setting = Setting(base.size, base.recent, base.pointers, base.device, folder)
    training = Training(
        base.network, material, chosen, setting, hooks=[*built_in, *named, *hooks], kept=kept
    )
    try:
        outcome = training.run()
    except KeyboardInterrupt as error:
        raise TrainingError(
            f"interrupted at step {training.step}: {out} holds the best so far; the same call "
            "goes on"
        ) from error
    return kept.finished(outcome, training.history[0])


@dataclass(frozen=True, eq=False)
class Base:
    """The model that training starts from, ready to train: on its device, its weights chosen."""

    network: Network
    card: ModelCard
    trains: Trains
    device: str
    size: int
    recent: int
    pointers: int

    @classmethod
    def of(cls, name: str | Path, recipe: Recipe) -> Base:
        """Load it and choose what trains. Raises ModelError for a model that is not one of ours."""
        model = load_model(name, device=recipe.device)
        model = model.inner if isinstance(model, Fitting) else model
        if not isinstance(model, Sam2):
            raise ModelError(
                f"{model.card.name} is brought by another package: only SAM 2 and its relatives "
                "can be trained here"
            )
        card = model.card
        trains: Trains = recipe.trains or ("everything" if card.follows else "decoder+memory")
        network = taught(model.network, recipe.learns).to(model.device)
        choose(network, trains, rank=recipe.rank)
        usual = [side for side in card.input_sizes if side <= _USUAL]
        recent = card.memory_slots - 1 if recipe.recent is None else recipe.recent
        if recent >= network.configuration.slots:
            raise ModelError(
                f"recent is {recent}: {card.name} has temporal encodings for 0 to "
                f"{network.configuration.slots - 1}"
            )
        size, pointers = max(usual, default=card.input_sizes[0]), recipe.pointers or card.pointers
        return cls(network.to(model.device), card, trains, model.device, size, recent, pointers)


@dataclass(frozen=True, eq=False)
class Kept:
    """The best weights so far, in a file; called with each better validation."""

    base: Base
    recipe: Recipe
    material: Material
    out: Path

    def __call__(self, network: Network, validation: Validation) -> None:
        """Write the weights, as precise as the model they come from, with their card."""
        self._write(merged(network), {"best": validation.as_dict()})

    def finished(self, outcome: Outcome, before: Validation) -> ModelCard:
        """The same weights, their card telling of the whole training."""
        tensors, _ = checkpoints.read(self.out)
        figures = {
            "before": before.as_dict(),
            "best": outcome.best.as_dict(),
            "steps": outcome.steps,
            "ended": outcome.reason,
        }
        return self._write(tensors, figures)

    def _write(self, tensors: Mapping[str, Tensor], figures: Mapping[str, Any]) -> ModelCard:
        half = {name: value.half() for name, value in tensors.items()}
        metadata = {"configuration": self.base.network.configuration.to_json()}
        return checkpoints.write(self.out, half, self._card(figures), metadata=metadata)

    def _card(self, figures: Mapping[str, Any]) -> ModelCard:
        base, groups = self.base.card, self.material.source.groups()
        sides = {"trained_on": self.material.train, "held_out": self.material.held_out}
        told = {
            "base": {"name": base.name, "sha256": base.sha256, "source": base.source},
            "trains": self.recipe.trains,
            "recipe": self.recipe.model_dump(mode="json", exclude_defaults=True),
            "data": {
                side: _named(sorted({groups[item] for item in items}))
                for side, items in sides.items()
            },
            **figures,
        }
        return replace(
            base,
            name=self.out.stem,
            description=(
                f"{base.name}, fine-tuned ({self.recipe.trains}) on "
                f"{len(self.material.train)} images or stacks"
            ),
            source=f"napari_sam2 finetune, from {base.name}",
            sha256="",
            memory_slots=self.base.recent + 1,
            pointers=self.base.pointers,
            training=told,
        )


def _named(groups: Sequence[str]) -> list[str]:
    """The names of a few groups; of many, the first and how many more."""
    return (
        list(groups) if len(groups) <= _FEW else [*groups[:_FEW], f"and {len(groups) - _FEW} more"]
    )


def _identity(card: ModelCard, recipe: Recipe, material: Material) -> str:
    groups = material.source.groups()
    made_of = {
        "model": card.sha256,
        "recipe": recipe.model_dump(mode="json", exclude=_FREE, exclude_defaults=True),
        "data": [[groups[item] for item in side] for side in (material.train, material.held_out)],
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _check_place(out: Path, folder: Path) -> None:
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: expected a name ending in .safetensors")
    if out.exists() and not (folder / "state.pt").is_file():
        raise OutputError(f"{out}: is there already: remove it, or choose another name")
