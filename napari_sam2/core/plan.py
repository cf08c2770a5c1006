"""Propagation: from which frame, which way, how far, for which tracks. Pure: it yields steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from napari_sam2.core.errors import PlanError

Direction = Literal["both", "forward", "backward"]


@dataclass(frozen=True)
class PropagationRange:
    """One track's walk one way: the frames after `start` up to and with `end` (before it, where `end` < `start`).

    `stop_when_unchanged`: the walk may stop where the new masks equal the old ones, as after a correction.
    """

    track: int
    start: int
    end: int
    stop_when_unchanged: bool = False

    @property
    def forward(self) -> bool:
        """Whether the frame number rises."""
        return self.end > self.start

    @property
    def frames(self) -> range:
        """The frames walked, in order; the start is not among them."""
        return (
            range(self.start + 1, self.end + 1)
            if self.forward
            else range(self.start - 1, self.end - 1, -1)
        )


@dataclass(frozen=True)
class Step:
    """One frame of the walk: these tracks, together."""

    frame: int
    forward: bool
    tracks: tuple[int, ...]


@dataclass(frozen=True)
class Propagation:
    """A plan: legs of tracks, walked forward first, then backward, all tracks of a frame together."""

    ranges: tuple[PropagationRange, ...]

    @property
    def tracks(self) -> tuple[int, ...]:
        """Ids of the tracks that walk, ascending."""
        return tuple(sorted({leg.track for leg in self.ranges}))

    def steps(self) -> Iterator[Step]:
        """The steps in order: rising frames, then falling ones."""
        for forward in (True, False):
            by_frame: dict[int, set[int]] = defaultdict(set)
            for leg in self.ranges:
                if leg.frames and leg.forward == forward:
                    for frame in leg.frames:
                        by_frame[frame].add(leg.track)
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
        """Each track both ways (or one) from each of its start frames.

        Parameters
        ----------
        starts
            Start frames by track id.
        length
            Frames in the video.
        frames
            First frame and the one after the last, as in a slice; the whole video where not given.

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
        legs = []
        for track, places in sorted(starts.items()):
            for start in places:
                if direction != "backward" and start < after - 1:
                    legs.append(PropagationRange(track, start, after - 1, stop_when_unchanged))
                if direction != "forward" and start > first:
                    legs.append(PropagationRange(track, start, first, stop_when_unchanged))
        return cls(tuple(legs))
