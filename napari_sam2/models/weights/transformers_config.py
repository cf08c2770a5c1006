"""The ``config.json`` that transformers saves beside a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError

# Input sides are multiples of the stride of the coarsest features of any encoder.
_INPUT_SIDE_MULTIPLE = 32
# Our names of what the weights do not tell, and those in the config of the backbone.
_BACKBONE_FIELDS = {
    "global_blocks": "global_attention_blocks",
    "windows": "window_size_per_stage",
    "heads": "num_attention_heads",
}


def parse_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The config in a checkpoint's metadata, see `read_checkpoint`; empty if there is none.

    Raises CheckpointError if it is not valid JSON.
    """
    try:
        config = json.loads(metadata.get("config", "{}"))
    except ValueError as error:
        raise CheckpointError(
            f"config.json beside the checkpoint is not valid JSON ({error})"
        ) from error
    return config if isinstance(config, dict) else {}


def read_network_options(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `Configuration` that weights do not tell and the config does."""
    backbone = parse_config(metadata).get("vision_config", {}).get("backbone_config", {})
    return {
        name: backbone[written]
        for name, written in _BACKBONE_FIELDS.items()
        if backbone.get(written) is not None
    }


def set_input_size(card: ModelCard, metadata: Mapping[str, str], size: int | None) -> ModelCard:
    """The card with this input size in pixels, else with that of the config, else unchanged.

    Raises CheckpointError if a size is not a multiple of 32.
    """
    size = size or parse_config(metadata).get("image_size")
    size = size[0] if isinstance(size, list) else size
    sizes = (int(size),) if size else card.input_sizes
    if any(side % _INPUT_SIDE_MULTIPLE or side <= 0 for side in sizes):
        raise CheckpointError(
            f"input sizes {sizes!r}: expected multiples of {_INPUT_SIDE_MULTIPLE}"
        )
    return replace(card, input_sizes=sizes)
