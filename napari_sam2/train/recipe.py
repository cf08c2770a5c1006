"""Recipes of fine-tuning, read from TOML. Unknown fields are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from napari_sam2.core.errors import FileError, Sam2Error
from napari_sam2.train.data.annotated import ReadOptions
from napari_sam2.train.data.simulated_prompts import PromptSampling
from napari_sam2.train.losses import LossWeights
from napari_sam2.train.trainable import TrainableParts

Ability = Literal[
    "pointer_time", "previous_logits", "single_mask", "presence_head", "carried", "refinement"
]


class RecipeError(Sam2Error, ValueError):
    """A recipe with unknown or wrong fields."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True, extra="forbid", frozen=True)


class BatchShape(_StrictModel):
    """One kind of batch.

    Parameters
    ----------
    share
        How often it is drawn, relative to the other shapes of the recipe.
    size
        Side of the network's input in pixels, a multiple of 32. If None: 128, or the smallest size
        of the model.
    clips, length, objects
        Clips in a batch, frames in a clip, and objects of a clip, at most.
    """

    share: float = Field(default=1.0, gt=0)
    size: int | None = Field(default=None, gt=0, multiple_of=32)
    clips: int = Field(default=2, ge=1)
    length: int = Field(default=4, ge=1)
    objects: int = Field(default=6, ge=1)


class ValidationOptions(_StrictModel):
    """How often to validate, and on what.

    Parameters
    ----------
    share
        Share of the groups (images, movies, patients) that is held out.
    every
        Steps between validations.
    clips, length, objects
        Clips, always the same ones, frames in a clip, and objects of a clip, at most.
    size
        Side of the network's input in pixels. If None: the largest one of the training.
    patience
        Validations without improvement after which training stops. If None: never.
    """

    share: float = Field(default=0.2, gt=0, lt=1)
    every: int = Field(default=50, ge=1)
    clips: int = Field(default=12, ge=1)
    length: int = Field(default=4, ge=2)
    objects: int = Field(default=10, ge=1)
    size: int | None = Field(default=None, gt=0, multiple_of=32)
    patience: int | None = Field(default=6, ge=1)


class Recipe(_StrictModel):
    """How to fine-tune.

    Parameters
    ----------
    reading
        How to read images if their files do not define it: see `annotated.ReadOptions`.
    trainable
        What trains: "decoder", "decoder+memory", "everything" or "lora"; see
        `trainable.select_trainable`. If None: everything of a model that crops objects, as the
        embedded one does, and the decoder and memory of others.
    abilities
        Abilities that the model has no trained weights for: see `models.network.configs`.
    steps, minutes
        When to stop, whichever comes first. The learning rate falls in the same time.
    learning_rate, schedule, warmup, weight_decay, clip_norm
        Of AdamW. "cosine" falls to a hundredth, "constant" does not. `warmup` is the number of
        first steps in which the rate rises, `clip_norm` the largest norm of the gradient.
    average
        Decay of the running average of the weights, which is validated and saved; with 0, the
        weights themselves are.
    accumulate
        Batches per step of the optimizer: for large batches on a small device.
    precision
        "float32", "bfloat16" or "float16" (mixed; for CUDA). On a CPU the last two are slower.
    shapes
        Kinds of batches, drawn by their shares.
    recent, pointers
        Tracked memories and object pointers that the network sees. If None: those of the model's
        card. The card of the result has the same values.
    prompts, correction_shares, random_correction_share
        How objects are prompted first; shares of batches with 0, 1, 2, … correction clicks; share
        of corrections anywhere on the wrong pixels instead of in their middle.
    true_presence_steps
        First steps in which presence is taken from the truth, because the model only learns to
        predict it.
    pool
        Number of clips that are drawn once and reused, if the image encoder does not train. Their
        features are cached.
    losses
        Weights of the parts of the loss.
    rehearsal
        Share of clips of the embedded model's training data, so that they are not forgotten: see
        `data.rehearsal`. Ignored for a dataset that is already split. Use 0 if only the new domain
        matters.
    diameters
        Range of the width of objects, in pixels of the input. If None: as an object crop shows
        them, or about their own size.
    rank
        Rank of the adapters of "lora".
    hooks
        Names of hooks of other packages.
    detector
        Whether a copy of the model's detector is tuned too: "never", "always", or with "auto"
        unless the frames seem to be annotated in part only. Only frames whose objects all have
        labels teach what is background.
    detector_steps
        Steps of the detector; at most half of `steps`, and at most a third of `minutes`.
    device, threads, seed
        "auto", "cpu", "cuda" or "mps"; threads of the CPU (if None: torch's default); seed of all
        random numbers.
    """

    reading: ReadOptions = ReadOptions()
    trainable: TrainableParts | None = Field(
        default=None,
        validation_alias=AliasChoices("trainable", "trains"),
        serialization_alias="trains",
    )
    abilities: tuple[Ability, ...] = Field(
        default=(),
        validation_alias=AliasChoices("abilities", "learns"),
        serialization_alias="learns",
    )
    steps: int = Field(default=600, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: int = Field(default=30, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.98, ge=0, lt=1)
    accumulate: int = Field(default=1, ge=1)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    shapes: tuple[BatchShape, ...] = Field(default=(BatchShape(),), min_length=1)
    recent: int | None = Field(default=None, ge=0)
    pointers: int | None = Field(default=None, ge=1)
    prompts: PromptSampling = PromptSampling()
    correction_shares: tuple[float, ...] = Field(
        default=(0.4, 0.4, 0.2),
        min_length=1,
        validation_alias=AliasChoices("correction_shares", "corrected"),
        serialization_alias="corrected",
    )
    random_correction_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        validation_alias=AliasChoices("random_correction_share", "loose"),
        serialization_alias="loose",
    )
    true_presence_steps: int = Field(
        default=0,
        ge=0,
        validation_alias=AliasChoices("true_presence_steps", "taught"),
        serialization_alias="taught",
    )
    pool: int = Field(default=48, ge=1)
    losses: LossWeights = LossWeights()
    rehearsal: float = Field(default=0.6, ge=0, lt=1)
    diameters: tuple[float, float] | None = None
    validation: ValidationOptions = Field(
        default=ValidationOptions(),
        validation_alias=AliasChoices("validation", "validating"),
        serialization_alias="validating",
    )
    rank: int = Field(default=8, ge=1)
    hooks: tuple[str, ...] = ()
    detector: Literal["auto", "always", "never"] = "auto"
    detector_steps: int = Field(default=300, ge=1)
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe from a TOML file.

        Raises FileError if it cannot be read, RecipeError for unknown or wrong fields.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FileError(
                f"{path}: cannot be read ({error.strerror or error}); expected a recipe in TOML"
            ) from error
        except (ValueError, RecursionError) as error:  # wrong syntax, encoding, depth, or length
            raise RecipeError(f"{path}: is not valid TOML ({error})") from error
        return cls.of(values, source=str(path))

    @classmethod
    def of(cls, values: object, *, source: str = "recipe") -> Recipe:
        """Make a recipe of plain values, as TOML and JSON have them. Raises RecipeError."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
            )
            fields = ", ".join(
                field.serialization_alias or name for name, field in cls.model_fields.items()
            )
            raise RecipeError(
                f"{source}: {problems}; the fields of a recipe are {fields}"
            ) from error
