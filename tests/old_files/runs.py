"""The runs that ``track_*`` and ``count_*`` in ``data`` are of: fields as jobs files have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SHARED: dict[str, Any] = {
    "input": "cells.ome.tif",
    "along": "t",
    "channel": 0,
    "contrast": [0.0, 50000.0],
    "model": "toy",
    "device": "cpu",
    "attention": "whole",
    "patience": 4,
}
TRACK = {**_SHARED, "prompts": "prompts_all.csv", "direction": "both", "frames": [0, 6]}
COUNT = {
    **_SHARED,
    "counting": {
        "seeds": "cells_labels.ome.tif",
        "kind": "mask",
        "trust": "seeds",
        "diameter_px": 14.0,
        "dark": False,
        "patience": 5,
        "least": 2,
        "category": "cell",
        "rules": {"bright": "mean_c0 > 45000", "dim": "mean_c0 <= 45000"},
    },
    "also": ["ctc"],
}


class Killed(Exception):
    """Stands for a kill in the middle of a run."""


def stop_at(position: int) -> Callable[[Any], None]:
    """Progress that ends the run after so many frames."""

    def stop(stepped: Any) -> None:
        if stepped.position == position:
            raise Killed

    return stop
