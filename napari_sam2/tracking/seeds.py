"""Seeds: detected objects that a person can edit before they become prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt, renumber_prompt
from napari_sam2.tracking.tracklets import Tracklet

_MAX_UNMOVED_PX = 0.75  # a seed this close to where it was detected was not moved

DetectionKey = tuple[int, int]
"""A detection by its frame and its number on that frame, which is the track of its prompt."""


@dataclass(frozen=True, eq=False)
class Seed:
    """A detected object.

    Parameters
    ----------
    number
        Number among all seeds, from 1.
    prompt
        The prompt that the detector gave.
    label
        Object of the volume that it is a slice of; 0 if the detector does not know.
    """

    number: int
    prompt: Prompt
    label: int = 0

    @property
    def frame(self) -> int:
        """Frame it lies on."""
        return self.prompt.frame

    @cached_property
    def yx(self) -> tuple[float, float]:
        """Where it is shown: the click, or the middle of the box or of the mask."""
        match self.prompt:
            case PointPrompt():
                return self.prompt.yx[0]
            case BoxPrompt():
                y, x, y2, x2 = self.prompt.box
                return (y + y2) / 2, (x + x2) / 2
            case MaskPrompt():
                return _find_middle_pixel(self.prompt)


@dataclass(frozen=True)
class EditedSeed:
    """A seed as it lies in its layer: number (0 if a person added it), frame and (y, x)."""

    number: int
    frame: int
    yx: tuple[float, float]


@dataclass(frozen=True, eq=False)
class SeedSelection:
    """Seeds to track, numbered from 1 on each frame; `user_placed` are the clicks of a person."""

    seeds: tuple[Seed, ...]
    user_placed: frozenset[DetectionKey] = frozenset()

    @classmethod
    def of_all(cls, seeds: Iterable[Seed]) -> SeedSelection:
        """All seeds, as they were detected."""
        counts: Counter[int] = Counter()
        selected = []
        for seed in seeds:
            counts[seed.frame] += 1
            selected.append(_renumber(seed, counts[seed.frame]))
        return cls(tuple(selected))

    @classmethod
    def of_edited(
        cls,
        seeds: Mapping[int, Seed],
        edited_seeds: Iterable[EditedSeed],
        shape: tuple[int, ...],
    ) -> SeedSelection:
        """Seeds as a person left them; those that were moved or added become clicks.

        Parameters
        ----------
        seeds
            Detected seeds by number.
        edited_seeds
            All seeds that are left.
        shape
            (H, W) of a frame: clicks outside it move to its edge.
        """
        selected, used, user_placed = list[Seed](), set[int](), set[DetectionKey]()
        counts: Counter[int] = Counter()
        for each in edited_seeds:
            counts[each.frame] += 1
            number = counts[each.frame]
            seed = None if each.number in used else seeds.get(each.number)  # a copy is a new seed
            used.add(each.number)
            if seed is not None and _is_unmoved(seed, each):
                selected.append(_renumber(seed, number))
                continue
            click = PointPrompt(each.frame, number, [_clip_to_frame(each.yx, shape)], [True])
            user_placed.add((each.frame, number))
            selected.append(Seed(number, click))
        return cls(tuple(selected), frozenset(user_placed))

    def is_user_placed(self, tracklet: Tracklet) -> bool:
        """Whether a person placed one of the tracklet's detections."""
        return any(key in self.user_placed for key in get_detection_keys(tracklet))

    def group_by_label(self) -> list[Tracklet]:
        """One tracklet per labelled object of a volume, and one per seed without a label."""
        tracklets: dict[int, Tracklet] = {}
        free = max((seed.label for seed in self.seeds), default=0) + 1
        for seed in self.seeds:
            label = seed.label or free
            free += not seed.label
            tracklets.setdefault(label, Tracklet(label)).prompts[seed.frame] = seed.prompt
        return list(tracklets.values())


def get_detection_keys(tracklet: Tracklet) -> list[DetectionKey]:
    """Keys of a tracklet's detections."""
    return [(frame, prompt.track) for frame, prompt in tracklet.prompts.items()]


def _renumber(seed: Seed, number: int) -> Seed:
    return replace(seed, number=number, prompt=renumber_prompt(seed.prompt, number))


def _is_unmoved(seed: Seed, edited: EditedSeed) -> bool:
    distance = np.hypot(*np.subtract(seed.yx, edited.yx))
    return seed.frame == edited.frame and bool(distance <= _MAX_UNMOVED_PX)


def _find_middle_pixel(prompt: MaskPrompt) -> tuple[float, float]:
    """The mask's pixel nearest to its centre of mass, which lies outside a crescent."""
    y, x, _, _ = prompt.rectangle
    inside = np.argwhere(prompt.crop)
    nearest = inside[np.hypot(*(inside - inside.mean(axis=0)).T).argmin()]
    return float(y + nearest[0]), float(x + nearest[1])


def _clip_to_frame(yx: tuple[float, float], shape: tuple[int, ...]) -> tuple[float, float]:
    y, x = np.clip(yx, 0, np.subtract(shape, 1))
    return float(y), float(x)
