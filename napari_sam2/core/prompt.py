"""Prompts: what a person or a rule says about one Track on one Frame, and the log that keeps them in order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from napari_sam2.core.errors import PromptError
from napari_sam2.core.plan import Propagation
from napari_sam2.core.track import Track, check_track


@dataclass(frozen=True)
class PointPrompt:
    """Clicks on one Track on one Frame.

    `yx` are (y, x) positions in data pixels, the centre of the first pixel being (0, 0); `positive`
    says for each whether the object is there (True) or is not (False). Points add up; where `replaces_previous`
    they take the place of all that was said before on that frame, and of what was answered there:
    they were moved after the object was carried on from them.
    """

    frame: int
    track: int
    yx: tuple[tuple[float, float], ...]
    positive: tuple[bool, ...]
    replaces_previous: bool

    def __init__(
        self,
        frame: int,
        track: int,
        yx: Sequence[Sequence[float]],
        positive: Sequence[bool],
        *,
        replaces_previous: bool = False,
    ) -> None:
        _set_frame_and_track(self, frame, track)
        points = tuple(_parse_numbers(point, 2, "a point is (y, x)", self) for point in yx)
        if not points:
            raise PromptError(
                "no points given: expected at least one (y, x)", frame=frame, track=track
            )
        if len(points) != len(positive):
            raise PromptError(
                f"{len(points)} points with {len(positive)} positive flags: give one flag for each",
                frame=frame,
                track=track,
            )
        object.__setattr__(self, "yx", points)
        object.__setattr__(self, "positive", tuple(bool(flag) for flag in positive))
        object.__setattr__(self, "replaces_previous", bool(replaces_previous))


@dataclass(frozen=True)
class BoxPrompt:
    """A box around one Track on one Frame: `box` is (y, x, y2, x2) in data pixels, first corner above and left."""

    frame: int
    track: int
    box: tuple[float, float, float, float]

    def __init__(self, frame: int, track: int, box: Sequence[float]) -> None:
        _set_frame_and_track(self, frame, track)
        numbers = _parse_numbers(box, 4, "a box is (y, x, y2, x2)", self)
        if not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
            raise PromptError(
                f"box {numbers!r} has no area: expected y < y2 and x < x2", frame=frame, track=track
            )
        object.__setattr__(self, "box", numbers)


@dataclass(frozen=True)
class MaskPrompt:
    """The mask of one Track on one Frame: give it as (H, W), True where the object is.

    Kept as packed bits of the rectangle around the object, (y, x, y2, x2) with the far corner
    outside: hundreds of masks on a large frame take no more than the objects do.
    """

    frame: int
    track: int
    shape: tuple[int, int]
    rectangle: tuple[int, int, int, int]
    bits: bytes

    def __init__(self, frame: int, track: int, mask: np.ndarray) -> None:
        _set_frame_and_track(self, frame, track)
        given = np.asarray(mask, dtype=bool)
        if given.ndim != 2 or not given.any():
            raise PromptError(
                f"mask of shape {given.shape!r} with {int(given.sum())} pixels: expected (H, W) "
                "with at least one",
                frame=frame,
                track=track,
            )
        rows, columns = (np.flatnonzero(given.any(axis=axis)) for axis in (1, 0))
        y, x, y2, x2 = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
        object.__setattr__(self, "shape", (int(given.shape[0]), int(given.shape[1])))
        object.__setattr__(self, "rectangle", (y, x, y2, x2))
        object.__setattr__(self, "bits", np.packbits(given[y:y2, x:x2]).tobytes())

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, a new array each time."""
        y, x, y2, x2 = self.rectangle
        whole = np.zeros(self.shape, dtype=bool)
        whole[y:y2, x:x2] = self.crop
        return whole

    @property
    def crop(self) -> np.ndarray:
        """The mask within its rectangle alone."""
        y, x, y2, x2 = self.rectangle
        return (
            np.unpackbits(np.frombuffer(self.bits, dtype=np.uint8), count=(y2 - y) * (x2 - x))
            .reshape(y2 - y, x2 - x)
            .astype(bool)
        )


