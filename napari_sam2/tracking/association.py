"""Association: how detections of single frames become tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol

from napari_sam2.tracking.progress import TrackingProgress
from napari_sam2.tracking.seeds import SeedSelection

if TYPE_CHECKING:
    from napari_sam2.tracking.pipeline import TrackingPipeline

AssociationName = Literal["seeds", "model"]


class Association(Protocol):
    """How detections become tracks; the part of `TrackingPipeline` that can be exchanged."""

    def choose_frames(self, length: int, *, volume: bool) -> tuple[int, ...]:
        """Frames to detect on before tracking begins; `volume`: all of them are known at once."""
        ...

    @property
    def uses_volumes(self) -> bool:
        """Whether a detector may segment the whole volume."""
        ...

    def track(
        self, pipeline: TrackingPipeline, selection: SeedSelection
    ) -> Iterator[TrackingProgress]:
        """Prompt the tracks in the pipeline's session and propagate them."""
        ...
