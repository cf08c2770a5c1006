"""Make weights of a detector those of the embedded model, and say so in its card.

    python checkpoints/make/detector.py WEIGHTS [--model checkpoints/nano.safetensors]

WEIGHTS is what `napari_sam2.train.detector.training` wrote. The hash in the card is all that has
to follow; the checkpoint of the model itself is not touched.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from napari_sam2.models.network.object_maps import ObjectMapPredictor
from napari_sam2.models.weights import checkpoints
from napari_sam2.models.weights.files import replace_atomically
from napari_sam2.train.detector.training import load_weights

EMBEDDED = Path(__file__).parents[1] / "nano.safetensors"


def write_detector(weights: Path, model: Path) -> str:
    """Write the detector of a model in half precision, and its hash into the card of the model.

    Returns the hash. Raises CheckpointError if the weights are of another network.
    """
    tensors = load_weights(weights)
    ObjectMapPredictor.of(tensors, "")
    card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
    card["detector_sha256"] = checkpoints.write_detector(model, tensors)
    with replace_atomically(model.with_suffix(".json")) as temporary:
        text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")
    return str(card["detector_sha256"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the two files, and print the hash."""
    parser = argparse.ArgumentParser(
        prog="python checkpoints/make/detector.py",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("weights", type=Path, help="safetensors file of the training")
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="checkpoint (%(default)s)")
    options = parser.parse_args(arguments)
    sha256 = write_detector(options.weights, options.model)
    print(f"Done: detector of {options.model}, SHA-256 {sha256}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
