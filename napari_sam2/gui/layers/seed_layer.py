"""SeedLayer: what a search found as a Points layer, in which a person moves, deletes and adds before anything is carried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from napari.layers import Points

from napari_sam2.gui.app.counting_task import Placed, Seed
from napari_sam2.gui.app.view import Place
from napari_sam2.gui.layers.layer_axes import Reading, geometry, index

_COLOUR = "#4cc9f0"
_DOT = 0.012  # of the shorter side of a frame


class SeedLayer:
    """The seeds over one image; made when there are some, and made again where somebody deleted the layer."""

    def __init__(self, viewer: Any, image: Any, reading: Reading) -> None:
        self._viewer, self._image, self._reading = viewer, image, reading
        self._layer: Points | None = None
        self._place: Place | None = None

    @property
    def layer(self) -> Points | None:
        """The layer, None where there is none."""
        return (
            self._layer if self._layer is not None and self._layer in self._viewer.layers else None
        )

    def show(self, place: Place, seeds: Sequence[Seed]) -> None:
        """Show these and no others."""
        self._place = place
        if self.layer is None and not seeds:
            return
        layer = self.layer or self._made()
        layer.selected_data = set()
        places = [(*self._index(seed.prompt.frame), *seed.yx) for seed in seeds]
        layer.data = np.array(places, dtype=float).reshape(-1, self._image.ndim)
        layer.features = pd.DataFrame(
            {"seed": np.array([seed.number for seed in seeds], dtype=int)}
        )
        layer.feature_defaults = {"seed": 0}  # what is added by hand
        layer.visible = True

    def placed(self) -> list[Placed]:
        """The seeds as they lie now."""
        layer, found = self.layer, list[Placed]()
        if layer is None or self._place is None:
            return found
        along = self._place.choice.along
        axis = self._reading.letters.index(along) if along in self._reading.letters else None
        last = self._place.choice.length - 1
        for where, number in zip(layer.data, layer.features["seed"], strict=True):
            frame = 0 if axis is None else min(max(round(float(where[axis])), 0), last)
            found.append(Placed(int(number), frame, (float(where[-2]), float(where[-1]))))
        return found

    def edit(self, wanted: bool) -> None:
        """Take the layer in hand, with napari's own tools; or put it down again."""
        layer = self.layer
        if layer is None:
            return
        layer.mode = "select" if wanted else "pan_zoom"
        self._viewer.layers.selection.active = layer if wanted else self._image

    def hide(self) -> None:
        """They have become objects."""
        layer = self.layer
        if layer is not None:
            self.edit(False)
            layer.visible = False

    def _made(self) -> Points:
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
            size=float(np.clip(min(self._reading.shape[-2:]) * _DOT, 2.0, 16.0)),
            **geometry(self._image),
        )
        self._viewer.layers.append(self._layer)
        if active is not None and active in self._viewer.layers:
            self._viewer.layers.selection.active = active
        return self._layer

    def _index(self, frame: int) -> tuple[int, ...]:
        assert self._place is not None
        choice = self._place.choice
        return index(
            self._reading, {**dict(self._place.at), choice.along: frame, "c": choice.channel or 0}
        )
