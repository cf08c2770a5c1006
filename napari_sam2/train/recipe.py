"""Recipe: how to fine-tune. Read from TOML; unknown fields are errors."""

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
    """A recipe that cannot be followed."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True, extra="forbid", frozen=True)


class BatchShape(_StrictModel):
    """One kind of batch.

    Parameters
    ----------
    share
        How often it is drawn, against the other shapes of the recipe.
    size
        Side of the network's input in pixels, a multiple of 32; 128 where None, or the smallest the
        model takes.
    clips, length, objects
        Clips in a batch, frames in each, and at most so many objects of each.
    """

    share: float = Field(default=1.0, gt=0)
    size: int | None = Field(default=None, gt=0, multiple_of=32)
    clips: int = Field(default=2, ge=1)
    length: int = Field(default=4, ge=1)
    objects: int = Field(default=6, ge=1)


class ValidationOptions(_StrictModel):
    """How often, and on what.

    Parameters
    ----------
    share
        Of the groups (images, movies, patients) that is held out; what the data themselves hold out
        goes before it.
    every
        Steps between validations.
    clips, length, objects
        Clips that are looked at, always the same ones, frames in each, and at most so many objects
        of each.
    size
        Side of the network's input in pixels; the largest that is trained on where None.
    patience
        Validations without improvement after which training stops; None: never.
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
        How the images are to be read where their files do not say: axes, along, channel, linked;
        see `annotated.ReadOptions`.
    trainable
        What trains: "decoder", "decoder+memory", "everything" or "lora"; see `tuned.choose`. Where
        None, everything of a small model that follows, as the embedded one does, and decoder and
        memory of a large one.
    abilities
        What the model has no trained weights for, and is taught: see
        `models.configs.Configuration`.
    steps, minutes
        When to stop, whichever comes first; `minutes` also brings the learning rate down in time.
    learning_rate, schedule, warmup, weight_decay, clip_norm
        Of AdamW; "cosine" falls to a hundredth, "constant" stays; steps of rising at the start;
        longest gradient.
    average
        Decay of the running mean of the weights, which is what is validated and saved; 0: the
        weights themselves.
    accumulate
        Batches for each step of the optimizer: a large batch on a small device.
    precision
        "float32", "bfloat16" or "float16" (mixed; for CUDA). On a CPU the others are slower.
    shapes
        Kinds of batches, drawn by their shares.
    recent, pointers
        Tracked memories and object pointers shown; those of the model's card where None. The
        result's card says the same.
    prompts, correction_shares, random_correction_share
        How objects are shown first; shares of batches with 0, 1, 2, … correcting clicks; share of
        corrections that fall anywhere on what is wrong instead of in the middle of it.
    true_presence_steps
        Steps in which the presence of an object is told and not guessed, where it only learns to
        guess it.
    pool
        Clips drawn once, and used again and again, where the image encoder does not train: their
        features are kept.
    losses
        Weights of the parts of the loss.
    rehearsal
        Share of clips that show what the embedded model was trained on, so that it is not
        forgotten: see `rehearsal`. Only where data are given as files or pairs; 0 where nothing but
        the new domain matters.
    diameters
        How wide objects appear, in pixels of the input; where None as a model that follows shows
        them, else about as large as they are.
    rank
        Of the adapters of "lora".
    hooks
        Names of hooks of other packages.
    device, threads, seed
        "auto", "cpu", "cuda", "mps"; CPU threads (torch's own choice where None); of everything
        that is random.
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
    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """The recipe in a TOML file.

        Raises FileError where there is none, RecipeError for fields nobody knows or cannot use.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FileError(
                f"{path}: cannot be read ({error.strerror or error}); expected a recipe in TOML"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: no TOML ({error})") from error
        return cls.of(values, where=str(path))

    @classmethod
    def of(cls, values: object, *, where: str = "recipe") -> Recipe:
        """The recipe of plain values, as TOML and JSON have them. Raises RecipeError."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
            )
            raise RecipeError(
                f"{where}: {wrong}; expected the fields of Recipe: {', '.join(cls.model_fields)}"
            ) from error
