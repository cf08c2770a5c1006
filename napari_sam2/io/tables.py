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

from napari_sam2.core.errors import OutputError
from napari_sam2.core.provenance import Provenance
from napari_sam2.io.atomic import write_atomically

_OBS_COLUMNS = ("track", "frame", "t", "z", "category", "presence")


def write_table(table: pd.DataFrame, path: Path | str) -> None:
    """A table as CSV in UTF-8, without its index; numbers as short as they come back exactly, nothing where unknown."""
    with write_atomically(path) as part:
        table.to_csv(part, index=False, encoding="utf-8", lineterminator="\n", na_rep="")


def write_tables(
    folder: Path | str, objects: pd.DataFrame, tracks: pd.DataFrame, counts: pd.DataFrame
) -> None:
    """``objects.csv``, ``tracks.csv`` and ``counts.csv`` into a folder that is there."""
    for name, frame in {"objects": objects, "tracks": tracks, "counts": counts}.items():
        write_table(frame, Path(folder) / f"{name}.csv")


def write_parquet(table: pd.DataFrame, path: Path | str) -> None:
    """A table as Parquet (the extra "tables"). Raises OutputError where pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401  # pandas' own message names no extra of ours
    except ImportError as error:
        raise OutputError(
            'tables as Parquet need pyarrow: pip install "napari-sam2[tables]"'
        ) from error
    with write_atomically(path) as part:
        table.to_parquet(part, index=False)


def write_anndata(objects: pd.DataFrame, path: Path | str, provenance: Provenance) -> None:
    """The table of objects as AnnData, ``.h5ad`` (the extra "anndata"): a row for each track and frame.

    `X` has every number that is measured (NaN where empty), `obs` the track, frame, category and
    presence, ``obsm["spatial"]`` (x, y) in pixels as the tools of that world have it,
    ``uns["provenance"]`` where it comes from, as JSON.

    Raises OutputError where anndata is missing.
    """
    try:
        import anndata
    except ImportError as error:
        raise OutputError(
            'tables as AnnData need anndata: pip install "napari-sam2[anndata]"'
        ) from error
    rows = objects.reset_index(drop=True)
    known = [name for name in _OBS_COLUMNS if name in rows.columns]
    measured = [
        name
        for name in rows.columns
        if name not in known and pd.api.types.is_numeric_dtype(rows[name])
    ]
    obs = rows[known].astype({name: "object" for name in known if rows[name].dtype == "string"})
    obs = obs.apply(
        lambda column: column.fillna("") if column.dtype == "object" else column.astype("float64")
    )
    obs.index = pd.Index(
        [f"{track}_{frame}" for track, frame in zip(rows["track"], rows["frame"], strict=True)],
        dtype="object",
    )
    table = anndata.AnnData(
        X=rows[measured].astype("float64").to_numpy(),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(measured, dtype="object")),
        obsm={"spatial": rows[["x", "y"]].to_numpy(dtype=np.float64)},
        uns={"provenance": json.dumps(_to_plain(provenance.to_dict()))},
    )
    with write_atomically(path) as part:
        table.write_h5ad(part)


def write_json(data: Any, path: Path | str) -> None:
    """Plain data, dataclasses, paths and NumPy numbers as JSON in UTF-8; what is no number becomes null."""
    text = json.dumps(_to_plain(data), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_text(text, path)


def write_text(text: str, path: Path | str) -> None:
    """A text in UTF-8, whole or not at all."""
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_provenance(provenance: Provenance, path: Path | str) -> None:
    """``provenance.json``."""
    write_json(provenance.to_dict(), path)


def _to_plain(data: Any) -> Any:
    if is_dataclass(data) and not isinstance(data, type):
        data = asdict(data)
    if isinstance(data, np.ndarray | np.generic):
        data = data.tolist()
    if isinstance(data, Mapping):
        return {str(key): _to_plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple | set | frozenset):
        return [_to_plain(value) for value in data]
    if isinstance(data, float):
        return float(data) if math.isfinite(data) else None
    return str(data) if isinstance(data, Path) else data
