"""Validation on held-out clips, prompted as a person would prompt them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sam2.core.card import from_file_names, to_file_names
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.train.clip_propagation import (
    ClipPropagation,
    PromptedBatch,
    PropagationOptions,
    propagate_batch,
    resize_logits,
)
from napari_sam2.train.data.batches import Dataset, assemble_batch, find_large_objects
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.simulated_prompts import choose_correction, compute_box, find_middle
from napari_sam2.train.recipe import ValidationOptions

_FILE_NAMES = {"iou_propagated": "iou_carried"}
_MAX_TRIES = 20  # draws of a clip until one shows an object


@dataclass(frozen=True)
class Validation:
    """Means over held-out objects.

    Parameters
    ----------
    step
        Step of training; 0 is the untrained model.
    iou_1, iou_3, iou_box
        IoU on the first frame: of one click in the middle, after two corrections, of a box.
    iou_propagated
        IoU on the later frames that show the object, propagated from one click.
    count_error
        Objects too many or too few on a later frame, as a share of the true number.
    iou_track
        IoU of the whole track from one click, all frames together; frames that do not show the
        object count against it.
    """

    step: int
    iou_1: float
    iou_3: float
    iou_box: float
    iou_propagated: float
    count_error: float
    iou_track: float = 0.0

    @property
    def score(self) -> float:
        """What the best checkpoint maximises: the mean IoU, less a tenth of the count error."""
        return (
            self.iou_1 + self.iou_3 + self.iou_box + self.iou_propagated
        ) / 4 - 0.1 * self.count_error

    def to_state(self) -> dict[str, float]:
        """Return the fields by the names that training states and cards use."""
        return to_file_names(asdict(self), _FILE_NAMES)

    @classmethod
    def from_state(cls, values: Mapping[str, Any]) -> Validation:
        """Invert `to_state`."""
        return cls(**from_file_names(values, _FILE_NAMES))

    def as_dict(self) -> dict[str, float]:
        """Return the fields by their names in files, and the score."""
        return {**self.to_state(), "score": self.score}


def sample_validation_clips(
    dataset: Dataset, options: ValidationOptions, *, size: int, seed: int
) -> list[Clip]:
    """Draw the validation clips: always the same, of each held-out item in turn, not augmented."""
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
    """Validate on at most `max_objects` objects of each clip.

    Each object is prompted by a click and propagated, by three clicks, and by a box.
    """
    plain = replace(options, corrections={}, true_presence=False, age_offset=0)
    measured: dict[str, list[np.ndarray]] = {
        "iou_1": [],
        "iou_3": [],
        "iou_box": [],
        "iou_propagated": [],
        "count_error": [],
        "iou_track": [],
    }
    for clip in clips:
        clicked = _make_batch(clip, max_objects, "click", device)
        first = replace(clip, frames=clip.frames[:1], labels=clip.labels[:1])
        boxed = _make_batch(first, max_objects, "box", device)
        result = propagate_batch(network, clicked, plain, choose_correction)
        measured["iou_1"].append(_compute_ious(result, clicked, 0))
        measured["iou_track"].append(_compute_track_ious(result, clicked))
        for frame in range(1, len(clip)):
            present = clicked.masks[:, frame].flatten(1).any(dim=1).cpu().numpy()
            measured["iou_propagated"].append(_compute_ious(result, clicked, frame)[present])
            measured["count_error"].append(_compute_count_error(result, frame, present.sum()))
        corrected = replace(plain, corrections={0: 2})
        one_frame = replace(clicked, frames=clicked.frames[:, :1], masks=clicked.masks[:, :1])
        for name, batch, how in (("iou_3", one_frame, corrected), ("iou_box", boxed, plain)):
            result = propagate_batch(network, batch, how, choose_correction)
            measured[name].append(_compute_ious(result, batch, 0))
    means = {
        name: float(np.concatenate(values).mean()) if values else 0.0
        for name, values in measured.items()
    }
    return Validation(step, **means)


def compute_predicted_masks(
    propagation: ClipPropagation, batch: PromptedBatch, frame: int
) -> Tensor:
    """Compute (B, S, S) bool masks of a frame, as large as the clip."""
    return resize_logits(propagation.predictions[frame].logits.float(), batch.size) > 0


def _compute_count_error(propagation: ClipPropagation, frame: int, true_count: int) -> np.ndarray:
    count = int((propagation.predictions[frame].logits > 0).flatten(1).any(dim=1).sum())
    return np.array([abs(count - true_count) / max(1, true_count)])


def _compute_track_ious(propagation: ClipPropagation, batch: PromptedBatch) -> np.ndarray:
    """(B,) IoU over all frames of the clip together."""
    masks = [
        compute_predicted_masks(propagation, batch, frame) for frame in range(batch.masks.shape[1])
    ]
    predicted, truth = torch.stack(masks, dim=1), batch.masks
    union = (predicted | truth).sum(dim=(1, 2, 3)).clamp(min=1)
    return ((predicted & truth).sum(dim=(1, 2, 3)) / union).cpu().numpy()


def _compute_ious(propagation: ClipPropagation, batch: PromptedBatch, frame: int) -> np.ndarray:
    predicted, truth = compute_predicted_masks(propagation, batch, frame), batch.masks[:, frame]
    union = (predicted | truth).sum(dim=(1, 2)).clamp(min=1)
    return ((predicted & truth).sum(dim=(1, 2)) / union).cpu().numpy()


def _make_batch(clip: Clip, max_objects: int, kind: str, device: str) -> PromptedBatch:
    def make_prompt(mask: np.ndarray) -> FramePrompts:
        if kind == "box":
            return FramePrompts(box=compute_box(mask))
        return FramePrompts(points=(find_middle(mask),), positive=(True,))

    return assemble_batch(
        [clip], np.random.default_rng(0), max_objects=max_objects, sample_prompt=make_prompt
    ).to(device)
