"""SeedLayer: detected seeds as a Points layer, in which a person adds, moves and deletes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points

from napari_sam2.gui.app.view import SessionKey
from napari_sam2.gui.layers.layer_axes import LayerAxes, compute_plane_index, get_layer_geometry
from napari_sam2.tracking.seeds import EditedSeed, Seed

_COLOUR = "#4cc9f0"
_DOT_FRACTION = 0.012  # of the shorter side of a frame


class SeedLayer:
    """The seeds over one image. The layer is made when it is needed, also after it was deleted."""

    def __init__(self, viewer: Any, image: Any, axes: LayerAxes) -> None:
        self._viewer, self._image, self._axes = viewer, image, axes
        self._layer: Points | None = None
        self._key: SessionKey | None = None

    @property
    def layer(self) -> Points | None:
        """The layer; None if it is not in the viewer."""
        return (
            self._layer if self._layer is not None and self._layer in self._viewer.layers else None
        )

    def show_seeds(self, key: SessionKey, seeds: Sequence[Seed]) -> None:
        """Show these seeds."""
        self._key = key
        if self.layer is None and not seeds:
            return
        layer = self.layer or self._make_layer()
        layer.selected_data = set()
        places = [(*self._compute_frame_index(seed.prompt.frame), *seed.yx) for seed in seeds]
        layer.data = np.array(places, dtype=float).reshape(-1, self._image.ndim)
        layer.features = pd.DataFrame(
            {"seed": np.array([seed.number for seed in seeds], dtype=int)}
        )
        layer.feature_defaults = {"seed": 0}  # of seeds that the person adds
        layer.visible = True

    def read_seeds(self) -> list[EditedSeed]:
        """Read the seeds with the person's edits."""
        layer, found = self.layer, list[EditedSeed]()
        if layer is None or self._key is None:
            return found
        along = self._key.selection.along
        axis = self._axes.letters.index(along) if along in self._axes.letters else None
        last = self._key.selection.length - 1
        for position, number in zip(layer.data, layer.features["seed"], strict=True):
            frame = 0 if axis is None else min(max(round(float(position[axis])), 0), last)
            found.append(EditedSeed(int(number), frame, (float(position[-2]), float(position[-1]))))
        return found

    def set_editing(self, enabled: bool) -> None:
        """Select the layer for editing with napari's tools, or the image again."""
        layer = self.layer
        if layer is None:
            return
        layer.mode = "select" if enabled else "pan_zoom"
        self._viewer.layers.selection.active = layer if enabled else self._image

    def hide(self) -> None:
        """Hide the layer: the seeds became objects."""
        layer = self.layer
        if layer is not None:
            self.set_editing(False)
            layer.visible = False

    def _make_layer(self) -> Points:
        active = self._viewer.layers.selection.active
        self._layer = Points(
            np.empty((0, self._image.ndim)),
            ndim=self._image.ndim,
            name=f"{self._image.name} seeds",
            features=pd.DataFrame({"seed": np.zeros(0, dtype=int)}),
            face_color=_COLOUR,
            border_color="black",
            border_width=0.15,
            symbol="disc",
            size=float(np.clip(min(self._axes.shape[-2:]) * _DOT_FRACTION, 2.0, 16.0)),
            **get_layer_geometry(self._image),
        )
        self._viewer.layers.append(self._layer)
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active
        return self._layer

    def _compute_frame_index(self, frame: int) -> tuple[int, ...]:
        assert self._key is not None
        choice = self._key.selection
        return compute_plane_index(
            self._axes, {**dict(self._key.at), choice.along: frame, "c": choice.channel or 0}
        )
