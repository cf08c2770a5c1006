"""The columns of the tables, in order, and their types.

An unknown value is an empty cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from napari_sam2.core.errors import MeasurementError
from napari_sam2.measurement.features.colocalisation import COEFFICIENTS, list_channel_pairs
from napari_sam2.measurement.features.cytoplasm import CYTOPLASM_COLUMNS
from napari_sam2.measurement.features.intensity import EXTRA_QUANTITIES, QUANTITIES
from napari_sam2.measurement.features.shape import SHAPE_COLUMNS

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
    """Type by name of the intensity columns, channel by channel."""
    return {
        f"{quantity}_c{channel}": "float64"
        for channel in range(n_channels)
        for quantity in QUANTITIES
    }


def get_object_columns(n_channels: int, *, timed: bool = False) -> dict[str, str]:
    """Type by name of the columns of ``objects.csv``; `timed` if its frames come unevenly."""
    columns = dict(_OBJECT_COLUMNS)
    for channel in range(n_channels):
        columns |= {f"{quantity}_c{channel}": "float64" for quantity in QUANTITIES}
        columns[f"spots_c{channel}"] = "Int64"
    extra = _get_extra_columns(n_channels) | ({"time_s": "float64"} if timed else {})
    return {**columns, **SHAPE_COLUMNS, **extra}


def _get_extra_columns(n_channels: int) -> dict[str, str]:
    """The columns of channels and of their pairs that come after the shape."""
    columns: dict[str, str] = {}
    quantities = (*EXTRA_QUANTITIES, *CYTOPLASM_COLUMNS, "spots_sum")
    for channel in range(n_channels):
        columns |= {f"{quantity}_c{channel}": "float64" for quantity in quantities}
        columns |= {f"saturated_px_c{channel}": "Int64", f"saturated_c{channel}": "boolean"}
    for pair in list_channel_pairs(n_channels):
        columns |= {f"{coefficient}_{pair}": "float64" for coefficient in COEFFICIENTS}
    return columns


def make_table(columns: dict[str, str], parts: Iterable[dict[str, np.ndarray]]) -> pd.DataFrame:
    """A table of typed columns from parts, each a dict of arrays by name of column."""
    filled = [part for part in parts if len(next(iter(part.values())))]
    joined: dict[str, np.ndarray | list[float]] = {
        name: np.concatenate([part[name] for part in filled]) if filled else [] for name in columns
    }
    return pd.DataFrame(joined, columns=list(columns)).astype(columns)


def count_measured_channels(objects: pd.DataFrame) -> int:
    """The number of channels whose intensities are in a table of objects.

    Raises MeasurementError if it is not such a table.
    """
    missing = [name for name in _OBJECT_COLUMNS if name not in objects.columns]
    if missing:
        raise MeasurementError(
            f"table of objects without the columns {missing!r}: expected a table that "
            "`measure_objects` made, or one read from objects.csv"
        )
    return sum(1 for name in objects.columns if _CHANNEL_PATTERN.fullmatch(str(name)))
