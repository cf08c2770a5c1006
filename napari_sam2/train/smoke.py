"""A smoke training of some seconds on drawn squares, to test hooks and this package.

Its results are of no other use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from napari_sam2.core.card import ModelCard
from napari_sam2.models.network.configs import Configuration
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.models.weights import checkpoints
from napari_sam2.train.data.augment import Augmentation
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.finetune import finetune
from napari_sam2.train.hooks import Hook
from napari_sam2.train.recipe import Recipe

TINY = Configuration(
    encoder="conv",
    hidden=128,
    memory_layers=1,
    feed_forward=64,
    decoder_feed_forward=64,
    fuser=64,
    iou_hidden=64,
    dense_prompts=True,
)
"""The smallest possible network; its input is 64 pixels wide."""


class StripedSquares:
    """Draws four striped squares on noise that move by two pixels a frame."""

    def __init__(self, count: int = 4) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def groups(self) -> Sequence[str]:
        """A group for each scene."""
        return [f"scene {item}" for item in range(self.count)]

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        """Draw scene number `item`, which is always the same."""
        del rng
        scene_rng = np.random.default_rng(item)
        frames = 0.3 + 0.05 * scene_rng.standard_normal((length, size, size)).astype(np.float32)
        labels = np.zeros(frames.shape, dtype=np.int32)
        side = size // 4
        stripes = 0.7 + 0.2 * (-1.0) ** (np.arange(side) // 2)
        for label, corner in enumerate(
            ((2, 2), (2, size // 2), (size // 2, 4), (size // 2, size // 2 + 4)), start=1
        ):
            y, x = np.array(corner) + scene_rng.integers(0, size // 16, 2)
            for frame in range(length):
                square = (frame, slice(y, y + side), slice(x + 2 * frame, x + 2 * frame + side))
                frames[square], labels[square] = stripes[:, None], label
        return Clip(frames, labels, name=f"striped {item}", group=f"scene {item}")


def make_dataset() -> Dataset:
    """Make a dataset of three training scenes and one held-out scene, without augmentation."""
    return Dataset(StripedSquares(), (0, 1, 2), (3,), Augmentation.identity())


def write_tiny_model(folder: Path) -> Path:
    """Write a `TINY` network of random weights to a file."""
    path = folder / "tiny.safetensors"
    card = ModelCard(
        "tiny", licence="CC0-1.0", input_sizes=(64,), keep_aspect=True, memory_slots=3, pointers=4
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Sam2Network(TINY)
        for name, value in network.named_parameters():
            if value.ndim > 1 and "positional_embedding" not in name:
                nn.init.normal_(value, std=(2.0 / value[0].numel()) ** 0.5)
    network.shared_image_embedding.positional_embedding.copy_(
        network.prompt_encoder.shared_embedding.positional_embedding
    )
    checkpoints.write_checkpoint(
        path, network.state_dict(), card, metadata={"configuration": TINY.to_json()}
    )
    return path


def make_recipe(**changes: object) -> Recipe:
    """Make a recipe of six quick steps and three validations; `changes` are its fields."""
    shape = {"size": 64, "clips": 2, "length": 2, "objects": 3}
    quick = {"every": 3, "clips": 1, "length": 2, "objects": 3, "patience": None}
    return Recipe.of(
        {
            "trains": "everything",
            "rehearsal": 0,
            "steps": 6,
            "shapes": [shape],
            "validating": quick,
            "pool": 3,
            "device": "cpu",
            "threads": 1,
            **changes,
        }
    )


def run_smoke_training(folder: Path, hooks: Sequence[Hook] = ()) -> ModelCard:
    """Train ``trial.safetensors`` in `folder`, or resume an interrupted smoke training there."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "tiny.safetensors"
    return finetune(
        make_dataset(),
        model=model if model.is_file() else write_tiny_model(folder),
        out=folder / "trial.safetensors",
        recipe=make_recipe(),
        hooks=hooks,
    )
