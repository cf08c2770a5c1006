"""SessionUpdate: what a task changed in a session. PropagationRequest: what to propagate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_sam2.core.plan import Direction
from napari_sam2.core.prompt import PromptLog
from napari_sam2.measurement.track_status import TrackStatus
from napari_sam2.tracking.seeds import Seed


@dataclass(frozen=True, eq=False)
class SessionUpdate:
    """What a task changed in a session.

    Parameters
    ----------
    log
        The prompt log.
    planes
        The (H, W) labels of frames that changed.
    statuses, complete
        New statuses by (track, frame); all there are if `complete`.
    stale_frames
        More frames that changed, to be requested with `SessionWorker.read_frames`.
    running
        Whether a run has started, whose steps are to be done.
    notice
        A sentence for the person.
    alternative_count
        How many masks the model offers for the last prompt; 0 if there is no choice.
    done, total, message
        The progress of a run, and one line about it.
    seeds
        What was detected in this step.
    """

    log: PromptLog
    planes: Mapping[int, np.ndarray] = field(default_factory=dict)
    statuses: Mapping[tuple[int, int], TrackStatus] = field(default_factory=dict)
    complete: bool = False
    stale_frames: frozenset[int] = frozenset()
    running: bool = False
    notice: str = ""
    alternative_count: int = 0
    undoable: bool = False
    redoable: bool = False
    unfinished: bool = False
    done: int = 0
    total: int = 0
    message: str = ""
    seeds: tuple[Seed, ...] = ()


@dataclass(frozen=True)
class PropagationRequest:
    """What to propagate: directions, frames (as in a slice) and tracks; None means all."""

    direction: Direction = "both"
    frames: tuple[int, int] | None = None
    tracks: tuple[int, ...] | None = None
