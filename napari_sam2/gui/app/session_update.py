"""Changed: what a piece of work at a Desk changed. Carry: what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from napari_sam2.core.plan import Direction
from napari_sam2.core.prompt import PromptLog
from napari_sam2.gui.app.counting_task import Seed
from napari_sam2.measurement.track_status import TrackStatus


@dataclass(frozen=True, eq=False)
class SessionUpdate:
    """What a piece of work changed.

    `planes` are the (H, W) labels of frames that look different, `stale_frames` are more of them: ask for
    these (`SessionWorker.shown`). `statuses` are new ones, or with `complete` all there are. `running`: a run was
    begun, do its steps. `alternative_count` is how many masks the model offers for the last prompt, 0 where
    only one. `done` of `total` steps of a run; `message` is a sentence about this step, and `seeds`
    are what a search found on it.
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
    """What a person asked to be carried: which way, which frames (as in a slice), which tracks; None: all."""

    direction: Direction = "both"
    frames: tuple[int, int] | None = None
    tracks: tuple[int, ...] | None = None
