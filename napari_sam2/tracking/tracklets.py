"""Chains: objects found on single frames, joined to tracks; divisions confirmed, what is too short dropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from napari_sam2.core.prompt import Prompt

CONFIRMED = 2
"""Frames that both daughters must live for a division to be one (unless the video ends first)."""


@dataclass
class Chain:
    """What was found of one object: a prompt by frame; `mother` is the chain it divided from, `divided` the frame that happened on."""

    number: int
    prompts: dict[int, Prompt] = field(default_factory=dict)
    mother: int | None = None

    @property
    def first(self) -> int:
        """Its first frame."""
        return min(self.prompts)

    @property
    def last(self) -> int:
        """Its last frame."""
        return max(self.prompts)

    def gaps(self) -> list[tuple[int, int]]:
        """Pairs of frames it was found on with frames between them on which it was not."""
        frames = sorted(self.prompts)
        return [(a, b) for a, b in pairwise(frames) if b - a > 1]


def settled(chains: Iterable[Chain], frames: int, *, least: int) -> list[Chain]:
    """Chains as they are told: short ones dropped, divisions confirmed, mothers ended where they divide; numbered from 1 in order.

    A chain of fewer than `least` frames is dropped unless the video begins or ends on it. A
    division of which a daughter is too short is none: its daughter goes, the mother goes on.
    """
    known = {chain.number: chain for chain in chains}
    kept = {number: chain for number, chain in known.items() if _long(chain, frames, least)}
    divisions = [chain for chain in kept.values() if chain.mother is not None]
    for daughter in divisions:
        mother = kept.get(daughter.mother or 0)
        if mother is None or not _confirmed(daughter, mother, frames):
            daughter.mother = None
    return _numbered(_divided(kept))


def _long(chain: Chain, frames: int, least: int) -> bool:
    if chain.mother is not None and len(chain.prompts) < min(CONFIRMED, frames - chain.first):
        return False
    return len(chain.prompts) >= min(least, frames) or chain.first == 0 or chain.last == frames - 1


def _confirmed(daughter: Chain, mother: Chain, frames: int) -> bool:
    """Whether the mother was there before, and both go on for long enough afterwards."""
    after = [frame for frame in mother.prompts if frame >= daughter.first]
    least = min(CONFIRMED, frames - daughter.first)
    return mother.first < daughter.first and len(after) >= least and len(daughter.prompts) >= least


def _divided(kept: dict[int, Chain]) -> list[Chain]:
    """Mothers end where they divide; what they went on as is a daughter of its own."""
    found = dict(kept)
    for chain in sorted(kept.values(), key=lambda each: (each.first, each.number)):
        if chain.mother is None:
            continue
        mother = found[chain.mother]
        later = {frame: prompt for frame, prompt in mother.prompts.items() if frame >= chain.first}
        mother.prompts = {
            frame: prompt for frame, prompt in mother.prompts.items() if frame < chain.first
        }
        sister = Chain(max(found) + 1, later, mother.number)
        found[sister.number] = sister
        for other in kept.values():  # what divided later divided from what she went on as
            if other.mother == mother.number and other.first > chain.first:
                other.mother = sister.number
    return [chain for chain in found.values() if chain.prompts]


def _numbered(chains: list[Chain]) -> list[Chain]:
    ordered = sorted(chains, key=lambda chain: (chain.first, chain.number))
    new = {chain.number: place for place, chain in enumerate(ordered, start=1)}
    return [
        Chain(
            new[chain.number],
            chain.prompts,
            None if chain.mother is None else new.get(chain.mother),
        )
        for chain in ordered
    ]
