"""Tables as CSV, and what goes with them as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.provenance import Provenance
from napari_sam2.io.place import atomic


def write_table(frame: pd.DataFrame, path: Path | str) -> None:
    """A table as CSV in UTF-8, without its index; numbers as short as they come back exactly, nothing where unknown."""
    with atomic(path) as part:
        frame.to_csv(part, index=False, encoding="utf-8", lineterminator="\n", na_rep="")


def write_tables(folder: Path | str, objects: pd.DataFrame, tracks: pd.DataFrame, counts: pd.DataFrame) -> None:
    """``objects.csv``, ``tracks.csv`` and ``counts.csv`` into a folder that is there."""
    for name, frame in {"objects": objects, "tracks": tracks, "counts": counts}.items():
        write_table(frame, Path(folder) / f"{name}.csv")


def write_json(data: Any, path: Path | str) -> None:
    """Plain data, dataclasses, paths and NumPy numbers as JSON in UTF-8; what is no number becomes null."""
    text = json.dumps(_plain(data), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_text(text, path)


def write_text(text: str, path: Path | str) -> None:
    """A text in UTF-8, whole or not at all."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_provenance(provenance: Provenance, path: Path | str) -> None:
    """``provenance.json``."""
    write_json(provenance.to_dict(), path)


def _plain(data: Any) -> Any:
    if is_dataclass(data) and not isinstance(data, type):
        data = asdict(data)
    if isinstance(data, np.ndarray | np.generic):
        data = data.tolist()
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [_plain(value) for value in data]
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else None
    return str(data) if isinstance(data, Path) else data
