"""Results of a run in a folder: writing them, and reading them back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from napari_sam2.io.output_folder import check_output
from napari_sam2.io.prompts import write_prompts
from napari_sam2.io.tables import read_table, write_provenance, write_tables
from napari_sam2.io.writers.sinks import LabelSpec, open_sink
from napari_sam2.measurement.report.overview import draw_overview
from napari_sam2.propagation.results import SessionResults
from napari_sam2.propagation.run_state import RunState

LabelFormat = Literal["tiff", "zarr"]


@dataclass(frozen=True)
class JobResult:
    """Results of a headless run.

    Parameters
    ----------
    folder
        Folder that holds them.
    state
        How the run ended.
    summary
        One line about them.
    notes
        Decisions that were taken for the user.
    """

    folder: Path
    state: RunState
    summary: str
    notes: tuple[str, ...] = ()

    @property
    def objects(self) -> pd.DataFrame:
        """``objects.csv``: one row per track and frame."""
        return read_table(self.folder / "objects.csv")

    @property
    def tracks(self) -> pd.DataFrame:
        """``tracks.csv``: one row per track."""
        return read_table(self.folder / "tracks.csv")

    @property
    def counts(self) -> pd.DataFrame:
        """``counts.csv``: objects per frame and category."""
        return read_table(self.folder / "counts.csv")


def save_results(
    results: SessionResults,
    folder: Path,
    *,
    format: LabelFormat = "tiff",
    notes: tuple[str, ...] = (),
    settings: Any = None,
) -> None:
    """Write labels, tables, picture, prompts and, last, the provenance into `folder`.

    `settings` go into the provenance. Raises OutputError if the folder cannot be written.
    """
    session = results.session
    check_output(folder)
    spec = LabelSpec.of(session.video, max(session.log.track_ids, default=0))
    with open_sink(folder, spec, format=format) as sink:
        for frame in range(len(session.video)):
            sink.put(frame, session.compute_label_plane(frame))
    write_tables(folder, results.objects, results.tracks, results.counts)
    draw_overview(
        session.video,
        session.compute_label_plane,
        results.objects,
        results.counts,
        folder / "overview.png",
    )
    write_prompts(session.log, folder / "prompts.json")
    made = session.make_provenance(notes=(*notes, *results.notes))
    write_provenance(
        replace(made, settings={**made.settings, "job": settings}), folder / "provenance.json"
    )


def summarize_results(results: SessionResults) -> str:
    """One line about the results of prompts."""
    objects = results.objects
    found = format_count(objects["track"].nunique(), "object")
    frames = format_count(len(results.session.video), "frame")
    return f"{found} propagated through {frames}, {format_count(len(objects), 'mask')}"


def format_count(number: int, word: str) -> str:
    """A number and its noun: "1 object", "2 objects"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
