"""Read and write tables as CSV; write Parquet and AnnData, and provenance as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.files.extras import ANNDATA, TABLES, import_extra
from napari_sam2.core.provenance import Provenance

# What makes a spreadsheet run a cell, behind white space that it skips: the signs, and their
# full-width forms. A leading apostrophe of the text itself is quoted, too, so that it comes back.
_FORMULA = re.compile(r"'*(\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
_OBS_COLUMNS = ("track", "frame", "t", "z", "category", "presence")


def write_table(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table as CSV in UTF-8, without its index.

    Numbers are as short as possible without loss; missing values are empty cells. Text that a
    spreadsheet would run gets an apostrophe, see `quote_formulas`.
    """
    with write_atomically(path) as part:
        quote_formulas(table).to_csv(
            part, index=False, encoding="utf-8", lineterminator="\n", na_rep=""
        )


def read_table(path: Path | str, **options: Any) -> pd.DataFrame:
    """Read a table that `write_table` wrote; `options` are those of pandas' ``read_csv``."""
    table = _map_text(pd.read_csv(path, **options), _unquote_formula)
    return table.rename(columns=_unquote_formula)


def quote_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text that a spreadsheet would run as a formula.

    Names of categories, files and channels come from other people's files. Numbers stay as they
    are.

    Examples
    --------
    >>> quote_formulas(pd.DataFrame({"category": ["=1+1", "cell"]}))["category"].tolist()
    ["'=1+1", 'cell']
    """
    return _map_text(table, _quote_formula).rename(columns=_quote_formula)


def _map_text(table: pd.DataFrame, function: Callable[[Any], Any]) -> pd.DataFrame:
    """The table with each value of the columns that may have text replaced."""
    changed = {}
    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column):
            mapped = column.astype("object").map(function, na_action="ignore")
            is_text = isinstance(column.dtype, pd.StringDtype)
            changed[str(name)] = mapped.astype(column.dtype) if is_text else mapped
    return table.assign(**changed)


def _quote_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # pandas does not quote a carriage return, which begins a row for other readers
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{value}" if _FORMULA.match(value) else value


def _unquote_formula(value: Any) -> Any:
    quoted = isinstance(value, str) and value[:1] == "'" and _FORMULA.match(value)
    return value[1:] if quoted else value


def write_tables(
    folder: Path | str, objects: pd.DataFrame, tracks: pd.DataFrame, counts: pd.DataFrame
) -> None:
    """Write ``objects.csv``, ``tracks.csv`` and ``counts.csv`` into an existing folder."""
    for name, frame in {"objects": objects, "tracks": tracks, "counts": counts}.items():
        write_table(frame, Path(folder) / f"{name}.csv")


def write_parquet(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table as Parquet; raises MissingPackageError without the extra "tables"."""
    import_extra("pyarrow", TABLES, "Parquet")  # pandas would not name our extra
    with write_atomically(path) as part:
        table.to_parquet(part, index=False)


def write_anndata(objects: pd.DataFrame, path: Path | str, provenance: Provenance) -> None:
    """Write the table of objects as AnnData (``.h5ad``), a row for each track and frame.

    `X` has all measured numbers (NaN if missing), `obs` the track, frame, category and presence,
    ``obsm["spatial"]`` (x, y) in pixels, as spatial-omics tools expect, and ``uns["provenance"]``
    the provenance as JSON.

    Raises MissingPackageError without the extra "anndata".
    """
    anndata = import_extra("anndata", ANNDATA, "AnnData")
    rows = objects.reset_index(drop=True)
    obs = _make_obs(rows)
    measured = [
        name
        for name in rows.columns
        if name not in obs.columns and pd.api.types.is_numeric_dtype(rows[name])
    ]
    table = anndata.AnnData(
        X=rows[measured].astype("float64").to_numpy(),
        obs=obs,
        var=pd.DataFrame(index=pd.Index(measured, dtype="object")),
        obsm={"spatial": rows[["x", "y"]].to_numpy(dtype=np.float64)},
        uns={"provenance": json.dumps(_to_plain(provenance.to_dict()))},
    )
    with write_atomically(path) as part:
        table.write_h5ad(part)


def _make_obs(objects: pd.DataFrame) -> pd.DataFrame:
    """The columns that identify a row, as plain text and floats, because AnnData needs these."""
    columns = {}
    for name in _OBS_COLUMNS:
        if name in objects.columns:
            values = objects[name]
            if values.dtype == "string":
                values = values.astype("object")
            is_text = values.dtype == "object"
            columns[name] = values.fillna("") if is_text else values.astype("float64")
    keys = zip(objects["track"], objects["frame"], strict=True)
    index = [f"{track}_{frame}" for track, frame in keys]
    return pd.DataFrame(columns).set_axis(pd.Index(index, dtype="object"))


def write_json(data: Any, path: Path | str) -> None:
    """Write plain data, dataclasses, paths and NumPy values as JSON; NaN becomes null."""
    text = json.dumps(_to_plain(data), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_text(text, path)


def write_text(text: str, path: Path | str) -> None:
    """Write a text in UTF-8, atomically."""
    with write_atomically(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_provenance(provenance: Provenance, path: Path | str) -> None:
    """Write ``provenance.json``."""
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
