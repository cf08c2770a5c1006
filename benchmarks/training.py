"""Training of the embedded model: a pack of still images (see `train.packs`) and painted scenes, each kind as often as said here.

python -m benchmarks.training PACK --out nano.safetensors [--model nano] [--recipe checkpoints/recipes/nano.toml]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.train.batches import Material
from napari_sam2.train.finetune import finetune
from napari_sam2.train.hooks import Lines
from napari_sam2.train.packs import open_pack
from napari_sam2.train.painted import PaintedSource
from napari_sam2.train.recipe import Recipe
from napari_sam2.train.sources import Mixture, PairSource

RECIPE = Path(__file__).parents[1] / "checkpoints" / "recipes" / "nano.toml"


@dataclass(frozen=True)
class Kind:
    """Images of a pack whose modality contains `modality`: how often they are drawn, and how wide objects appear, in pixels."""

    modality: str
    share: float
    diameters: tuple[float, float] = (7, 96)


KINDS = (
    Kind("fluorescence", 0.46),
    Kind("H&E", 0.14),
    Kind("brightfield", 0.05),
    Kind("MRI", 0.05),
    Kind("EM", 0.07),
    Kind("bacteria", 0.06, (7, 64)),
)
PAINTED = 0.17
"""Share of painted scenes: they move and change as stacks do, which still images cannot."""

HELD_OUT = ("fluorescence", "H&E", "brightfield")
"""What is validated on: nuclei, which the model is for."""

_VALIDATED_AT = (24.0, 48.0)  # pixels wide, narrower than in training: what a window is made for


def material(pack: Path) -> Material:
    """The pack as its manifest splits it, and painted scenes to train on."""
    trained = [PairSource(_pairs(pack, "train", kind.modality), diameters=kind.diameters) for kind in KINDS]
    held_out = PairSource([pair for modality in HELD_OUT for pair in _pairs(pack, "val", modality)], diameters=_VALIDATED_AT)
    painted = PaintedSource()
    mixture = Mixture((*trained, painted, held_out), (*(kind.share for kind in KINDS), PAINTED, 1.0))
    last = len(mixture) - len(held_out)
    order = np.random.default_rng(0).permutation(np.arange(last, len(mixture)))
    return Material(mixture, tuple(range(last)), tuple(int(item) for item in order))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pack", type=Path, help="folder with manifest.csv and .npz files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano", help="name or file of the weights to begin with")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    options = parser.parse_args(arguments)
    finetune(material(options.pack), model=options.model, out=options.out, recipe=Recipe.read(options.recipe), hooks=[Lines(_say)])
    return 0


def _pairs(pack: Path, split: str, modality: str) -> list[Any]:
    return open_pack(pack, keep=lambda row: row.split == split and modality in row.modality)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
