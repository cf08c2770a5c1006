"""Rehearsal: what the embedded model was trained on, shown again while another domain is learned, so that it is not forgotten."""

from __future__ import annotations

from napari_sam2.models.weights.files import embedded
from napari_sam2.train.data.batches import Material
from napari_sam2.train.data.clip import ClipSource
from napari_sam2.train.data.clip_sources import Mixture, PairSource
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.data.split import Split
from napari_sam2.train.synthetic.clips import PaintedSource

# of what is rehearsed: painted scenes move and change as stacks do, which still images cannot
_PAINTED = 0.4


def rehearsed(
    source: ClipSource, sides: Split, share: float, *, diameters: tuple[float, float] | None = None
) -> Material:
    """`source` as it is split, and, for `share` of the clips that are trained on, images of cells and painted scenes.

    The images come with the package (``checkpoints/rehearsal``). What is held out is the data's own
    alone.
    """
    if not share:
        return Material(source, sides.train, sides.held_out)
    images, painted = (
        PairSource(open_pack(embedded() / "rehearsal"), diameters=diameters),
        PaintedSource(),
    )
    own = (
        (1 - share) * len(source) / len(sides.train)
    )  # what is held out is never drawn: the others have its part
    mixture = Mixture((source, images, painted), (own, share * (1 - _PAINTED), share * _PAINTED))
    return Material(mixture, (*sides.train, *range(len(source), len(mixture))), sides.held_out)
