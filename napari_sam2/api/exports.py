"""Exports: optional files of a result, besides labels and CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from napari_sam2.core.errors import MissingPackageError, OutputError
from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.files.extras import format_missing_package
from napari_sam2.core.provenance import Provenance
from napari_sam2.core.registry import Registry
from napari_sam2.core.stack import Video
from napari_sam2.io.tables import write_anndata, write_parquet, write_text
from napari_sam2.io.writers.ctc import write_ctc
from napari_sam2.io.writers.geff import write_geff
from napari_sam2.measurement.report.run_report import render_run_report
from napari_sam2.propagation.results import ResultTables, SessionResults


@dataclass(frozen=True, eq=False)
class ExportData:
    """The data of an export: video, label planes by frame, tables and provenance."""

    video: Video
    label_plane: Callable[[int], np.ndarray]
    tables: ResultTables
    provenance: Provenance

    @classmethod
    def of(cls, results: SessionResults, notes: tuple[str, ...] = ()) -> ExportData:
        """The data of the results of a session."""
        return cls(
            results.session.video,
            results.session.compute_label_plane,
            results.tables,
            results.session.make_provenance(notes=notes),
        )


EXPORTS: Registry[Callable[[ExportData, Path], None]] = Registry("exporters", OutputError)
"""Exports by name: factories of functions that write `ExportData` into a folder.

The entry point group is ``napari_sam2.exporters``.
"""


_REQUIRED_PACKAGES = {
    "parquet": ("pyarrow", "tables"),
    "h5ad": ("anndata", "anndata"),
    "geff": ("geff", "geff"),
}  # by export: the package, and the extra that installs it


def check_exports(names: Sequence[str]) -> None:
    """Raise OutputError for an unknown export, MissingPackageError for one without its package.

    This is checked before hours of work, not after.
    """
    for name in names:
        EXPORTS.get(name)
        package, extra = _REQUIRED_PACKAGES.get(name, ("", ""))
        if package and find_spec(package) is None:
            raise MissingPackageError(format_missing_package(package, extra, name))


def write_exports(results: ExportData, folder: Path, names: Sequence[str]) -> None:
    """Write exports by name into an existing folder; OutputError for an unknown name."""
    for write in [EXPORTS.get(name)() for name in names]:
        write(results, folder)


def _write_report(results: ExportData, folder: Path) -> None:
    tables = results.tables
    write_text(
        render_run_report(
            results.video,
            tables.objects,
            tables.tracks,
            tables.counts,
            results.provenance.to_dict(),
        ),
        folder / "report.html",
    )


def _write_ctc(results: ExportData, folder: Path) -> None:
    divided = results.tables.tracks.dropna(subset=["parent"])
    parents = {
        int(child): int(parent)
        for child, parent in zip(divided["track"], divided["parent"], strict=True)
    }
    with write_atomically(folder / "01_RES") as part:
        part.mkdir()
        write_ctc(part, results.label_plane, len(results.video), parents)


def _write_geff(results: ExportData, folder: Path) -> None:
    tables, video = results.tables, results.video
    write_geff(
        folder / "tracks.geff", tables.objects, tables.tracks, video.spacing, along=video.along
    )


def _write_parquet(results: ExportData, folder: Path) -> None:
    for name in ("objects", "tracks", "counts"):
        write_parquet(getattr(results.tables, name), folder / f"{name}.parquet")


def _write_h5ad(results: ExportData, folder: Path) -> None:
    write_anndata(results.tables.objects, folder / "objects.h5ad", results.provenance)


for _name, _write in {
    "report": _write_report,
    "ctc": _write_ctc,
    "geff": _write_geff,
    "parquet": _write_parquet,
    "h5ad": _write_h5ad,
}.items():
    EXPORTS.register(_name, lambda write=_write: write)
