"""Train the embedded model on a pack of still images and on synthetic scenes.

    python checkpoints/make/nano.py PACK --out FILE --release checkpoints/nano.safetensors

After an interruption, the same call resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.models.weights import checkpoints
from napari_sam2.models.weights.card_files import read_card
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.clip_sources import PairSource, SourceMixture
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.finetune import finetune
from napari_sam2.train.hooks import LogHook
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.synthetic.clips import SyntheticSource

RECIPE = Path(__file__).parents[1] / "recipes" / "nano.toml"


@dataclass(frozen=True)
class TrainingDomain:
    """Images of a pack whose modality contains `modality`.

    Parameters
    ----------
    share
        How often they are drawn.
    diameters
        Range of the width of objects, in pixels of the input.
    """

    modality: str
    share: float
    diameters: tuple[float, float] = (7, 96)


DOMAINS = (
    TrainingDomain("fluorescence", 0.46),
    TrainingDomain("H&E", 0.14),
    TrainingDomain("brightfield", 0.05),
    TrainingDomain("MRI", 0.05),
    TrainingDomain("EM", 0.07),
    TrainingDomain("bacteria", 0.06, (7, 64)),
)
SYNTHETIC_SHARE = 0.17
"""Share of synthetic scenes: unlike still images, they move and change as stacks do."""

HELD_OUT = ("fluorescence", "H&E", "brightfield")
"""Modalities for validation: nuclei, which the model is made for."""

# Narrower than in training: a crop shows objects at about this width.
_VALIDATION_DIAMETERS_PX = (24.0, 48.0)

DESCRIPTION = (
    "SAM 2's heads at width 128 on a small convolutional encoder, 3.9 M parameters, looking at "
    "each object through a Window of its own. "
    "Good on nuclei and other blob-like objects, carried through z or t; weak on membranes, "
    "neurites and organs: docs/models.md"
)
DATA = {
    "Data Science Bowl 2018 stage 1 (BBBC038), community corrections": "604 images of nuclei, CC0",
    "Sunnybrook Cardiac Data (training part)": "118 slices, left ventricle, CC0",
    "FlyEM medulla FIB-SEM": "54 sections, neurites, CC-BY",
    "Omnipose examples": "7 images of bacteria, masks made by Omnipose, MIT",
    "napari_sam2.train.synthetic": "synthetic scenes: nuclei, tissue, filaments, membranes, "
    "organs, z-stacks and dividing time-lapses",
    "held out by image": "60 images of nuclei of the Data Science Bowl, and 13 slices of other "
    "patients",
}
"""The training data, for the card."""


def load_training_data(pack: Path) -> Dataset:
    """Load the pack as its manifest splits it, and synthetic scenes for training."""
    trained = [
        PairSource(_open_pairs(pack, "train", kind.modality), diameters=kind.diameters)
        for kind in DOMAINS
    ]
    held_out = PairSource(
        [pair for modality in HELD_OUT for pair in _open_pairs(pack, "val", modality)],
        diameters=_VALIDATION_DIAMETERS_PX,
    )
    mixture = SourceMixture(
        (*trained, SyntheticSource(), held_out),
        (*(kind.share for kind in DOMAINS), SYNTHETIC_SHARE, 1.0),
    )
    last = len(mixture) - len(held_out)
    order = np.random.default_rng(0).permutation(np.arange(last, len(mixture)))
    return Dataset(mixture, tuple(range(last)), tuple(int(item) for item in order))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or resume training."""
    parser = argparse.ArgumentParser(
        prog="python checkpoints/make/nano.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("pack", type=Path, help="folder with manifest.csv and .npz files")
    parser.add_argument("--out", type=Path, required=True, help="file of the best checkpoint")
    parser.add_argument("--model", default="nano", help="name or file of the model to start from")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="TOML file (%(default)s)")
    parser.add_argument("--release", type=Path, help="file of the result as the embedded model")
    options = parser.parse_args(arguments)
    finetune(
        load_training_data(options.pack),
        model=options.model,
        out=options.out,
        recipe=Recipe.read(options.recipe),
        hooks=[LogHook(_print_line)],
    )
    if options.release:
        write_release(options.out, options.release)
    return 0


def write_release(checkpoint: Path, path: Path) -> None:
    """Write the weights as the embedded model, with a card that says where they come from."""
    tensors, metadata = checkpoints.read_checkpoint(checkpoint)
    card = read_card(checkpoint)
    assert card is not None
    training = {
        key: value
        for key, value in card.training.items()
        if key in ("recipe", "before", "best", "steps")
    }
    released = replace(
        card,
        name=path.stem,
        description=DESCRIPTION,
        licence="BSD-3-Clause",
        source=(
            "napari_sam2, trained with its own code (checkpoints/make/nano.py, "
            "checkpoints/recipes/nano.toml)"
        ),
        sha256="",
        input_sizes=(128,),
        keep_aspect=True,
        object_crops=True,
        training={"data": DATA, **training},
    )
    checkpoints.write_checkpoint(
        path, tensors, released, metadata={"configuration": metadata["configuration"]}
    )


def _open_pairs(pack: Path, split: str, modality: str) -> list[Any]:
    return open_pack(pack, row_filter=lambda row: row.split == split and modality in row.modality)


def _print_line(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
