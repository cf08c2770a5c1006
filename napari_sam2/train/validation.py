"""Validation: how good a network is on clips it never trains on, prompted as a person would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_sam2.core.card import from_file_names, to_file_names
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.train.data.batches import Dataset, assemble_batch, find_large_objects
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.simulated_prompts import choose_correction, compute_box, find_middle
from napari_sam2.train.forward import (
    ClipPropagation,
    PromptedBatch,
    PropagationOptions,
    propagate_batch,
)
from napari_sam2.train.recipe import ValidationOptions

_FILE_NAMES = {"iou_propagated": "iou_carried"}
_MAX_TRIES = 20  # clips drawn for one, until it shows an object


@dataclass(frozen=True)
class Validation:
    """Means over held-out objects.

    Parameters
    ----------
    step
        Of training; 0 is before it.
    iou_1, iou_3, iou_box
        IoU on the first frame after one click in the middle, after two corrections, after a box.
    iou_propagated
        IoU on the frames after it that the object is on, carried from one click.
    count_error
        Objects too many or too few on a frame, in parts of those that are there, over the frames
        carried to.
    """

    step: int
    iou_1: float
    iou_3: float
    iou_box: float
    iou_propagated: float
    count_error: float

    @property
    def score(self) -> float:
        """What the best checkpoint has most of: the mean of the IoUs, less a tenth of the count error."""
        return (
            self.iou_1 + self.iou_3 + self.iou_box + self.iou_propagated
        ) / 4 - 0.1 * self.count_error

    def to_state(self) -> dict[str, float]:
        """The fields by the names that training states and cards use."""
        return to_file_names(asdict(self), _FILE_NAMES)

    @classmethod
    def from_state(cls, values: Mapping[str, Any]) -> Validation:
        """The inverse of `to_state`."""
        return cls(**from_file_names(values, _FILE_NAMES))

    def as_dict(self) -> dict[str, float]:
        """By name, and the score."""
        return {**self.to_state(), "score": self.score}


def sample_validation_clips(
    dataset: Dataset, options: ValidationOptions, *, size: int, seed: int
) -> list[Clip]:
    """The clips to validate on: always the same, each held-out item in turn, nothing augmented."""
    clips = []
    for number in range(options.clips):
        item = dataset.held_out[number % len(dataset.held_out)]
        rng = np.random.default_rng([seed, number])
        for _ in range(_MAX_TRIES):
            clip = dataset.source.draw(item, rng, length=options.length, size=size)
            if len(find_large_objects(clip)):
                clips.append(clip)
                break
    return clips


@torch.no_grad()
def validate(
    network: Sam2Network,
    clips: Sequence[Clip],
    options: PropagationOptions,
    *,
    max_objects: int,
    step: int = 0,
    device: str = "cpu",
) -> Validation:
    """Ask about at most so many objects of each clip: by a click and carried, by three clicks, by a box."""
    found: dict[str, list[np.ndarray]] = {
        "iou_1": [],
        "iou_3": [],
        "iou_box": [],
        "iou_propagated": [],
        "count_error": [],
    }
    plain = replace(options, corrections={}, true_presence=False, age_offset=0)
    for clip in clips:
        first = replace(clip, frames=clip.frames[:1], labels=clip.labels[:1])
        clicked, boxed = (
            _make_batch(each, max_objects, kind, device)
            for each, kind in ((clip, "click"), (first, "box"))
        )
        walk = propagate_batch(network, clicked, plain, choose_correction)
        found["iou_1"].append(_compute_ious(walk, clicked, 0))
        for frame in range(1, len(clip)):
            there = clicked.masks[:, frame].flatten(1).any(dim=1).cpu().numpy()
            found["iou_propagated"].append(_compute_ious(walk, clicked, frame)[there])
            seen = int((walk.predictions[frame].logits > 0).flatten(1).any(dim=1).sum())
            found["count_error"].append(np.array([abs(seen - there.sum()) / max(1, there.sum())]))
        thrice = replace(plain, corrections={0: 2})
        only = replace(clicked, frames=clicked.frames[:, :1], masks=clicked.masks[:, :1])
        found["iou_3"].append(
            _compute_ious(propagate_batch(network, only, thrice, choose_correction), only, 0)
        )
        found["iou_box"].append(
            _compute_ious(propagate_batch(network, boxed, plain, choose_correction), boxed, 0)
        )
    return Validation(
        step,
        **{
            name: float(np.concatenate(values).mean()) if values else 0.0
            for name, values in found.items()
        },
    )


def compute_predicted_masks(
    propagation: ClipPropagation, batch: PromptedBatch, frame: int
) -> Tensor:
    """(B, S, S) bool: the answers on a frame, as large as the clip."""
    logits = propagation.predictions[frame].logits[:, None].float()
    return (
        functional.interpolate(
            logits, size=(batch.size, batch.size), mode="bilinear", align_corners=False
        )[:, 0]
        > 0
    )


def _compute_ious(propagation: ClipPropagation, batch: PromptedBatch, frame: int) -> np.ndarray:
    predicted, truth = compute_predicted_masks(propagation, batch, frame), batch.masks[:, frame]
    union = (predicted | truth).sum(dim=(1, 2)).clamp(min=1)
    return ((predicted & truth).sum(dim=(1, 2)) / union).cpu().numpy()


def _make_batch(clip: Clip, max_objects: int, kind: str, device: str) -> PromptedBatch:
    def say(mask: np.ndarray) -> FramePrompts:
        return (
            FramePrompts(box=compute_box(mask))
            if kind == "box"
            else FramePrompts(points=(find_middle(mask),), positive=(True,))
        )

    return assemble_batch(
        [clip], np.random.default_rng(0), max_objects=max_objects, sample_prompt=say
    ).to(device)
