"""Training batches: objects of several clips with their first prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.models.network.sam2_network import Features, Sam2Network
from napari_sam2.train.clip_propagation import PromptedBatch, encode_frames
from napari_sam2.train.data.augment import Augmentation
from napari_sam2.train.data.clip import Clip, ClipSource, WeightedSource
from napari_sam2.train.data.simulated_prompts import sample_first_prompt
from napari_sam2.train.recipe import BatchShape, Recipe, RecipeError

MIN_OBJECT_PX = 10
"""Pixels that an object must have on the first frame of a clip to be prompted."""

_MAX_TRIES = 200  # draws of clips without an object until an error

PromptSampler = Callable[[np.ndarray], FramePrompts]
ClipTransform = Callable[[Clip], Clip]


@dataclass(frozen=True, eq=False)
class SampledBatch:
    """A batch with all labels of its frames.

    Parameters
    ----------
    labels
        (I, T, S, S) labels of all objects, prompted or not.
    features
        Features of the frames, if they are cached.
    """

    batch: PromptedBatch
    labels: Tensor
    features: Features | None = None


@dataclass(frozen=True)
class Dataset:
    """Items of a source for training and for validation, and the augmentation for training."""

    source: ClipSource
    train: tuple[int, ...]
    held_out: tuple[int, ...]
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, items in (("to train on", self.train), ("held out", self.held_out)):
            if not items:
                raise LabelsError(
                    f"there are no images {name}: expected at least one; give more data, or "
                    "another share to hold out"
                )
        both = {self.source.groups()[item] for item in self.train} & {
            self.source.groups()[item] for item in self.held_out
        }
        if both:
            raise LabelsError(
                f"groups {sorted(both)!r} are both trained on and held out: put each on one side"
            )

    @property
    def probabilities(self) -> np.ndarray:
        """(training items,) the probability of each: that of the source, if it has any."""
        if isinstance(self.source, WeightedSource):
            shares = self.source.probabilities()[list(self.train)]
        else:
            shares = np.ones(len(self.train))
        return np.asarray(shares / shares.sum())


class BatchSampler(Protocol):
    """Draws batches."""

    def __call__(self, rng: np.random.Generator) -> SampledBatch:
        """Draw the next batch."""
        ...


@dataclass(frozen=True)
class StreamingSampler:
    """Draws new clips for every batch, in either direction, and augments them.

    `transform` may change each clip.
    """

    dataset: Dataset
    recipe: Recipe
    size: int
    transform: ClipTransform

    def __call__(self, rng: np.random.Generator) -> SampledBatch:
        """Draw clips of one of the recipe's shapes, and some objects of each."""
        shape = sample_shape(self.recipe, rng)
        clips = [self.sample_clip(shape, rng) for _ in range(shape.clips)]
        batch = assemble_batch(
            clips,
            rng,
            max_objects=shape.objects,
            sample_prompt=lambda mask: sample_first_prompt(mask, rng, self.recipe.prompts),
        )
        return SampledBatch(batch, torch.from_numpy(np.stack([clip.labels for clip in clips])))

    def sample_clip(self, shape: BatchShape, rng: np.random.Generator) -> Clip:
        """Draw a clip with an object on its first frame. Raises LabelsError if there is none."""
        train, shares = self.dataset.train, self.dataset.probabilities
        for _ in range(_MAX_TRIES):
            item = train[int(rng.choice(len(train), p=shares))]
            clip = self.dataset.source.draw(
                item, rng, length=shape.length, size=shape.size or self.size
            )
            if rng.random() < 0.5:
                clip = replace(
                    clip, frames=clip.frames[::-1].copy(), labels=clip.labels[::-1].copy()
                )
            clip = self.transform(self.dataset.augment(clip, rng))
            if len(find_large_objects(clip)):
                return clip
        raise LabelsError(
            f"{_MAX_TRIES} clips show no object of at least {MIN_OBJECT_PX} pixels: label the "
            "objects, or give larger ones"
        )


class CachedFeatureSampler:
    """Draws clips once and caches their features, for a frozen encoder.

    Features are float16 on the CPU. Objects and prompts are drawn for every batch.
    """

    def __init__(self, sampler: StreamingSampler, network: Sam2Network, device: str) -> None:
        rng = np.random.default_rng(sampler.recipe.seed)
        if len(sampler.recipe.shapes) > 1:
            raise RecipeError(
                f"{len(sampler.recipe.shapes)} shapes with a frozen image encoder: expected one, "
                "because features are cached"
            )
        self._shape = sampler.recipe.shapes[0]
        self._recipe, self._network, self._device = sampler.recipe, network, device
        self._clips = [sampler.sample_clip(self._shape, rng) for _ in range(sampler.recipe.pool)]
        self._features: dict[int, Features] = {}

    def __call__(self, rng: np.random.Generator) -> SampledBatch:
        """Choose some clips of the pool, and some objects of each."""
        count = min(self._shape.clips, len(self._clips))
        chosen = rng.choice(len(self._clips), count, replace=False).tolist()
        clips = [self._clips[each] for each in chosen]
        batch = assemble_batch(
            clips,
            rng,
            max_objects=self._shape.objects,
            sample_prompt=lambda mask: sample_first_prompt(mask, rng, self._recipe.prompts),
        )
        features = [self._get_features(each) for each in chosen]
        fine, middle, coarse = (
            torch.cat([levels[index] for levels in features]).to(self._device).float()
            for index in range(3)
        )
        return SampledBatch(
            batch,
            torch.from_numpy(np.stack([clip.labels for clip in clips])),
            (fine, middle, coarse),
        )

    @torch.no_grad()
    def _get_features(self, number: int) -> Features:
        if number not in self._features:
            frames = torch.from_numpy(self._clips[number].frames).to(self._device)
            parts = [encode_frames(self._network, frame[None])[0] for frame in frames]
            fine, middle, coarse = (
                torch.cat([part[index] for part in parts]).half().cpu() for index in range(3)
            )
            self._features[number] = (fine, middle, coarse)
        return self._features[number]


def sample_shape(recipe: Recipe, rng: np.random.Generator) -> BatchShape:
    """Draw one of the recipe's shapes by their shares."""
    shares = np.array([shape.share for shape in recipe.shapes])
    return recipe.shapes[int(rng.choice(len(shares), p=shares / shares.sum()))]


def find_large_objects(clip: Clip) -> np.ndarray:
    """Find the labels of objects that are large enough on the first frame."""
    labels, counts = np.unique(clip.labels[0], return_counts=True)
    return np.asarray(labels[(labels > 0) & (counts >= MIN_OBJECT_PX)])


def assemble_batch(
    clips: Sequence[Clip],
    rng: np.random.Generator,
    *,
    max_objects: int,
    sample_prompt: PromptSampler,
) -> PromptedBatch:
    """Assemble a batch of at most `max_objects` random objects of each clip, with prompts."""
    clip_indices, masks, prompts = [], [], []
    for index, clip in enumerate(clips):
        for label in rng.permutation(find_large_objects(clip))[:max_objects]:
            mask = clip.labels == label
            clip_indices.append(index)
            masks.append(mask)
            prompts.append(sample_prompt(mask[0]))
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    return PromptedBatch(
        frames, torch.tensor(clip_indices), torch.from_numpy(np.stack(masks)), tuple(prompts)
    )
