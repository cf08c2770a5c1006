"""Tracks as a graph: GEFF (Graph Exchange File Format), by its own package (the extra "geff")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.errors import OutputError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.atomic import write_atomically


def write_geff(
    path: Path, objects: pd.DataFrame, tracks: pd.DataFrame, spacing: Spacing, *, along: str
) -> None:
    """A node for each row of `objects`, an edge from each to the same track's next one, and from a mother's last to her daughters' first.

    Node properties: `t`, `z`, `y`, `x` in pixels with their scale, `track`, `area_px`. Raises
    OutputError where the package is missing.
    """
    try:
        from geff import GeffMetadata
        from geff.core_io import write_arrays
        from geff_spec import Axis
    except ImportError as error:
        raise OutputError(
            'tracks as GEFF need the package geff: pip install "napari-sam2[geff]"'
        ) from error
    rows = objects.sort_values(["frame", "track"], kind="stable").reset_index(drop=True)
    scales = {
        along: spacing.t_s if along == "t" else spacing.z_um,
        "y": spacing.y_um,
        "x": spacing.x_um,
    }
    axes = []
    for name, scale in scales.items():
        unit = (
            ("frame" if scale is None else "second")
            if name == "t"
            else ("pixel" if scale is None else "micrometer")
        )
        axes.append(
            Axis(name=name, type="time" if name == "t" else "space", unit=unit, scale=scale)
        )
    columns = {
        along: rows["frame"],
        "y": rows["y"],
        "x": rows["x"],
        "track": rows["track"],
        "area_px": rows["area_px"],
    }
    properties: Any = {
        name: {"values": values.to_numpy(), "missing": None} for name, values in columns.items()
    }
    with write_atomically(path) as part:
        write_arrays(
            part,
            np.arange(len(rows), dtype=np.uint64),
            properties,
            _find_edges(rows, tracks),
            None,
            GeffMetadata(directed=True, axes=axes, node_props_metadata={}, edge_props_metadata={}),
            zarr_format=3,
        )


def _find_edges(nodes: pd.DataFrame, tracks: pd.DataFrame) -> np.ndarray:
    """(n, 2) indices of rows: from, to."""
    first = nodes.reset_index().groupby("track")["index"].first()
    last = nodes.reset_index().groupby("track")["index"].last()
    after = nodes.reset_index().groupby("track")["index"].shift(-1)
    within = [(here, int(there)) for here, there in enumerate(after) if pd.notna(there)]
    divided = tracks.dropna(subset=["parent"])
    across = [
        (int(last[parent]), int(first[child]))
        for child, parent in zip(divided["track"], divided["parent"], strict=True)
        if parent in last
    ]
    return np.array(within + across, dtype=np.uint64).reshape(-1, 2)
