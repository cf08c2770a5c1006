"""The columns of the tables, in order, and the types they are kept in.

What is not known is an empty cell, never a 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from napari_sam2.core.errors import MeasurementError
from napari_sam2.measurement.features.colocalisation import COEFFICIENTS, list_channel_pairs
from napari_sam2.measurement.features.cytoplasm import CYTOPLASM_COLUMNS as AROUND
from napari_sam2.measurement.features.intensity import EXTRA_QUANTITIES, QUANTITIES
from napari_sam2.measurement.features.shape import SHAPE_COLUMNS as SHAPE

_OBJECT_COLUMNS = {
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
_CHANNEL_PATTERN = re.compile(r"sum_c(\d+)")


def get_intensity_columns(n_channels: int) -> dict[str, str]:
    """Type by column name: the intensities of the first channel, then those of the next."""
    return {
        f"{quantity}_c{channel}": "float64"
        for channel in range(n_channels)
        for quantity in QUANTITIES
    }


def get_object_columns(n_channels: int) -> dict[str, str]:
    """Type by column name of `objects.csv`: the fixed ones, intensities and spots of each channel, then shape and what is more."""
    fixed = dict(_OBJECT_COLUMNS)
    for channel in range(n_channels):
        fixed |= {f"{quantity}_c{channel}": "float64" for quantity in QUANTITIES} | {
            f"spots_c{channel}": "Int64"
        }
    return {**fixed, **SHAPE, **get_extra_columns(n_channels)}


def get_extra_columns(n_channels: int) -> dict[str, str]:
    """Type by column name: what `objects.csv` has of channels and their pairs beyond the fixed columns."""
    found: dict[str, str] = {}
    for channel in range(n_channels):
        found |= {
            f"{name}_c{channel}": "float64" for name in (*EXTRA_QUANTITIES, *AROUND, "spots_sum")
        }
        found |= {f"saturated_px_c{channel}": "Int64", f"saturated_c{channel}": "boolean"}
    return found | {
        f"{name}_{pair}": "float64"
        for pair in list_channel_pairs(n_channels)
        for name in COEFFICIENTS
    }


def make_table(columns: dict[str, str], parts: Iterable[dict[str, np.ndarray]]) -> pd.DataFrame:
    """One DataFrame of these typed columns from column arrays, part below part; empty but typed where there is none."""
    parts = list(parts)
    full = [part for part in parts if len(next(iter(part.values())))]
    joined: dict[str, np.ndarray | list[float]] = {
        name: np.concatenate([part[name] for part in full]) if full else [] for name in columns
    }
    return pd.DataFrame(joined, columns=list(columns)).astype(columns)


def count_measured_channels(objects: pd.DataFrame) -> int:
    """How many channels a table of objects has intensities of.

    Raises MeasurementError where it is no such table.
    """
    missing = [name for name in _OBJECT_COLUMNS if name not in objects.columns]
    if missing:
        raise MeasurementError(
            f"table of objects without the columns {missing!r}: expected one made by `objects`, "
            "or read from objects.csv"
        )
    return sum(1 for name in objects.columns if _CHANNEL_PATTERN.fullmatch(str(name)))
