"""CountingTask: a count in the window, which pauses for a person to edit the seeds. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_sam2.api.count import collect_notes
from napari_sam2.api.counting_options import CountingOptions
from napari_sam2.core.prompt import MaskPrompt, PromptLog
from napari_sam2.core.protocols import Detector
from napari_sam2.propagation.overlaps import compute_mask
from napari_sam2.propagation.session import Session
from napari_sam2.tracking.model_association import ModelAssociation
from napari_sam2.tracking.pipeline import TrackingPipeline
from napari_sam2.tracking.progress import TrackingProgress
from napari_sam2.tracking.seed_association import SeedAssociation
from napari_sam2.tracking.seeds import EditedSeed


@dataclass(frozen=True, eq=False)
class DetectionRequest:
    """What a person wants detected.

    Parameters
    ----------
    counting
        How objects are detected and linked.
    labels
        (frames, H, W) labels of a layer, for the detector "labels".
    frame
        Frame to begin with, if the model associates.
    """

    counting: CountingOptions = field(default_factory=CountingOptions)
    labels: Any = None
    frame: int = 0


class CountingTask:
    """One count: `detect` seeds, let a person edit them, then `track` them.

    Both drive the same `TrackingPipeline` as the command line.

    Parameters
    ----------
    session
        Session that gets the tracks; what it knows already is not changed.
    request
        What to detect.
    on_action
        See `SessionDriver`.

    Raises
    ------
    Sam2Error
        PlanError, PromptError, LabelsError or SpacingError, if the detector cannot look here.
    """

    def __init__(
        self, session: Session, request: DetectionRequest, on_action: Callable[[PromptLog], None]
    ) -> None:
        self.request = request
        detector = _open_detector(session, request)
        counting = request.counting
        self.pipeline = TrackingPipeline(
            session,
            detector,
            association=SeedAssociation()
            if counting.association == "seeds"
            else ModelAssociation(request.frame, keep_log=True),
            linking=counting.make_linking_options(detector, session.video),
            on_action=on_action,
        )

    def detect(self) -> Iterator[TrackingProgress]:
        """Detect seeds; the session does not change."""
        return self.pipeline.detect()

    def track(
        self, edited_seeds: Iterable[EditedSeed], *, first_track: int, category: str = ""
    ) -> Iterator[TrackingProgress]:
        """Make tracks of the seeds, numbered from `first_track`."""
        self.pipeline.category = category
        return self.pipeline.track(edited_seeds, first_track=first_track)

    @property
    def notes(self) -> tuple[str, ...]:
        """Decisions that were taken for the person, as the command line notes them."""
        return collect_notes(self.pipeline, self.request.counting)


def _open_detector(session: Session, request: DetectionRequest) -> Detector:
    counting = request.counting
    examples = tuple(_make_examples(session)) if counting.seeds == "examples" else ()
    return counting.make_detector(
        counting.seeds, session.model, labels=request.labels, examples=examples
    )


def _make_examples(session: Session) -> Iterator[MaskPrompt]:
    """The mask of each object of the session on the frame of its first prompt."""
    for track in session.log.track_ids:
        frame = session.log.find_first_frame(track)
        for segment in session.get_segments(frame):
            if segment.track != track or not segment.present:
                continue
            mask: np.ndarray = compute_mask(segment, session.video.shape[1:])
            if mask.any():
                yield MaskPrompt(frame, track, mask)
