"""What a training sees: annotated images, painted scenes, and crops without any object."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from napari_sam2.train.detector.images import ImageCrops, load_extra_images, load_images
from napari_sam2.train.detector.pool import DrawSample, Sample
from napari_sam2.train.detector.scenes import draw_empty_scene, draw_scene

_REAL_SHARE, _EMPTY_SHARE = 0.5, 0.06


class TrainingMix:
    """Draws samples of `side` px from all there is.

    Parameters
    ----------
    folder
        The training data, with manifest.csv and more.csv.
    extra
        The folder of evaluation data, of which a few parts may be trained on.
    """

    def __init__(self, folder: Path, side: int, extra: Path | None = None) -> None:
        self._folder, self._side = folder, side
        images = load_images(folder, "train")
        if extra is not None:
            images += load_extra_images(extra)
        self._crops = ImageCrops(images, side)

    def draw(self, rng: np.random.Generator) -> Sample:
        """One crop, scene or empty scene."""
        chance = rng.random()
        if chance < _REAL_SHARE:
            return self._crops.draw(rng)
        if chance < _REAL_SHARE + _EMPTY_SHARE:
            return draw_empty_scene(self._side, rng)
        return draw_scene(self._side, rng)

    def list_validation_sources(self, side: int) -> list[tuple[str, DrawSample]]:
        """Names of sources kept aside, and how to draw from each."""
        crops = ImageCrops(load_images(self._folder, "val"), side)
        sources = [(kind, partial(crops.draw, kind=kind)) for kind in crops.kinds]
        return [*sources, ("scenes", partial(draw_scene, side))]
