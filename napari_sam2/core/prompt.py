"""Prompts of tracks on frames, and the log that keeps them in order."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from napari_sam2.core.errors import PromptError
from napari_sam2.core.plan import Propagation
from napari_sam2.core.track import Track, check_track


@dataclass(frozen=True)
class PointPrompt:
    """Clicks for one track on one frame; they add to earlier points on that frame.

    Parameters
    ----------
    yx
        (y, x) positions in data pixels; the centre of the first pixel is (0, 0).
    positive
        For each point, whether it is on the object (True) or beside it (False).
    replaces_previous
        Whether the points replace all earlier prompts on that frame and the mask there, because
        they were moved after the track was propagated.

    Examples
    --------
    >>> PointPrompt(frame=0, track=1, yx=[(88, 140)], positive=[True]).yx
    ((88.0, 140.0),)
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
    """A box around one track on one frame: (y, x, y2, x2) in data pixels, top left corner first."""

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
    """The mask of one track on one frame, given as (H, W) bool.

    It is stored as packed bits of the rectangle (y, x, y2, x2) around the object, y2 and x2
    exclusive, so that hundreds of masks on a large frame stay small.
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
    """A person accepted a track on a frame, or withdrew that: propagation does not overwrite it."""

    frame: int
    track: int
    locked: bool = True

    def __post_init__(self) -> None:
        _set_frame_and_track(self, self.frame, self.track)


@dataclass(frozen=True)
class Removal:
    """A person removed a track: it is not shown, measured or propagated until this is undone."""

    track: int

    def __post_init__(self) -> None:
        check_track(self.track)
        object.__setattr__(self, "track", int(self.track))


Entry = Prompt | Lock | Removal | Propagation


@dataclass(frozen=True)
class FramePrompts:
    """The combined prompts of one track on one frame, as a model gets them.

    A mask or a box replaces all prompts before it; points add up. `mask` is set only if no prompt
    followed it, `replaces_previous` only if the last prompt had it.
    """

    points: tuple[tuple[float, float], ...] = ()
    positive: tuple[bool, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None
    replaces_previous: bool = False


@dataclass(frozen=True)
class PromptLog:
    """The ordered, immutable list of prompts, locks, removals and propagations.

    Propagations are part of the list, because a correction is answered with memory: its meaning
    depends on what was propagated before. Each change makes a new log; undo is `without_last`.
    Lookups are indexed on first use, because a log may hold ten thousand prompts.
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
        """Ids of the prompted tracks that were not removed, ascending."""
        return tuple(sorted({prompt.track for prompt in self.prompts} - self.removed))

    @cached_property
    def removed(self) -> frozenset[int]:
        """Ids of the tracks that were removed."""
        return frozenset(entry.track for entry in self.entries if isinstance(entry, Removal))

    def get_track(self, number: int) -> Track:
        """The track of an id; without a name if it was never described."""
        return self._tracks_by_id.get(number) or Track(number)

    def add(self, *entries: Entry) -> PromptLog:
        """This log with entries appended; many at once are cheaper than one by one."""
        return replace(self, entries=(*self.entries, *entries))

    def describe(self, *tracks: Track) -> PromptLog:
        """This log with new names, categories or parents of tracks."""
        described = {**self._tracks_by_id, **{track.id: track for track in tracks}}
        return replace(self, tracks=tuple(described[number] for number in sorted(described)))

    def without_last(self) -> PromptLog:
        """The log before its last prompt, lock or removal, for undo."""
        kept = list(self.entries)
        while kept and isinstance(kept[-1], Propagation):
            kept.pop()
        return replace(self, entries=tuple(kept[:-1]))

    def find_first_frame(self, track: int) -> int:
        """The frame of a track's first prompt; raises PromptError if it has none."""
        if track not in self._frames_by_track:
            raise PromptError("has no prompt: prompt it on one frame first", track=track)
        return self._frames_by_track[track][0]

    def find_prompted_frames(self, track: int) -> tuple[int, ...]:
        """Frames on which a track was prompted, ascending."""
        return tuple(sorted(set(self._frames_by_track.get(track, ()))))

    def is_locked(self, track: int, frame: int) -> bool:
        """Whether the last lock of this track and frame is in force."""
        locks = [
            entry.locked
            for entry in self.entries
            if isinstance(entry, Lock) and (entry.track, entry.frame) == (track, frame)
        ]
        return bool(locks) and locks[-1]

    def combine_prompts(self, track: int, frame: int) -> FramePrompts:
        """The combined prompts of a track on a frame; see `FramePrompts`."""
        combined = FramePrompts()
        for prompt in self._prompts_by_frame.get(frame, {}).get(track, ()):
            combined = _apply_prompt(combined, prompt)
        return combined

    def has_positive_prompt(self, track: int, frame: int) -> bool:
        """Whether a box, a mask or a positive point says where a track is on a frame."""
        positive = False
        for prompt in self._prompts_by_frame.get(frame, {}).get(track, ()):
            if not isinstance(prompt, PointPrompt):
                positive = True
            else:
                kept = positive and not prompt.replaces_previous
                positive = kept or any(prompt.positive)
        return positive

    def get_drawn_masks(self, frame: int) -> dict[int, np.ndarray]:
        """(H, W) bool masks by track, for the tracks whose last prompt on a frame is a mask."""
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
        """Frames by track, in the order of the prompts."""
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
    """The same prompt for another track."""
    check_track(track)
    other = copy(prompt)
    object.__setattr__(other, "track", track)
    return other


def fit_prompt(prompt: Prompt, shape: tuple[int, int, int]) -> Prompt:
    """The prompt in a video of (frames, height, width); a box is cut to the frame.

    Boxes of other programs end one pixel beyond the object. Raises PromptError if nothing of a box
    lies in the frame, or anything else does not; see `check_prompt`.
    """
    if isinstance(prompt, BoxPrompt):
        ends = (shape[1] - 0.5, shape[2] - 0.5) * 2
        y, x, y2, x2 = (
            min(max(edge, -0.5), end) for edge, end in zip(prompt.box, ends, strict=True)
        )
        if y < y2 and x < x2 and (y, x, y2, x2) != prompt.box:
            prompt = BoxPrompt(prompt.frame, prompt.track, (y, x, y2, x2))
    check_prompt(prompt, shape)
    return prompt


def fit_log(log: PromptLog, shape: tuple[int, int, int]) -> PromptLog:
    """The log with its prompts in a video; see `fit_prompt`.

    Raises PromptError too if a track that was not propagated has only negative points on a frame.
    """
    entries = tuple(
        fit_prompt(entry, shape) if isinstance(entry, Prompt) else entry for entry in log
    )
    fitted = replace(log, entries=entries)
    if not any(isinstance(entry, Propagation) for entry in entries):
        check_not_only_negative(fitted, fitted.prompts)
    return fitted


def check_not_only_negative(
    log: PromptLog,
    prompts: Iterable[Prompt],
    has_mask: Callable[[int, int], bool] = lambda track, frame: False,
) -> None:
    """Raise PromptError if prompts, of a log, do not say where their object is.

    Negative points take something away from a mask: from that of the other prompts on their frame,
    or from the one that `has_mask` of the track and frame says is there.
    """
    for prompt in prompts:
        if not isinstance(prompt, PointPrompt) or any(prompt.positive):
            continue
        positive = log.has_positive_prompt(prompt.track, prompt.frame)
        if not positive and not has_mask(prompt.track, prompt.frame):
            raise PromptError(
                "only negative points, and no mask to take them from: give a positive point, a box "
                "or a mask of the object on this frame",
                frame=prompt.frame,
                track=prompt.track,
            )


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
