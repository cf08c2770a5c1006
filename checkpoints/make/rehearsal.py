"""Make the images that fine-tuning rehearses: a small pack of crops of the training images.

python checkpoints/make/rehearsal.py PACK --out checkpoints/rehearsal
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.segmentation import relabel_sequential

CROPS = {"fluorescence": 56, "H&E": 8, "brightfield": 8, "MRI": 8}
"""Number of crops of each modality, at most one per image; all of them are CC0."""

SIDE = 256
"""Longest side of a crop, in pixels."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the crops and their manifest."""
    parser = argparse.ArgumentParser(
        prog="python checkpoints/make/rehearsal.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument(
        "pack", type=Path, help="folder with manifest.csv and .npz files (its split train)"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    manifest = pd.read_csv(options.pack / "manifest.csv")
    options.out.mkdir(parents=True)
    rows = [
        _write_crop(options.pack, row, options.out, rng)
        for modality, count in CROPS.items()
        for row in _choose_rows(manifest, modality, count, rng)
    ]
    pd.DataFrame(rows).to_csv(options.out / "manifest.csv", index=False)
    return 0


def _choose_rows(
    manifest: pd.DataFrame, modality: str, count: int, rng: np.random.Generator
) -> list[dict[str, object]]:
    fitting = manifest[
        (manifest.split == "train")
        & (manifest.licence == "CC0")
        & manifest.modality.str.contains(modality, regex=False)
    ].drop_duplicates("group")
    places = np.sort(rng.permutation(len(fitting))[:count])
    return fitting.iloc[places].to_dict("records")


def _write_crop(
    pack: Path, row: dict[str, object], out: Path, rng: np.random.Generator
) -> dict[str, object]:
    """Write one crop to a file. Returns its row of the manifest."""
    with np.load(pack / str(row["file"]), allow_pickle=False) as arrays:
        image, labels = arrays["image"], arrays["labels"]
    top, left = _choose_corner(labels, rng)
    image, labels = (plane[top : top + SIDE, left : left + SIDE] for plane in (image, labels))
    labels = relabel_sequential(labels)[0].astype(np.uint16)
    name = f"{Path(str(row['file'])).stem}.npz"
    np.savez_compressed(out / name, image=image, labels=labels)
    origin = {key: row[key] for key in ("source", "modality", "licence", "group", "split")}
    return {"file": name, "height": labels.shape[0], "width": labels.shape[1], **origin}


def _choose_corner(labels: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Choose the corner of a crop around a random object."""
    inside = np.argwhere(labels)
    middle = inside[rng.integers(len(inside))]
    top, left = (
        int(np.clip(at - SIDE // 2, 0, max(0, length - SIDE)))
        for at, length in zip(middle, labels.shape, strict=True)
    )
    return top, left


if __name__ == "__main__":
    raise SystemExit(main())
