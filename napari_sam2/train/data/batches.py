"""Batches: objects of several clips with their first prompts, drawn anew or from a pool whose features are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.prompt import Said
from napari_sam2.models.network.sam2_network import Features, Network
from napari_sam2.train.data.augment import Augment
from napari_sam2.train.data.clip import Clip, ClipSource
from napari_sam2.train.data.simulated_prompts import first_prompt
from napari_sam2.train.forward import Batch, encode
from napari_sam2.train.recipe import Recipe, RecipeError, Shape

LEAST_PX = 10
"""Pixels an object must have on the first frame of a clip to be asked about."""

_TRIES = 200  # clips drawn in a row without an object, until it is said that there are none

Say = Callable[[np.ndarray], Said]
Noted = Callable[[Clip], Clip]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A batch, the (I, T, S, S) labels of all objects on its frames, and the features of these where they are kept."""

    batch: Batch
    labels: Tensor
    features: Features | None = None


@dataclass(frozen=True)
class Material:
    """What is trained on and what is validated on: items of a source, and how likely each is drawn."""

    source: ClipSource
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        for name, items in (("to train on", self.train), ("held out", self.held_out)):
            if not items:
                raise LabelsError(
                    f"no images {name}: expected at least one; give more data, or another share "
                    "to hold out"
                )
        both = {self.source.groups()[item] for item in self.train} & {
            self.source.groups()[item] for item in self.held_out
        }
        if both:
            raise LabelsError(
                f"groups {sorted(both)!r} are both trained on and held out: expected each on one "
                "side"
            )

    @property
    def probabilities(self) -> np.ndarray:
        """(items to train on,) how often each is drawn: as the source says, else all alike."""
        said = getattr(self.source, "probabilities", None)
        shares = said()[list(self.train)] if said else np.ones(len(self.train))
        return np.asarray(shares / shares.sum())


class Draws(Protocol):
    """Where batches come from."""

    def __call__(self, rng: np.random.Generator) -> Drawn:
        """The next batch."""
        ...


@dataclass(frozen=True)
class Stream:
    """Every batch new: clips drawn, walked either way, and augmented.

    `noted` sees each clip, and may change it.
    """

    material: Material
    recipe: Recipe
    size: int
    noted: Noted

    def __call__(self, rng: np.random.Generator) -> Drawn:
        """Clips of one of the recipe's shapes, and some objects of each."""
        shape = shape_of(self.recipe, rng)
        clips = [self.clip(shape, rng) for _ in range(shape.clips)]
        batch = assembled(
            clips,
            rng,
            most=shape.objects,
            say=lambda mask: first_prompt(mask, rng, self.recipe.prompts),
        )
        return Drawn(batch, torch.from_numpy(np.stack([clip.labels for clip in clips])))

    def clip(self, shape: Shape, rng: np.random.Generator) -> Clip:
        """One clip with an object on its first frame. Raises LabelsError where none is found."""
        train, shares = self.material.train, self.material.probabilities
        for _ in range(_TRIES):
            item = train[int(rng.choice(len(train), p=shares))]
            clip = self.material.source.draw(
                item, rng, length=shape.length, size=shape.size or self.size
            )
            if rng.random() < 0.5:
                clip = replace(
                    clip, frames=clip.frames[::-1].copy(), labels=clip.labels[::-1].copy()
                )
            clip = self.noted(self.material.augment(clip, rng))
            if len(objects_of(clip)):
                return clip
        raise LabelsError(
            f"no object of at least {LEAST_PX} pixels in {_TRIES} clips: are the objects "
            "labelled, and large enough?"
        )


class Pool:
    """Clips drawn once: what a frozen encoder makes of them is kept (float16, on the CPU), objects and prompts are drawn anew."""

    def __init__(self, stream: Stream, network: Network, device: str) -> None:
        rng = np.random.default_rng(stream.recipe.seed)
        if len(stream.recipe.shapes) > 1:
            raise RecipeError(
                "several shapes with a frozen image encoder: expected one, since features are kept"
            )
        self._shape = stream.recipe.shapes[0]
        self._recipe, self._network, self._device = stream.recipe, network, device
        self._clips = [stream.clip(self._shape, rng) for _ in range(stream.recipe.pool)]
        self._features: dict[int, Features] = {}

    def __call__(self, rng: np.random.Generator) -> Drawn:
        """Some clips of the pool, and some objects of each."""
        chosen = [
            int(each)
            for each in rng.choice(
                len(self._clips), min(self._shape.clips, len(self._clips)), replace=False
            )
        ]
        clips = [self._clips[each] for each in chosen]
        batch = assembled(
            clips,
            rng,
            most=self._shape.objects,
            say=lambda mask: first_prompt(mask, rng, self._recipe.prompts),
        )
        kept = [self._embedded(each) for each in chosen]
        fine, middle, coarse = (
            torch.cat([levels[index] for levels in kept]).to(self._device).float()
            for index in range(3)
        )
        return Drawn(
            batch,
            torch.from_numpy(np.stack([clip.labels for clip in clips])),
            (fine, middle, coarse),
        )

    @torch.no_grad()
    def _embedded(self, number: int) -> Features:
        if number not in self._features:
            frames = torch.from_numpy(self._clips[number].frames).to(self._device)
            parts = [encode(self._network, frame[None])[0] for frame in frames]
            fine, middle, coarse = (
                torch.cat([part[index] for part in parts]).half().cpu() for index in range(3)
            )
            self._features[number] = (fine, middle, coarse)
        return self._features[number]


def shape_of(recipe: Recipe, rng: np.random.Generator) -> Shape:
    """One of the recipe's shapes, by their shares."""
    shares = np.array([shape.share for shape in recipe.shapes])
    return recipe.shapes[int(rng.choice(len(shares), p=shares / shares.sum()))]


def objects_of(clip: Clip) -> np.ndarray:
    """Labels of the objects that are large enough on the first frame."""
    labels, counts = np.unique(clip.labels[0], return_counts=True)
    return np.asarray(labels[(labels > 0) & (counts >= LEAST_PX)])


def assembled(clips: Sequence[Clip], rng: np.random.Generator, *, most: int, say: Say) -> Batch:
    """At most so many objects of each clip, chosen at random, with what is said about each on the first frame."""
    which, masks, said = [], [], []
    for number, clip in enumerate(clips):
        for label in rng.permutation(objects_of(clip))[:most]:
            mask = clip.labels == label
            which.append(number)
            masks.append(mask)
            said.append(say(mask[0]))
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    return Batch(frames, torch.tensor(which), torch.from_numpy(np.stack(masks)), tuple(said))
