"""Rehearsal: images that the embedded model was trained on, so that they are not forgotten."""

from __future__ import annotations

from napari_sam2.models.weights.files import get_embedded_folder
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.clip import ClipSource
from napari_sam2.train.data.clip_sources import PairSource, SourceMixture
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.data.split import Split
from napari_sam2.train.synthetic.clips import SyntheticSource

# Share of synthetic scenes: unlike still images, they move and change as stacks do.
_SYNTHETIC_SHARE = 0.4


def add_rehearsal(
    source: ClipSource,
    split_indices: Split,
    share: float,
    *,
    diameters: tuple[float, float] | None = None,
) -> Dataset:
    """Make a dataset of a split source, with `share` of the training clips for rehearsal.

    Rehearsed are images of cells that come with the package (``checkpoints/rehearsal``), and
    synthetic scenes. None of them is held out.
    """
    if not share:
        return Dataset(source, split_indices.train, split_indices.held_out)
    images = PairSource(open_pack(get_embedded_folder() / "rehearsal"), diameters=diameters)
    # held-out items are never drawn, so the others get their weight
    own = (1 - share) * len(source) / len(split_indices.train)
    mixture = SourceMixture(
        (source, images, SyntheticSource()),
        (own, share * (1 - _SYNTHETIC_SHARE), share * _SYNTHETIC_SHARE),
    )
    return Dataset(
        mixture, (*split_indices.train, *range(len(source), len(mixture))), split_indices.held_out
    )
