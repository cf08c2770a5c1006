"""Tracklets: detections that are linked; divisions are confirmed, and short tracklets dropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from napari_sam2.core.prompt import Prompt

MIN_DAUGHTER_FRAMES = 2
"""Frames on which both daughters of a division must be detected, unless the video ends."""


@dataclass
class Tracklet:
    """Detections of one object: prompts by frame; `parent` is the tracklet it divided from."""

    id: int
    prompts: dict[int, Prompt] = field(default_factory=dict)
    parent: int | None = None

    @property
    def first(self) -> int:
        """First frame."""
        return min(self.prompts)

    @property
    def last(self) -> int:
        """Last frame."""
        return max(self.prompts)

    def find_gaps(self) -> list[tuple[int, int]]:
        """Pairs of frames with a detection, between which the object was missed."""
        frames = sorted(self.prompts)
        return [(a, b) for a, b in pairwise(frames) if b - a > 1]


def finalize_tracklets(
    tracklets: Iterable[Tracklet], n_frames: int, *, min_frames: int
) -> list[Tracklet]:
    """Drop short tracklets, confirm divisions, and end parents where they divide.

    A tracklet on fewer than `min_frames` frames is dropped, unless the video begins or ends on it.
    If one daughter of a division is too short, that daughter is dropped, and the parent goes on.

    Returns
    -------
    list
        Tracklets numbered from 1, by first frame.
    """
    kept = {
        tracklet.id: tracklet
        for tracklet in tracklets
        if _is_long_enough(tracklet, n_frames, min_frames)
    }
    for daughter in kept.values():
        if daughter.parent is None:
            continue
        parent = kept.get(daughter.parent)
        if parent is None or not _is_confirmed_division(daughter, parent, n_frames):
            daughter.parent = None
    return _renumber(_split_at_divisions(kept))


def _is_long_enough(tracklet: Tracklet, n_frames: int, min_frames: int) -> bool:
    length = len(tracklet.prompts)
    if tracklet.parent is not None and length < min(MIN_DAUGHTER_FRAMES, n_frames - tracklet.first):
        return False
    at_end = tracklet.first == 0 or tracklet.last == n_frames - 1
    return length >= min(min_frames, n_frames) or at_end


def _is_confirmed_division(daughter: Tracklet, parent: Tracklet, n_frames: int) -> bool:
    """Whether the parent was there before, and both go on for long enough."""
    after = [frame for frame in parent.prompts if frame >= daughter.first]
    min_frames = min(MIN_DAUGHTER_FRAMES, n_frames - daughter.first)
    long_enough = len(after) >= min_frames and len(daughter.prompts) >= min_frames
    return parent.first < daughter.first and long_enough


def _split_at_divisions(tracklets: dict[int, Tracklet]) -> list[Tracklet]:
    """End parents where they divide; the rest of a parent is its other daughter."""
    found = dict(tracklets)
    for daughter in sorted(tracklets.values(), key=lambda each: (each.first, each.id)):
        if daughter.parent is None:
            continue
        parent, division = found[daughter.parent], daughter.first
        later = {frame: prompt for frame, prompt in parent.prompts.items() if frame >= division}
        parent.prompts = {
            frame: prompt for frame, prompt in parent.prompts.items() if frame < division
        }
        sister = Tracklet(max(found) + 1, later, parent.id)
        found[sister.id] = sister
        for other in tracklets.values():  # later divisions of the parent are those of the sister
            if other.parent == parent.id and other.first > division:
                other.parent = sister.id
    return [tracklet for tracklet in found.values() if tracklet.prompts]


def _renumber(tracklets: list[Tracklet]) -> list[Tracklet]:
    ordered = sorted(tracklets, key=lambda each: (each.first, each.id))
    numbers = {tracklet.id: number for number, tracklet in enumerate(ordered, start=1)}
    return [
        Tracklet(
            numbers[tracklet.id],
            tracklet.prompts,
            None if tracklet.parent is None else numbers.get(tracklet.parent),
        )
        for tracklet in ordered
    ]
