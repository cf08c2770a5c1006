"""AcceptedFrames: the frames of a session that a person accepted, as training data. No Qt."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.stack import Video
from napari_sam2.core.track import CONDITIONING_PRESENCES, Presence

if TYPE_CHECKING:
    from napari_sam2.propagation.session import Session
    from napari_sam2.train.data.pairs import AnnotatedStack

MIN_FRAMES = 2
"""Frames needed to train: one to learn from and one to validate on."""


@dataclass(frozen=True, eq=False)
class AcceptedFrames:
    """Frames with an accepted (locked) object whose other objects are accepted or prompted too.

    A frame with an object that was only propagated is left out, because nobody checked it.
    """

    session: Session
    frames: tuple[int, ...]
    object_count: int

    @classmethod
    def of(cls, session: Session) -> AcceptedFrames:
        """The accepted frames of a session now."""
        by_frame: dict[int, dict[int, Presence]] = defaultdict(dict)
        for (track, frame), record in session.get_records().items():
            if record.presence != Presence.ABSENT:
                by_frame[frame][track] = record.presence
        frames = tuple(
            frame for frame, presences in sorted(by_frame.items()) if _is_complete(presences)
        )
        return cls(session, frames, len({track for frame in frames for track in by_frame[frame]}))

    @property
    def summary(self) -> str:
        """One line about the accepted frames, and about what is missing."""
        if len(self.frames) < MIN_FRAMES:
            count = "no frame is" if not self.frames else "one frame is"
            return (
                f"{count} accepted so far: accept at least {MIN_FRAMES} frames with all their "
                "objects"
            )
        return (
            f"{len(self.frames)} accepted frames with {self.object_count} "
            f"object{'' if self.object_count == 1 else 's'}"
        )

    def make_training_pair(self) -> AnnotatedStack:
        """Make training data of the labels as they are now, even if the session changes later.

        Raises LabelsError if too few frames are accepted.
        """
        from napari_sam2.train.data.pairs import AnnotatedStack

        if len(self.frames) < MIN_FRAMES:
            raise LabelsError(self.summary)
        video = self.session.video
        planes = {
            frame: self.session.compute_label_plane(frame).astype(np.int32) for frame in self.frames
        }
        largest: Counter[int] = Counter()
        for plane in planes.values():
            ids, sizes = np.unique(plane[plane > 0], return_counts=True)
            largest |= Counter(dict(zip(ids.tolist(), sizes.tolist(), strict=True)))
        # a track of single pixels cannot be learned from a click
        dots = tuple(sorted(track for track, size in largest.items() if size == 1))
        shown = tuple(
            frame for frame, plane in planes.items() if (~np.isin(plane, (0, *dots))).any()
        )
        return AnnotatedStack(
            video.stack.name,
            video.stack.name,
            video.shape,
            shown,
            partial(_read_frame, video, planes, dots),
            left_out=dots,
        )


def _is_complete(presences: dict[int, Presence]) -> bool:
    return Presence.LOCKED in presences.values() and all(
        presence in CONDITIONING_PRESENCES for presence in presences.values()
    )


def _read_frame(
    video: Video, planes: dict[int, np.ndarray], ignored_tracks: tuple[int, ...], frame: int
) -> tuple[np.ndarray, np.ndarray]:
    labels = planes[frame]
    return video.read_frame(frame).pixels, np.where(
        np.isin(labels, ignored_tracks), 0, labels
    ) if ignored_tracks else labels
