"""Validation: how good a network is on clips it never trains on, prompted as a person would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_sam2.core.prompt import Said
from napari_sam2.models.network.sam2_network import Network
from napari_sam2.train.data.batches import Material, assembled, objects_of
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.simulated_prompts import box_of, correction, middle
from napari_sam2.train.forward import Batch, Rehearsed, Script, rehearse
from napari_sam2.train.recipe import Validating

_TRIES = 20  # clips drawn for one, until it shows an object


@dataclass(frozen=True)
class Validation:
    """Means over held-out objects.

    Parameters
    ----------
    step
        Of training; 0 is before it.
    iou_1, iou_3, iou_box
        IoU on the first frame after one click in the middle, after two corrections, after a box.
    iou_carried
        IoU on the frames after it that the object is on, carried from one click.
    count_error
        Objects too many or too few on a frame, in parts of those that are there, over the frames
        carried to.
    """

    step: int
    iou_1: float
    iou_3: float
    iou_box: float
    iou_carried: float
    count_error: float

    @property
    def score(self) -> float:
        """What the best checkpoint has most of: the mean of the IoUs, less a tenth of the count error."""
        return (
            self.iou_1 + self.iou_3 + self.iou_box + self.iou_carried
        ) / 4 - 0.1 * self.count_error

    def as_dict(self) -> dict[str, float]:
        """By name, and the score."""
        return {**asdict(self), "score": self.score}


def held_out(material: Material, asked: Validating, *, size: int, seed: int) -> list[Clip]:
    """The clips to validate on: always the same, each held-out item in turn, nothing augmented."""
    clips = []
    for number in range(asked.clips):
        item = material.held_out[number % len(material.held_out)]
        rng = np.random.default_rng([seed, number])
        for _ in range(_TRIES):
            clip = material.source.draw(item, rng, length=asked.length, size=size)
            if len(objects_of(clip)):
                clips.append(clip)
                break
    return clips


@torch.no_grad()
def validate(
    network: Network,
    clips: Sequence[Clip],
    script: Script,
    *,
    most: int,
    step: int = 0,
    device: str = "cpu",
) -> Validation:
    """Ask about at most so many objects of each clip: by a click and carried, by three clicks, by a box."""
    found: dict[str, list[np.ndarray]] = {
        "iou_1": [],
        "iou_3": [],
        "iou_box": [],
        "iou_carried": [],
        "count_error": [],
    }
    plain = replace(script, corrections={}, taught=False, older=0)
    for clip in clips:
        first = replace(clip, frames=clip.frames[:1], labels=clip.labels[:1])
        clicked, boxed = (
            _batch(each, most, kind, device) for each, kind in ((clip, "click"), (first, "box"))
        )
        walk = rehearse(network, clicked, plain, correction)
        found["iou_1"].append(_ious(walk, clicked, 0))
        for frame in range(1, len(clip)):
            there = clicked.masks[:, frame].flatten(1).any(dim=1).cpu().numpy()
            found["iou_carried"].append(_ious(walk, clicked, frame)[there])
            seen = int((walk.answers[frame].logits > 0).flatten(1).any(dim=1).sum())
            found["count_error"].append(np.array([abs(seen - there.sum()) / max(1, there.sum())]))
        thrice = replace(plain, corrections={0: 2})
        only = replace(clicked, frames=clicked.frames[:, :1], masks=clicked.masks[:, :1])
        found["iou_3"].append(_ious(rehearse(network, only, thrice, correction), only, 0))
        found["iou_box"].append(_ious(rehearse(network, boxed, plain, correction), boxed, 0))
    return Validation(
        step,
        **{
            name: float(np.concatenate(values).mean()) if values else 0.0
            for name, values in found.items()
        },
    )


def masks_of(walk: Rehearsed, batch: Batch, frame: int) -> Tensor:
    """(B, S, S) bool: the answers on a frame, as large as the clip."""
    logits = walk.answers[frame].logits[:, None].float()
    return (
        functional.interpolate(
            logits, size=(batch.size, batch.size), mode="bilinear", align_corners=False
        )[:, 0]
        > 0
    )


def _ious(walk: Rehearsed, batch: Batch, frame: int) -> np.ndarray:
    predicted, truth = masks_of(walk, batch, frame), batch.masks[:, frame]
    union = (predicted | truth).sum(dim=(1, 2)).clamp(min=1)
    return ((predicted & truth).sum(dim=(1, 2)) / union).cpu().numpy()


def _batch(clip: Clip, most: int, kind: str, device: str) -> Batch:
    def say(mask: np.ndarray) -> Said:
        return (
            Said(box=box_of(mask))
            if kind == "box"
            else Said(points=(middle(mask),), positive=(True,))
        )

    return assembled([clip], np.random.default_rng(0), most=most, say=say).to(device)
