"""Session and Run as a notebook uses them: prompt, propagate, read labels and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import dask.array as da
import pandas as pd
from dask import delayed
from tqdm.auto import tqdm

from napari_sam2.api.display import render_run_html, render_session_html
from napari_sam2.api.tables import Tables, compute_tables
from napari_sam2.core.plan import Direction, Propagation
from napari_sam2.core.provenance import Provenance
from napari_sam2.measurement.track_status import TrackStatus
from napari_sam2.propagation import run
from napari_sam2.propagation import session as engine
from napari_sam2.propagation.overlaps import choose_label_dtype
from napari_sam2.propagation.propagate import PropagationStep

_MAX_QUICK_PIXELS = 50_000_000
"""Pixels of a video up to which a notebook may measure it just to show a Run."""


class Session(engine.Session):
    """One Video, one model, and all that was said of it; see `engine.session.Session` for the parameters.

    `propagate` carries the tracks and shows its progress; `run` gives the same as a Run that one
    iterates over and may cancel from another thread.
    """

    def run(self, plan: Propagation | None = None) -> Run:
        """A Run that carries out `plan`; where none is given, what a cancelled or killed one has left, else `self.plan()`."""
        return Run(self, *self._start_propagation(plan))

    def propagate(
        self,
        *,
        direction: Direction = "both",
        frames: tuple[int, int] | None = None,
        tracks: Sequence[int] | None = None,
        again: bool = False,
        progress: bool = True,
    ) -> Run:
        """Carry what is new and what was corrected through the stack, and wait for it; see `plan` for the arguments.

        A propagation that was cancelled goes on where it stopped, unless something else is asked
        for.
        """
        everything = direction == "both" and frames is None and tracks is None and not again
        run = self.run(
            None
            if everything
            else self.plan(
                direction=direction, frames=frames, tracks=tracks, from_first_prompt=again
            )
        )
        with tqdm(desc="propagate", unit="frame", disable=not progress) as bar:
            run.finish(lambda stepped: _advance_bar(bar, stepped))
        return run

    def provenance(self, *, notes: tuple[str, ...] = ()) -> Provenance:
        """What the results of this session are made from."""
        return Provenance.of(
            self.video,
            self.model.card,
            notes=notes,
            device=self.model.device,
            policy=self.policy.name,
            patience=self.settings.patience,
            prompts=len(self.log.prompts),
            tracks=len(self.log.track_ids),
        )

    def _repr_html_(self) -> str:
        return render_session_html(self)


class Run(run.Run):
    """A Propagation being executed, and what came of it.

    Labels and tables are made when they are first read, from all that the Session knows by then.
    """

    def __init__(
        self, session: Session, plan: Propagation, steps: Iterator[PropagationStep]
    ) -> None:
        super().__init__(plan, steps)
        self.session = session

    @cached_property
    def labels(self) -> da.Array:
        """(frames, H, W) labels, uint16 or uint32: a dask array that reads plane by plane; ``.compute()`` gives NumPy."""
        frames, height, width = self.session.video.shape
        dtype = choose_label_dtype(max(self.session.log.track_ids, default=0))
        plane = delayed(self.session.label_plane, pure=False)
        return da.stack(
            [da.from_delayed(plane(frame), (height, width), dtype) for frame in range(frames)]
        )

    @cached_property
    def tables(self) -> Tables:
        """All tables, made together."""
        session = self.session
        facts = {
            key: TrackStatus(trace.iou, trace.presence) for key, trace in session.records().items()
        }
        return compute_tables(
            session.video, session.label_plane, statuses=facts, known_tracks=session.log.tracks
        )

    @property
    def objects(self) -> pd.DataFrame:
        """One row per track and frame; see `measurement.objects.objects`."""
        return self.tables.objects

    @property
    def tracks(self) -> pd.DataFrame:
        """One row per track; see `measurement.tracks.tracks`."""
        return self.tables.tracks

    @property
    def counts(self) -> pd.DataFrame:
        """Objects per frame and category, and over all; see `measurement.counts.counts`."""
        return self.tables.counts

    @property
    def provenance(self) -> Provenance:
        """What this was made from."""
        return self.session.provenance()

    def _repr_html_(self) -> str:
        quick = "tables" in vars(self) or math.prod(self.session.video.shape) <= _MAX_QUICK_PIXELS
        return render_run_html(self.session, self.state.value, self.counts if quick else None)


def _advance_bar(bar: Any, step: PropagationStep) -> None:
    bar.total = step.total
    bar.update(step.position - bar.n)
