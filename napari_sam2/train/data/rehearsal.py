"""Rehearsal: what the embedded model was trained on, shown again while another domain is learned, so that it is not forgotten."""

from __future__ import annotations

from napari_sam2.models.weights.files import get_embedded_folder
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.clip import ClipSource
from napari_sam2.train.data.clip_sources import PairSource, SourceMixture
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.data.split import Split
from napari_sam2.train.synthetic.clips import SyntheticSource

# of what is rehearsed: painted scenes move and change as stacks do, which still images cannot
_SYNTHETIC_SHARE = 0.4


def add_rehearsal(
    source: ClipSource,
    split_indices: Split,
    share: float,
    *,
    diameters: tuple[float, float] | None = None,
) -> Dataset:
    """`source` as it is split, and, for `share` of the clips that are trained on, images of cells and painted scenes.

    The images come with the package (``checkpoints/rehearsal``). What is held out is the data's own
    alone.
    """
    if not share:
        return Dataset(source, split_indices.train, split_indices.held_out)
    images, painted = (
        PairSource(open_pack(get_embedded_folder() / "rehearsal"), diameters=diameters),
        SyntheticSource(),
    )
    own = (
        (1 - share) * len(source) / len(split_indices.train)
    )  # what is held out is never drawn: the others have its part
    mixture = SourceMixture(
        (source, images, painted), (own, share * (1 - _SYNTHETIC_SHARE), share * _SYNTHETIC_SHARE)
    )
    return Dataset(
        mixture, (*split_indices.train, *range(len(source), len(mixture))), split_indices.held_out
    )
