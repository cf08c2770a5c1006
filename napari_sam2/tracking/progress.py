"""What the tracking pipeline yields."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.tracking.seeds import Seed


class TrackingStage(StrEnum):
    """The stages of the tracking pipeline, in order."""

    DETECT = "detect"
    LINK = "link"
    PROMPT = "prompt"
    PROPAGATE = "propagate"
    FINALISE = "finalise"


@dataclass(frozen=True, eq=False)
class TrackingProgress:
    """One step of the tracking pipeline.

    Parameters
    ----------
    stage
        The stage it belongs to.
    done, total
        Steps of this stage: finished ones, and all.
    message
        One sentence for a person.
    seeds
        Seeds that this step detected.
    doubt
        One sentence if the detections are in doubt, at their end.
    changed_frames
        Frames whose labels this step changed.
    step
        The step of the propagation, in the stage "propagate".
    """

    stage: TrackingStage
    done: int
    total: int
    message: str = ""
    seeds: tuple[Seed, ...] = ()
    doubt: str = ""
    changed_frames: tuple[int, ...] = ()
    step: PropagationStep | None = None

    @property
    def position(self) -> int:
        """Same as `done`: the name that `PropagationStep` uses."""
        return self.done
