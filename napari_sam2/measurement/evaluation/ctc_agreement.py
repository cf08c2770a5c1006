"""The measures of the Cell Tracking Challenge, computed by its package py-ctcmetrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_sam2.core.files.extras import EVALUATE, import_extra
from napari_sam2.measurement.label_overlap import LabelOverlap
from napari_sam2.measurement.lineage import find_branches

MEASURES = ("SEG", "DET", "TRA", "LNK", "CHOTA", "BC")
# an object of the truth is detected if more than this part of it is covered (Maška et al. 2014)
_MIN_COVERAGE = 0.5
_REPORTED = ("SEG", "DET", "TRA", "LNK", "CHOTA", "gt_divisions")


def compute_ctc_measures(
    overlaps: Sequence[LabelOverlap],
    predicted_parents: Mapping[int, int] | None = None,
    truth_parents: Mapping[int, int] | None = None,
) -> dict[str, float]:
    """The measures of the Cell Tracking Challenge, by name.

    Parameters
    ----------
    overlaps
        Of all frames in order.
    predicted_parents, truth_parents
        The parent of each track that has one.

    Returns
    -------
    dict[str, float]
        SEG, DET, TRA, LNK, CHOTA, the number of divisions in the truth, and for i = 0 to 3 the
        branching correctness BC(i) and the numbers of true, false and missed divisions within i
        frames. A measure is NaN if the truth has no object or no division to measure. Without any
        predicted object, SEG, DET and TRA are 0.

    Raises
    ------
    LabelsError
        If parents do not fit the labels.
    MissingPackageError
        If the extra "evaluate" is not installed.
    """
    names = [
        *_REPORTED,
        *(f"{kind}({i})" for i in range(4) for kind in ("BC", "tp_div", "fp_div", "fn_div")),
    ]
    unknown = dict.fromkeys(names, math.nan)
    if not any(overlap.first.size for overlap in overlaps):
        return unknown
    if not any(overlap.second.size for overlap in overlaps):
        return unknown | {"SEG": 0.0, "DET": 0.0, "TRA": 0.0}
    measures = _run_ctc_metrics(
        _make_branch_rows([overlap.second for overlap in overlaps], predicted_parents),
        _make_branch_rows([overlap.first for overlap in overlaps], truth_parents),
        _collect_matches(overlaps),
    )
    known = {name: float(measures[name]) for name in names if measures.get(name) is not None}
    return unknown | known


def _run_ctc_metrics(
    predicted: np.ndarray, truth: np.ndarray, matches: dict[str, Any]
) -> dict[str, Any]:
    package = import_extra("ctc_metrics.scripts.evaluate", EVALUATE, "the Cell Tracking Challenge")
    measures: dict[str, Any] = package.calculate_metrics(
        predicted, truth, dict(matches), dict(matches), [*MEASURES], 1
    )
    return measures


def _make_branch_rows(ids: Sequence[np.ndarray], parents: Mapping[int, int] | None) -> np.ndarray:
    """(n, 4) label, first frame, last frame, parent."""
    return np.array(
        [(each.track, each.first, each.last, each.parent) for each in find_branches(ids, parents)],
        dtype=np.int64,
    )


def _collect_matches(overlaps: Sequence[LabelOverlap]) -> dict[str, Any]:
    """The input of the package: the labels of all frames, and the pairs of covered objects."""
    columns: dict[str, list[list[Any]]] = {
        name: [] for name in ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp", "ious")
    }
    for overlap in overlaps:
        covered = overlap.shared_px > _MIN_COVERAGE * overlap.first_px[overlap.first_index]
        columns["labels_ref"].append(overlap.first.tolist())
        columns["labels_comp"].append(overlap.second.tolist())
        columns["mapped_ref"].append(overlap.first[overlap.first_index[covered]].tolist())
        columns["mapped_comp"].append(overlap.second[overlap.second_index[covered]].tolist())
        columns["ious"].append(overlap.iou[covered].tolist())
    return columns
