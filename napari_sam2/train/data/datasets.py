"""Datasets of training and held-out images, made from files or stacks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.clip_sources import PairSource
from napari_sam2.train.data.discovery import find_pairs
from napari_sam2.train.data.pairs import AnnotatedStack
from napari_sam2.train.data.rehearsal import add_rehearsal
from napari_sam2.train.data.split import Split, split_groups
from napari_sam2.train.recipe import Recipe

_PIECES = 5  # pieces of a single stack, of which one is held out
# In pixels: an object crop shows objects 30 to 43 pixels wide, and a click at several scales.
_OBJECT_CROP_DIAMETERS = (12.0, 80.0)
_MAX_NAMED = 10  # labels named in a message

log = logging.getLogger(__name__)


def build_dataset(
    data: Sequence[AnnotatedStack | str | Path] | str | Path,
    recipe: Recipe,
    *,
    object_crops: bool = False,
) -> Dataset:
    """Build a dataset: open all data, hold some groups out, and add the rehearsal.

    A single stack is cut along its frames; if possible, it is not trained on next to a held-out
    frame. Objects that are left out are logged. Raises LabelsError.

    Parameters
    ----------
    object_crops
        Whether the model crops objects: they are then shown as wide as in its crops.
    """
    items = [data] if isinstance(data, str | Path) else list(data)
    pairs = [
        pair
        for item in items
        for pair in (
            [item] if isinstance(item, AnnotatedStack) else find_pairs(item, options=recipe.reading)
        )
    ]
    for pair in pairs:
        _log_left_out(pair)
    single = len({pair.group for pair in pairs}) == 1
    if single:
        pairs = [piece for pair in pairs for piece in pair.cut_into_pieces(_PIECES)]
    sides = split_groups(
        [pair.group for pair in pairs], share=recipe.validation.share, seed=recipe.seed
    )
    if single:
        pairs = _drop_neighbouring_frames(pairs, sides)
    diameters = recipe.diameters or (_OBJECT_CROP_DIAMETERS if object_crops else None)
    return add_rehearsal(
        PairSource(pairs, diameters=diameters), sides, recipe.rehearsal, diameters=diameters
    )


def _drop_neighbouring_frames(
    pairs: Sequence[AnnotatedStack], split_indices: Split
) -> list[AnnotatedStack]:
    """Drop training frames next to held-out ones, because they are nearly the same."""
    held_out = {frame for item in split_indices.held_out for frame in pairs[item].annotated}
    return [
        pair.drop_adjacent_frames(held_out) if item in split_indices.train else pair
        for item, pair in enumerate(pairs)
    ]


def _log_left_out(pair: AnnotatedStack) -> None:
    if pair.left_out:
        named = ", ".join(map(str, pair.left_out[:_MAX_NAMED])) + (
            ", …" if len(pair.left_out) > _MAX_NAMED else ""
        )
        log.warning(
            "%s: leaves out %d objects of one pixel (labels %s)",
            pair.name,
            len(pair.left_out),
            named,
        )
