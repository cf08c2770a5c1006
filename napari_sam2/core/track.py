"""Track: the identity of one object through a Video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_sam2.core.errors import PromptError

MAX_TRACK = int(np.iinfo(np.uint32).max)


@dataclass(frozen=True)
class Track:
    """One object through the Video.

    `id` is its label value, from 1, never reused; `parent` the id it divided from.
    """

    id: int
    name: str = ""
    category: str = ""
    parent: int | None = None

    def __post_init__(self) -> None:
        check_track(self.id)
        if self.parent is not None:
            check_track(self.parent)
            if self.parent == self.id:
                raise PromptError("is given as its own parent", track=self.id)


@dataclass(frozen=True)
class Branch:
    """One track from its first frame to its last; `parent` is the track it came from, 0 for none."""

    track: int
    first: int
    last: int
    parent: int = 0


def check_track(track: int) -> None:
    """Raise PromptError unless `track` can be a track id: whole, from 1 (0 is background) to 4294967295."""
    if isinstance(track, bool) or int(track) != track or not 1 <= track <= MAX_TRACK:
        raise PromptError(
            f"track is {track!r}: expected a whole number from 1 to {MAX_TRACK} (0 is the "
            "background)"
        )
