"""Propagation: a plan of which tracks propagate from and to which frames. It yields steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from napari_sam2.core.errors import PlanError

Direction = Literal["both", "forward", "backward"]


@dataclass(frozen=True)
class PropagationRange:
    """Propagation of one track in one direction.

    Parameters
    ----------
    start, end
        It covers the frames after `start` up to and including `end`; backward if `end` < `start`.
    stop_when_unchanged
        Whether it may stop as soon as new masks equal the old ones, as after a correction.
    """

    track: int
    start: int
    end: int
    stop_when_unchanged: bool = False

    @property
    def forward(self) -> bool:
        """Whether frame numbers ascend."""
        return self.end > self.start

    @property
    def frames(self) -> range:
        """The frames covered, in order, without the start."""
        return (
            range(self.start + 1, self.end + 1)
            if self.forward
            else range(self.start - 1, self.end - 1, -1)
        )


@dataclass(frozen=True)
class Step:
    """One frame of a propagation: all its tracks together."""

    frame: int
    forward: bool
    tracks: tuple[int, ...]


@dataclass(frozen=True)
class Propagation:
    """A plan: ranges of tracks; forward first, then backward, all tracks of a frame together."""

    ranges: tuple[PropagationRange, ...]

    @property
    def tracks(self) -> tuple[int, ...]:
        """Ids of the tracks, ascending."""
        return tuple(sorted({each.track for each in self.ranges}))

    def iterate_steps(self) -> Iterator[Step]:
        """The steps in order: ascending frames, then descending ones."""
        for forward in (True, False):
            by_frame: dict[int, set[int]] = defaultdict(set)
            for each in self.ranges:
                if each.frames and each.forward == forward:
                    for frame in each.frames:
                        by_frame[frame].add(each.track)
            for frame in sorted(by_frame, reverse=not forward):
                yield Step(frame, forward, tuple(sorted(by_frame[frame])))

    @classmethod
    def outward(
        cls,
        starts: Mapping[int, Sequence[int]],
        *,
        length: int,
        direction: Direction = "both",
        frames: tuple[int, int] | None = None,
        stop_when_unchanged: bool = False,
    ) -> Propagation:
        """A plan from each start frame of each track, in both directions or one.

        Parameters
        ----------
        starts
            Start frames by track id.
        length
            Frames in the video.
        frames
            First frame and the one after the last, as in a slice; the whole video if not given.

        Raises
        ------
        PlanError
            An unknown direction, or frames that are not in the video.
        """
        if direction not in get_args(Direction):
            raise PlanError(f"direction {direction!r}: expected one of {get_args(Direction)!r}")
        first, after = frames or (0, length)
        if not 0 <= first < after <= length:
            raise PlanError(
                f"frames {first}:{after}: expected a part of 0:{length}, the first below the last"
            )
        ranges = []
        for track, places in sorted(starts.items()):
            for start in places:
                if direction != "backward" and start < after - 1:
                    ranges.append(PropagationRange(track, start, after - 1, stop_when_unchanged))
                if direction != "forward" and start > first:
                    ranges.append(PropagationRange(track, start, first, stop_when_unchanged))
        return cls(tuple(ranges))
