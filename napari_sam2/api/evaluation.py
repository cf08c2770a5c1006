"""Evaluation of files: labels, result folders, folders of the Cell Tracking Challenge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from napari_sam2.core.errors import AxesError, FileError, LabelsError
from napari_sam2.core.stack import Stack
from napari_sam2.io.geometry import align_labels
from napari_sam2.io.open import number_mask, open_labels
from napari_sam2.io.readers.ctc import is_ctc_folder, read_ctc
from napari_sam2.io.tables import read_table
from napari_sam2.measurement.evaluation.agreement import Agreement, evaluate
from napari_sam2.measurement.evaluation.count_agreement import compute_count_errors

_LABEL_FILES = ("labels.ome.tif", "labels.ome.zarr")


@dataclass(frozen=True, eq=False)
class EvaluationInput:
    """Labels, with parents by track and counts per frame and category if known."""

    labels: Stack
    parents: Mapping[int, int] = field(default_factory=dict)
    counts: pd.DataFrame | None = None

    @classmethod
    def read(cls, path: Path, axes: str | None = None) -> EvaluationInput:
        """Read a label file, a result folder, or a challenge folder (``01_RES``, ``01_GT/TRA``).

        `axes` are used for a label file that does not name its own.
        """
        if is_ctc_folder(path):
            found = read_ctc(path)
            return cls(found.labels, found.parents)
        labels = (
            next((path / name for name in _LABEL_FILES if (path / name).exists()), None)
            if path.is_dir()
            else None
        )
        if labels is None:
            return cls(number_mask(open_labels(path, axes=axes)))
        tables = [path / name for name in ("tracks.csv", "counts.csv")]
        if not all(table.is_file() for table in tables):
            raise FileError(
                f"{path}: expected {tables[0].name} and {tables[1].name} beside {labels.name}"
            )
        tracks, counts = (read_table(table) for table in tables)
        divided = tracks.dropna(subset=["parent"])
        parents = {
            int(child): int(parent)
            for child, parent in zip(divided["track"], divided["parent"], strict=True)
        }
        return cls(open_labels(labels), parents, counts)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The agreement of two results, and of their counts if both have any."""

    agreement: Agreement
    counts: pd.DataFrame | None


def _read_both(predicted: Path, truth: Path) -> tuple[EvaluationInput, EvaluationInput]:
    """Read both sides; a file that names no axes gets those of the other side.

    Raises AxesError if neither names its axes.
    """
    try:
        ours = EvaluationInput.read(predicted)
    except AxesError:
        theirs = EvaluationInput.read(truth)
        return _read_with_axes_of(predicted, theirs), theirs
    try:
        return ours, EvaluationInput.read(truth)
    except AxesError:
        return ours, _read_with_axes_of(truth, ours)


def _read_with_axes_of(path: Path, other: EvaluationInput) -> EvaluationInput:
    """Read a file with the axes of the other side; LabelsError if the shapes differ."""
    found = EvaluationInput.read(path, other.labels.axes)
    if found.labels.data.shape != other.labels.data.shape:
        raise LabelsError(
            f"{path} of shape {found.labels.data.shape!r}: expected {other.labels.data.shape!r}, "
            "the shape of the other side"
        )
    return found


def evaluate_files(predicted: Path, truth: Path, *, tracks: bool = False) -> Evaluation:
    """Compare two results; with `tracks`, compare identities by the challenge's measures."""
    ours, theirs = _read_both(predicted, truth)
    found = evaluate(
        align_labels(ours.labels, theirs.labels),
        theirs.labels,
        tracks=tracks,
        challenge=tracks,
        parents=(ours.parents, theirs.parents),
    )
    if ours.counts is None or theirs.counts is None:
        return Evaluation(found, None)
    return Evaluation(found, compute_count_errors(ours.counts, theirs.counts))
