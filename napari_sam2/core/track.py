"""Track: the identity of one object through a video, and its presence on each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from napari_sam2.core.errors import LabelsError, PromptError

MAX_TRACK = int(np.iinfo(np.uint32).max)
"""The largest track id: label images have at most 32 bits."""


@dataclass(frozen=True)
class Track:
    """One object through the video.

    Parameters
    ----------
    id
        Its label value, from 1; never used for another object.
    name, category
        Free text for people and tables.
    parent
        The id of the track it divided from.
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
                raise PromptError(
                    "the track is its own parent: give the id of another track", track=self.id
                )


@dataclass(frozen=True)
class Branch:
    """A track from its first to its last frame; `parent` is the id it came from, 0 if none."""

    track: int
    first: int
    last: int
    parent: int = 0


class Presence(StrEnum):
    """The state of a track on a frame, from most to least certain."""

    LOCKED = "locked"
    """A person accepted it; nothing overwrites it."""
    PROMPTED = "prompted"
    """A person or a rule prompted it here; propagation does not overwrite it."""
    TRACKED = "tracked"
    """The model propagated it here."""
    UNCERTAIN = "uncertain"
    """The model propagated it here with a low score: this frame needs review."""
    ABSENT = "absent"
    """The object is not on this frame, according to the model."""


CONDITIONING_PRESENCES = (Presence.LOCKED, Presence.PROMPTED)
"""States of conditioning frames: propagation keeps them and conditions other frames on them."""

NOT_PROPAGATED = 0
"""Code of a frame that a track was never propagated to; see `PRESENCE_CODES`."""

PRESENCE_CODES: Mapping[Presence, int] = MappingProxyType(
    {
        Presence.ABSENT: 1,
        Presence.TRACKED: 2,
        Presence.LOCKED: 3,
        Presence.PROMPTED: 4,
        Presence.UNCERTAIN: 5,
    }
)
"""Code of each presence in a lane; if frames share a screen pixel, the highest code is shown."""


def convert_to_labels(
    plane: np.ndarray, *, source: str = "", frame: int | None = None
) -> np.ndarray:
    """Label values as whole numbers from 0: masks of 1 bit, and floats that are exact, converted.

    Raises LabelsError, which names `source` and `frame`, for other values.
    """
    prefix = f"{source}: " if source else ""
    kind = plane.dtype.kind
    if kind not in "buif":
        raise LabelsError(
            f"{prefix}label image of type {plane.dtype}: expected whole numbers, one for each "
            "object; convert it to an integer type",
            frame=frame,
        )
    if kind == "b":
        return plane.astype(np.uint8)
    if kind == "f":
        exact = np.isfinite(plane) & (np.trunc(plane) == plane)
        if not exact.all():
            raise LabelsError(
                f"{prefix}contains the value {plane[~exact].flat[0]}: expected whole numbers, one "
                "for each object; an image of intensities or probabilities has no labels",
                frame=frame,
            )
    if not plane.size or (kind == "u" and plane.dtype.itemsize <= 4):
        return plane
    low, high = int(plane.min()), int(plane.max())
    if low < 0 or high > MAX_TRACK:
        raise LabelsError(
            f"{prefix}contains the label {low if low < 0 else high}: expected 0 for the background "
            f"and numbers from 1 to {MAX_TRACK} for objects",
            frame=frame,
        )
    return plane.astype(np.uint32) if kind == "f" else plane


def check_track(track: int) -> None:
    """Raise PromptError unless `track` is a whole number from 1 (0 is background) to 4294967295."""
    if isinstance(track, bool) or int(track) != track or not 1 <= track <= MAX_TRACK:
        raise PromptError(
            f"track is {track!r}: expected a whole number from 1 to {MAX_TRACK} (0 is the "
            "background)"
        )
