"""The columns of the tables, in order, and the types they are kept in. What is not known is an empty cell, never a 1.0."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from napari_sam2.core.errors import LabelsError
from napari_sam2.measurement.intensity import QUANTITIES

_OBJECT = {
    "track": "int64",
    "frame": "int64",
    "t": "Int64",
    "z": "Int64",
    "category": "string",
    "area_px": "int64",
    "area_um2": "float64",
    "y": "float64",
    "x": "float64",
    "y_um": "float64",
    "x_um": "float64",
    "score": "float64",
    "presence": "string",
}
_CHANNEL = re.compile(r"sum_c(\d+)")


def intensity_columns(channels: int) -> dict[str, str]:
    """Type by column name: the intensities of the first channel, then those of the next."""
    return {f"{quantity}_c{channel}": "float64" for channel in range(channels) for quantity in QUANTITIES}


def object_columns(channels: int) -> dict[str, str]:
    """Type by column name of `objects.csv`."""
    return {**_OBJECT, **intensity_columns(channels)}


def table(columns: dict[str, str], parts: Iterable[dict[str, np.ndarray]]) -> pd.DataFrame:
    """One DataFrame of these typed columns from column arrays, part below part; empty but typed where there is none."""
    parts = list(parts)
    joined: dict[str, np.ndarray | list[float]] = {
        name: np.concatenate([part[name] for part in parts]) if parts else [] for name in columns
    }
    return pd.DataFrame(joined, columns=list(columns)).astype(columns)


def channels_of(objects: pd.DataFrame) -> int:
    """How many channels a table of objects has intensities of. Raises LabelsError where it is no such table."""
    missing = [name for name in _OBJECT if name not in objects.columns]
    if missing:
        raise LabelsError(f"table of objects without the columns {missing!r}: expected one made by `objects`, or read from objects.csv")
    return sum(1 for name in objects.columns if _CHANNEL.fullmatch(str(name)))
