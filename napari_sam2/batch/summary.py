"""The tables over all stacks of a batch, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from napari_sam2.io.tables import read_table, write_table, write_text
from napari_sam2.measurement.pooling import pool_tables, summarise_wells
from napari_sam2.measurement.report.batch_report import render_batch_report

SUMMARY, COUNTS, TRACKS, WELLS, REPORT = (
    "summary.csv",
    "counts.csv",
    "tracks.csv",
    "wells.csv",
    "report.html",
)


def write_summary(folder: Path, table: pd.DataFrame) -> None:
    """Write the summary, the tables over all stacks, and the report.

    The files are ``summary.csv``, ``counts.csv``, ``tracks.csv``, ``report.html`` and, if wells are
    known, ``wells.csv``. `table` has one row per stack. The tables of finished stacks are read from
    their folders; a folder that is not reachable from here (a worker wrote to its own disk) is in
    the summary only.
    """
    done = table[table["state"] != "failed"]
    wells = dict(zip(table["stack"], table["well"], strict=True))
    counts, tracks = (pool_tables(_read_tables(done, name), wells) for name in (COUNTS, TRACKS))
    by = summarise_wells(counts, tracks) if len(counts) and any(wells.values()) else pd.DataFrame()
    for name, each in {COUNTS: counts, TRACKS: tracks, **({WELLS: by} if len(by) else {})}.items():
        write_table(each, folder / name)
    write_table(table, folder / SUMMARY)
    write_text(render_batch_report(folder.resolve().name, table, tracks, by), folder / REPORT)


def name_stacks(folders: Sequence[Path], base: Path | None) -> list[str]:
    """Names of stacks in tables: the folder relative to `base`, else its name, or its path."""
    inside = [_get_relative_name(folder, base) for folder in folders]
    return inside if len(set(inside)) == len(inside) else [str(folder) for folder in folders]


def _get_relative_name(folder: Path, base: Path | None) -> str:
    if base is not None and folder.resolve().is_relative_to(base.resolve()):
        return folder.resolve().relative_to(base.resolve()).as_posix()
    return folder.name


def _read_tables(done: pd.DataFrame, name: str) -> dict[str, pd.DataFrame]:
    files = {stack: Path(out) / name for stack, out in zip(done["stack"], done["out"], strict=True)}
    return {
        stack: read_table(file, dtype={"frame": "string", "category": "string"})
        for stack, file in files.items()
        if file.is_file()
    }
