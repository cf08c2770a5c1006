"""Overlaps: the logits of all tracks on a frame become one label plane, per pixel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.result import Segment
from napari_sam2.core.sam2_constants import MASK_PROMPT_LOGIT

_HIDDEN_SHARE = 0.75
"""A mask that keeps less than this part of its pixels is worth a note."""


def choose_label_dtype(max_track: int) -> np.dtype[np.unsignedinteger]:
    """uint16 if all track ids fit, else uint32."""
    return np.dtype(np.uint16 if max_track <= np.iinfo(np.uint16).max else np.uint32)


def compose_label_plane(
    segments: Iterable[Segment],
    shape: tuple[int, int],
    *,
    drawn_masks: Mapping[int, np.ndarray] | None = None,
    dtype: np.dtype[np.unsignedinteger] | None = None,
) -> np.ndarray:
    """(H, W) labels: each pixel gets the present track with the highest logit above 0, else 0.

    A tie goes to the lower id, so that the order of `segments` does not matter.

    Parameters
    ----------
    drawn_masks
        (H, W) bool by track: masks that a person drew, which replace the resampled segment and
        have the logit that SAM 2 gives to mask prompts.
    dtype
        See `choose_label_dtype`, the default.
    """
    return compose_frame(segments, shape, drawn_masks=drawn_masks, dtype=dtype).labels


@dataclass(frozen=True)
class HiddenMask:
    """A mask that loses pixels to other tracks: its pixels, those it keeps, and who gets most."""

    track: int
    own_px: int
    kept_px: int
    other: int


@dataclass(frozen=True, eq=False)
class ComposedFrame:
    """The (H, W) labels of a frame, and the masks that lose a quarter or more of their pixels."""

    labels: np.ndarray
    hidden: tuple[HiddenMask, ...]


def compose_frame(
    segments: Iterable[Segment],
    shape: tuple[int, int],
    *,
    drawn_masks: Mapping[int, np.ndarray] | None = None,
    dtype: np.dtype[np.unsignedinteger] | None = None,
) -> ComposedFrame:
    """As `compose_label_plane`, with what the tracks lose to each other."""
    ordered = sorted(
        (segment for segment in segments if segment.present), key=lambda segment: segment.track
    )
    dtype = dtype or choose_label_dtype(max((segment.track for segment in ordered), default=0))
    labels = np.zeros(shape, dtype=dtype)
    strongest = np.zeros(shape, dtype=np.float32)
    masks: list[tuple[int, slice, slice, np.ndarray]] = []
    for segment in ordered:
        rows, columns, logits = (
            _crop_drawn_mask(drawn_masks[segment.track])
            if drawn_masks and segment.track in drawn_masks
            else _paste_segment(segment, shape)
        )
        wins = logits > strongest[rows, columns]
        labels[rows, columns][wins] = segment.track
        strongest[rows, columns][wins] = logits[wins]
        masks.append((segment.track, rows, columns, logits > 0))
    found = (_find_hidden(track, mask, labels[rows, cols]) for track, rows, cols, mask in masks)
    return ComposedFrame(labels, tuple(each for each in found if each))


def _find_hidden(track: int, mask: np.ndarray, labels: np.ndarray) -> HiddenMask | None:
    """What a mask loses to other tracks in its part of the labels; None if less than a quarter."""
    own, kept = int(mask.sum()), int((labels[mask] == track).sum())
    if kept > _HIDDEN_SHARE * own or not own:
        return None
    others, pixels = np.unique(labels[mask & (labels != track)], return_counts=True)
    return HiddenMask(track, own, kept, int(others[pixels.argmax()]))


def _paste_segment(segment: Segment, shape: tuple[int, int]) -> tuple[slice, slice, np.ndarray]:
    rows, columns = segment.window.find_positive_region(segment.logits, shape)
    return rows, columns, segment.window.paste(segment.logits, rows, columns)


def _crop_drawn_mask(mask: np.ndarray) -> tuple[slice, slice, np.ndarray]:
    rows, columns = (
        slice(cells[0], cells[-1] + 1)
        for cells in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    )
    return rows, columns, np.where(mask[rows, columns], MASK_PROMPT_LOGIT, -MASK_PROMPT_LOGIT)


def compute_mask(segment: Segment, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of one track, ignoring overlaps."""
    return compose_label_plane([segment], shape) > 0


def describe_hidden_masks(hidden: Mapping[int, Sequence[HiddenMask]]) -> tuple[str, ...]:
    """One line for each two tracks that share pixels, by the frames on which they do."""
    frames: dict[tuple[int, int], list[tuple[int, HiddenMask]]] = defaultdict(list)
    for frame, masks in hidden.items():
        for mask in masks:
            frames[(mask.track, mask.other)].append((frame, mask))
    notes = []
    for (track, other), found in sorted(frames.items()):
        frame, worst = max(found, key=lambda each: each[1].own_px - each[1].kept_px)
        share = round(100 * (1 - worst.kept_px / worst.own_px))
        notes.append(
            f"track {track} shares pixels with track {other} on {len(found)} frames and loses up "
            f"to {share} % of its mask (frame {frame}): remove one if both are the same object"
        )
    return tuple(notes)
