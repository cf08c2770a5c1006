"""Files with the state of an unfinished training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from napari_sam2.core.errors import CheckpointError


def read_state(path: Path) -> dict[str, Any]:
    """Read a training state without running code in it. Raises CheckpointError if damaged."""
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); remove it to start the training again"
        ) from error
    return state