Prompt = PointPrompt | BoxPrompt | MaskPrompt


@dataclass(frozen=True)
class Lock:
    """A person accepted what a Track is on a Frame (or took that back): no propagation overwrites it."""

    frame: int
    track: int
    locked: bool = True

    def __post_init__(self) -> None:
        _set_frame_and_track(self, self.frame, self.track)


@dataclass(frozen=True)
class Removal:
    """A person took a Track out: nothing of it is shown, measured or carried any more, until this is undone."""

    track: int

    def __post_init__(self) -> None:
        check_track(self.track)
        object.__setattr__(self, "track", int(self.track))


Entry = Prompt | Lock | Removal | Propagation


@dataclass(frozen=True)
class FramePrompts:
    """All that is said about one Track on one Frame, taken together: what a model is asked with.

    A mask takes the place of all before it, a box too; points add up. `mask` is set only where
    nothing followed it, `replaces_previous` where the last word took the place of what was answered before.
    """

    points: tuple[tuple[float, float], ...] = ()
    positive: tuple[bool, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None
    replaces_previous: bool = False


@dataclass(frozen=True)
class PromptLog:
    """The ordered, immutable list of what was said: prompts, locks and removals, and the propagations between them.

    A propagation stands in the list because a correction is answered with memory: where it came
    decides what it means. Each change is a new log; undo is `without_last`. What is asked of a log
    again and again is sorted once, when it is first asked for: ten thousand seeds are as many
    questions.
    """

    entries: tuple[Entry, ...] = ()
    tracks: tuple[Track, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts alone, in order."""
        return tuple(entry for entry in self.entries if isinstance(entry, Prompt))

    @cached_property
    def track_ids(self) -> tuple[int, ...]:
        """Ids of all prompted tracks that were not removed, ascending."""
        return tuple(sorted({prompt.track for prompt in self.prompts} - self.removed))

    @cached_property
    def removed(self) -> frozenset[int]:
        """Ids of the tracks that were removed."""
        return frozenset(entry.track for entry in self.entries if isinstance(entry, Removal))

    def track(self, number: int) -> Track:
        """The Track of that id; a nameless one where nobody said more."""
        return self._tracks_by_id.get(number) or Track(number)

    def add(self, *entries: Entry) -> PromptLog:
        """This log and these entries more; many at once cost little more than one."""
        return replace(self, entries=(*self.entries, *entries))

    def describe(self, *tracks: Track) -> PromptLog:
        """This log with another name, category or parent of tracks."""
        described = {**self._tracks_by_id, **{track.id: track for track in tracks}}
        return replace(self, tracks=tuple(described[number] for number in sorted(described)))

    def without_last(self) -> PromptLog:
        """Undo: the log before its last prompt, lock or removal, and without the propagations that came after that."""
        kept = list(self.entries)
        while kept and isinstance(kept[-1], Propagation):
            kept.pop()
        return replace(self, entries=tuple(kept[:-1]))

    def first_frame(self, track: int) -> int:
        """The frame of a track's own first prompt, where its walk begins.

        Raises PromptError where it has none.
        """
        if track not in self._frames_by_track:
            raise PromptError("has no prompt: prompt it on one frame first", track=track)
        return self._frames_by_track[track][0]

    def prompted_frames(self, track: int) -> tuple[int, ...]:
        """Frames a track is prompted on, ascending."""
        return tuple(sorted(set(self._frames_by_track.get(track, ()))))

    def is_locked(self, track: int, frame: int) -> bool:
        """Whether the last word on this track and frame is that it stays."""
        words = [
            entry.locked
            for entry in self.entries
            if isinstance(entry, Lock) and (entry.track, entry.frame) == (track, frame)
        ]
        return bool(words) and words[-1]

    def frame_prompts(self, track: int, frame: int) -> FramePrompts:
        """What a model is asked with on this track and frame; see `FramePrompts`."""
        said = FramePrompts()
        for prompt in self._prompts_by_frame.get(frame, {}).get(track, ()):
            said = _apply_prompt(said, prompt)
        return said

    def drawn_masks(self, frame: int) -> dict[int, np.ndarray]:
        """The masks, (H, W) bool by track, that are the last word on a frame: nothing but a mask says what they are."""
        last = {
            track: prompts[-1] for track, prompts in self._prompts_by_frame.get(frame, {}).items()
        }
        return {
            track: prompt.mask for track, prompt in last.items() if isinstance(prompt, MaskPrompt)
        }

    @cached_property
    def _tracks_by_id(self) -> dict[int, Track]:
        return {track.id: track for track in self.tracks}

    @cached_property
    def _frames_by_track(self) -> dict[int, list[int]]:
        """Frames by track, in the order in which they were prompted."""
        frames: dict[int, list[int]] = defaultdict(list)
        for prompt in self.prompts:
            frames[prompt.track].append(prompt.frame)
        return dict(frames)

    @cached_property
    def _prompts_by_frame(self) -> Mapping[int, Mapping[int, Sequence[Prompt]]]:
        """Prompts by frame and track, in order."""
        found: dict[int, dict[int, list[Prompt]]] = {}
        for prompt in self.prompts:
            found.setdefault(prompt.frame, {}).setdefault(prompt.track, []).append(prompt)
        return found


def renumber_prompt(prompt: Prompt, track: int) -> Prompt:
    """The same said of another track."""
    check_track(track)
    other = copy(prompt)
    object.__setattr__(other, "track", track)
    return other


def check_prompt(prompt: Prompt, shape: tuple[int, int, int]) -> None:
    """Raise PromptError unless the prompt lies in a video of (frames, height, width)."""
    frames, height, width = shape
    where = {"frame": prompt.frame, "track": prompt.track}
    if prompt.frame >= frames:
        raise PromptError(f"the video has frames 0 to {frames - 1}: prompt one of them", **where)
    if isinstance(prompt, MaskPrompt):
        if prompt.shape != (height, width):
            raise PromptError(
                f"mask of shape {prompt.shape!r}: expected the frame's {(height, width)!r}", **where
            )
        return
    for y, x in _get_corners(prompt):
        if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
            raise PromptError(
                f"(y, x) = {(y, x)!r} lies outside the frame of {height} × {width} pixels (y "
                "comes first)",
                **where,
            )


def _get_corners(prompt: PointPrompt | BoxPrompt) -> tuple[tuple[float, float], ...]:
    if isinstance(prompt, PointPrompt):
        return prompt.yx
    y, x, y2, x2 = prompt.box
    return ((y, x), (y2, x2))


def _apply_prompt(frame_prompts: FramePrompts, prompt: Prompt) -> FramePrompts:
    if isinstance(prompt, MaskPrompt):
        return FramePrompts(mask=prompt.mask)
    if isinstance(prompt, BoxPrompt):
        return FramePrompts(box=prompt.box)
    if prompt.replaces_previous:
        return FramePrompts(prompt.yx, prompt.positive, replaces_previous=True)
    return FramePrompts(
        frame_prompts.points + prompt.yx,
        frame_prompts.positive + prompt.positive,
        frame_prompts.box,
    )


def _set_frame_and_track(prompt: Prompt | Lock, frame: int, track: int) -> None:
    if isinstance(frame, bool) or int(frame) != frame or frame < 0:
        raise PromptError(f"frame is {frame!r}: expected a whole number from 0")
    check_track(track)
    object.__setattr__(prompt, "frame", int(frame))
    object.__setattr__(prompt, "track", int(track))


def _parse_numbers(
    values: Sequence[float], count: int, expected: str, prompt: Prompt
) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise PromptError(
            f"got {tuple(values)!r}: {expected}, in finite numbers",
            frame=prompt.frame,
            track=prompt.track,
        )
    return numbers
