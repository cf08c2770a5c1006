"""SessionResults: labels and tables of everything a session has propagated."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.prompt import PromptLog
from napari_sam2.core.provenance import Provenance
from napari_sam2.core.registry import Registry
from napari_sam2.core.stack import Video
from napari_sam2.propagation.overlaps import HiddenMask, choose_label_dtype, describe_hidden_masks
from napari_sam2.propagation.segment_store import SegmentRecord

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd

log = logging.getLogger(__name__)

VIEWS: Registry[Any] = Registry("session views", Sam2Error)
"""Functions that the layers above provide: what measuring and drawing needs is imported on use."""
VIEWS.register("tables", "napari_sam2.api.tables:compute_session_tables")
VIEWS.register("session html", "napari_sam2.api.display:render_session_html")
VIEWS.register("run html", "napari_sam2.api.display:render_run_html")


class ResultSource(Protocol):
    """The part of a `Session` that results are computed from."""

    @property
    def video(self) -> Video:
        """The video."""
        ...

    @property
    def log(self) -> PromptLog:
        """The prompts, locks, removals and propagations, in order."""
        ...

    def compute_label_plane(self, frame: int) -> np.ndarray:
        """(H, W) labels of a frame."""
        ...

    @property
    def hidden_masks(self) -> Mapping[int, tuple[HiddenMask, ...]]:
        """Masks that lost pixels to other tracks, by frame."""
        ...

    def get_records(self) -> Mapping[tuple[int, int], SegmentRecord]:
        """Presence and score by (track, frame)."""
        ...

    def make_provenance(self, *, notes: tuple[str, ...] = ()) -> Provenance:
        """The input, model and settings that results are made from."""
        ...


class ResultTables(Protocol):
    """The three tables of a result; their columns are in docs/tables.md."""

    @property
    def objects(self) -> pd.DataFrame:
        """One row per track and frame."""
        ...

    @property
    def tracks(self) -> pd.DataFrame:
        """One row per track."""
        ...

    @property
    def counts(self) -> pd.DataFrame:
        """Objects per frame and category, and over all frames."""
        ...


class SessionResults:
    """Labels and tables of a session.

    They are computed when they are first read, from everything the session has propagated by then.
    """

    def __init__(self, session: ResultSource) -> None:
        self.session = session

    @cached_property
    def labels(self) -> da.Array:
        """(frames, H, W) labels, uint16 or uint32: a dask array that computes plane by plane."""
        import dask.array as da  # slow to import, and a session is useful without it
        from dask import delayed

        frames, height, width = self.session.video.shape
        dtype = choose_label_dtype(max(self.session.log.track_ids, default=0))
        plane = delayed(self.session.compute_label_plane, pure=False)
        return da.stack(
            [da.from_delayed(plane(frame), (height, width), dtype) for frame in range(frames)]
        )

    @cached_property
    def tables(self) -> ResultTables:
        """All tables, computed together."""
        tables: ResultTables = VIEWS.get("tables")(self.session)
        for note in self.notes:
            log.warning(note)
        return tables

    @property
    def notes(self) -> tuple[str, ...]:
        """Tracks that share pixels: one line for each pair, once the tables are computed."""
        return describe_hidden_masks(self.session.hidden_masks)

    @property
    def has_tables(self) -> bool:
        """Whether the tables are computed already."""
        return "tables" in vars(self)

    @property
    def objects(self) -> pd.DataFrame:
        """One row per track and frame."""
        return self.tables.objects

    @property
    def tracks(self) -> pd.DataFrame:
        """One row per track."""
        return self.tables.tracks

    @property
    def counts(self) -> pd.DataFrame:
        """Objects per frame and category, and over all frames."""
        return self.tables.counts

    @property
    def provenance(self) -> Provenance:
        """The input, model and settings the results are made from."""
        return self.session.make_provenance()
