"""Chains: objects found on single frames, joined to tracks; divisions confirmed, what is too short dropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from napari_sam2.core.prompt import Prompt

MIN_DAUGHTER_FRAMES = 2
"""Frames that both daughters must live for a division to be one (unless the video ends first)."""


@dataclass
class Tracklet:
    """What was found of one object: a prompt by frame; `parent` is the chain it divided from, `divided` the frame that happened on."""

    id: int
    prompts: dict[int, Prompt] = field(default_factory=dict)
    parent: int | None = None

    @property
    def first(self) -> int:
        """Its first frame."""
        return min(self.prompts)

    @property
    def last(self) -> int:
        """Its last frame."""
        return max(self.prompts)

    def find_gaps(self) -> list[tuple[int, int]]:
        """Pairs of frames it was found on with frames between them on which it was not."""
        frames = sorted(self.prompts)
        return [(a, b) for a, b in pairwise(frames) if b - a > 1]


def finalize_tracklets(
    tracklets: Iterable[Tracklet], n_frames: int, *, min_frames: int
) -> list[Tracklet]:
    """Chains as they are told: short ones dropped, divisions confirmed, mothers ended where they divide; numbered from 1 in order.

    A chain of fewer than `min_frames` frames is dropped unless the video begins or ends on it. A
    division of which a daughter is too short is none: its daughter goes, the mother goes on.
    """
    known = {chain.id: chain for chain in tracklets}
    kept = {
        number: chain
        for number, chain in known.items()
        if _is_long_enough(chain, n_frames, min_frames)
    }
    divisions = [chain for chain in kept.values() if chain.parent is not None]
    for daughter in divisions:
        mother = kept.get(daughter.parent or 0)
        if mother is None or not _is_confirmed_division(daughter, mother, n_frames):
            daughter.parent = None
    return _renumber(_split_at_divisions(kept))


def _is_long_enough(tracklet: Tracklet, n_frames: int, min_frames: int) -> bool:
    if tracklet.parent is not None and len(tracklet.prompts) < min(
        MIN_DAUGHTER_FRAMES, n_frames - tracklet.first
    ):
        return False
    return (
        len(tracklet.prompts) >= min(min_frames, n_frames)
        or tracklet.first == 0
        or tracklet.last == n_frames - 1
    )


def _is_confirmed_division(daughter: Tracklet, parent: Tracklet, n_frames: int) -> bool:
    """Whether the mother was there before, and both go on for long enough afterwards."""
    after = [frame for frame in parent.prompts if frame >= daughter.first]
    least = min(MIN_DAUGHTER_FRAMES, n_frames - daughter.first)
    return parent.first < daughter.first and len(after) >= least and len(daughter.prompts) >= least


def _split_at_divisions(tracklets: dict[int, Tracklet]) -> list[Tracklet]:
    """Mothers end where they divide; what they went on as is a daughter of its own."""
    found = dict(tracklets)
    for chain in sorted(tracklets.values(), key=lambda each: (each.first, each.id)):
        if chain.parent is None:
            continue
        mother = found[chain.parent]
        later = {frame: prompt for frame, prompt in mother.prompts.items() if frame >= chain.first}
        mother.prompts = {
            frame: prompt for frame, prompt in mother.prompts.items() if frame < chain.first
        }
        sister = Tracklet(max(found) + 1, later, mother.id)
        found[sister.id] = sister
        for other in tracklets.values():  # what divided later divided from what she went on as
            if other.parent == mother.id and other.first > chain.first:
                other.parent = sister.id
    return [chain for chain in found.values() if chain.prompts]


def _renumber(tracklets: list[Tracklet]) -> list[Tracklet]:
    ordered = sorted(tracklets, key=lambda chain: (chain.first, chain.id))
    new = {chain.id: place for place, chain in enumerate(ordered, start=1)}
    return [
        Tracklet(
            new[chain.id],
            chain.prompts,
            None if chain.parent is None else new.get(chain.parent),
        )
        for chain in ordered
    ]
