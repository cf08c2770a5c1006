"""Association: how detections of single frames become tracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from napari_sam2.core.protocols import Detector
from napari_sam2.propagation.session import Session
from napari_sam2.tracking.linker import LinkingOptions
from napari_sam2.tracking.progress import TrackingProgress
from napari_sam2.tracking.saved_work import SavedWork
from napari_sam2.tracking.seeds import SeedSelection
from napari_sam2.tracking.session_driver import SessionDriver

AssociationName = Literal["seeds", "model"]


class TrackingContext(Protocol):
    """What an association works with; `TrackingPipeline` is one and documents the attributes."""

    session: Session
    detector: Detector
    linking: LinkingOptions
    category: str
    saved: SavedWork | None
    driver: SessionDriver
    first_track: int
    has_volume_labels: bool

    def find_known_objects(self) -> dict[int, int]:
        """Tracks that the session knows, by label of the volume's object they are."""
        ...


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
        self, context: TrackingContext, selection: SeedSelection
    ) -> Iterator[TrackingProgress]:
        """Prompt the tracks in the session of `context` and propagate them."""
        ...
