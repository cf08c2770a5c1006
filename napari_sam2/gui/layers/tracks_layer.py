"""The trajectories and divisions of objects as a napari Tracks layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Tracks

from napari_sam2.core.errors import PlanError
from napari_sam2.gui.app.live_tables import TableSet
from napari_sam2.gui.app.view import SessionKey
from napari_sam2.gui.layers.layer_axes import LayerAxes, compute_plane_index, get_layer_geometry


def make_tracks_layer(image: Any, axes: LayerAxes, key: SessionKey, tables: TableSet) -> Tracks:
    """Make a Tracks layer with the centre of each object on each frame, and links to parents.

    Raises PlanError if nothing was measured yet.
    """
    rows = tables.objects.dropna(subset=["y", "x"]).sort_values(["track", "frame"])
    if not len(rows):
        raise PlanError(
            "no object is measured yet: click one, or count the stack, then draw tracks"
        )
    ahead = [
        compute_plane_index(axes, {**dict(key.at), key.selection.along: int(frame)})
        for frame in rows["frame"]
    ]
    data = np.column_stack(
        [rows["track"].to_numpy(), np.array(ahead), rows["y"].to_numpy(), rows["x"].to_numpy()]
    )
    there = set(rows["track"].tolist())
    known = tables.tracks[["track", "parent"]].dropna().astype(int).itertuples(index=False)
    graph = {
        int(track): [int(parent)] for track, parent in known if track in there and parent in there
    }
    return Tracks(
        data.astype(np.float64),
        graph=graph,
        name=f"{image.name} tracks",
        **get_layer_geometry(image),
    )
