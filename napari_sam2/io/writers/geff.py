"""GEFF (Graph Exchange File Format): tracks as a graph, written by its own package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.files.extras import GEFF, import_extra
from napari_sam2.core.stack import Spacing


def write_geff(
    path: Path, objects: pd.DataFrame, tracks: pd.DataFrame, spacing: Spacing, *, along: str
) -> None:
    """Write the tables of objects and tracks as a graph.

    Each row of `objects` is a node. An edge leads from each node to the next one of its track, and
    from the last node of a parent to the first nodes of its daughters. The properties of nodes are
    `t` or `z` (`along`), `y`, `x`, `track` and `area_px`; the axes have their scale.

    Raises MissingPackageError if the extra "geff" is not installed.
    """
    geff = import_extra("geff", GEFF, "GEFF")
    nodes = objects.sort_values(["frame", "track"], kind="stable").reset_index(drop=True)
    columns = {along: "frame", "y": "y", "x": "x", "track": "track", "area_px": "area_px"}
    properties = {
        name: {"values": nodes[column].to_numpy(), "missing": None}
        for name, column in columns.items()
    }
    metadata = geff.GeffMetadata(
        directed=True,
        axes=_make_axes(spacing, along),
        node_props_metadata={},
        edge_props_metadata={},
    )
    with write_atomically(path) as part:
        import_extra("geff.core_io", GEFF, "GEFF").write_arrays(
            part,
            np.arange(len(nodes), dtype=np.uint64),
            properties,
            _find_edges(nodes, tracks),
            None,
            metadata,
            zarr_format=3,
        )


def _make_axes(spacing: Spacing, along: str) -> list[Any]:
    make_axis = import_extra("geff_spec", GEFF, "GEFF").Axis
    scales = {"t": spacing.t_s, "z": spacing.z_um, "y": spacing.y_um, "x": spacing.x_um}
    axes = []
    for name in (along, "y", "x"):
        scale = scales[name]
        if name == "t":
            kind, unit = "time", "frame" if scale is None else "second"
        else:
            kind, unit = "space", "pixel" if scale is None else "micrometer"
        axes.append(make_axis(name=name, type=kind, unit=unit, scale=scale))
    return axes


def _find_edges(nodes: pd.DataFrame, tracks: pd.DataFrame) -> np.ndarray:
    """(n, 2) edges, from and to, as indices of rows."""
    indices = nodes.reset_index().groupby("track")["index"]
    first, last, following = indices.first(), indices.last(), indices.shift(-1)
    within = [(start, int(end)) for start, end in enumerate(following) if pd.notna(end)]
    daughters = tracks.dropna(subset=["parent"])
    across = [
        (int(last[parent]), int(first[daughter]))
        for daughter, parent in zip(daughters["track"], daughters["parent"], strict=True)
        if parent in last
    ]
    return np.array(within + across, dtype=np.uint64).reshape(-1, 2)
