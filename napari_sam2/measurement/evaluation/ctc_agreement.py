"""The measures of the Cell Tracking Challenge, by its Python package (py-ctcmetrics; the extra "evaluate")."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.measurement.evaluation.matching import LabelOverlap
from napari_sam2.measurement.lineage import find_branches

MEASURES = ("SEG", "DET", "TRA", "LNK", "CHOTA", "BC")
# of an object of the truth: more than that must be covered for it to be found (Maška et al. 2014)
_MIN_COVERAGE = 0.5
_REPORTED = ("SEG", "DET", "TRA", "LNK", "CHOTA", "gt_divisions")


def compute_ctc_measures(
    overlaps: Sequence[LabelOverlap],
    predicted_parents: Mapping[int, int] | None = None,
    truth_parents: Mapping[int, int] | None = None,
) -> dict[str, float]:
    """SEG, DET, TRA, LNK, CHOTA, BC(0) to BC(3), and how many divisions there are, were found (within i frames) and made up.

    NaN where there is nothing to measure: no object in the truth, or no division. Without any
    predicted object DET, TRA and SEG are 0.

    Raises
    ------
    LabelsError
        Parents that do not fit, or py-ctcmetrics not installed.
    """
    names = [
        *_REPORTED,
        *(f"{kind}({i})" for i in range(4) for kind in ("BC", "tp_div", "fp_div", "fn_div")),
    ]
    nothing = dict.fromkeys(names, math.nan)
    if not any(overlap.truth.size for overlap in overlaps):
        return nothing
    if not any(overlap.predicted.size for overlap in overlaps):
        return nothing | {"SEG": 0.0, "DET": 0.0, "TRA": 0.0}
    found = _run_ctc_metrics(
        _make_branch_rows([overlap.predicted for overlap in overlaps], predicted_parents),
        _make_branch_rows([overlap.truth for overlap in overlaps], truth_parents),
        _collect_matches(overlaps),
    )
    return {name: math.nan if found.get(name) is None else float(found[name]) for name in names}


def _run_ctc_metrics(
    predicted: np.ndarray, truth: np.ndarray, matches: dict[str, Any]
) -> dict[str, Any]:
    try:
        from ctc_metrics.scripts.evaluate import calculate_metrics
    except ImportError as error:
        raise LabelsError(
            "the measures of the Cell Tracking Challenge need py-ctcmetrics: pip install "
            '"napari-sam2[evaluate]"'
        ) from error
    found: dict[str, Any] = calculate_metrics(
        predicted, truth, dict(matches), dict(matches), [*MEASURES], 1
    )
    return found


def _make_branch_rows(ids: Sequence[np.ndarray], parents: Mapping[int, int] | None) -> np.ndarray:
    """(n, 4) label, first frame, last frame, parent."""
    return np.array(
        [(each.track, each.first, each.last, each.parent) for each in find_branches(ids, parents)],
        dtype=np.int64,
    )


def _collect_matches(overlaps: Sequence[LabelOverlap]) -> dict[str, Any]:
    """What the package wants to know of every frame: labels, and for each covered object of the truth what covers it."""
    columns: dict[str, list[list[Any]]] = {
        name: [] for name in ("labels_ref", "labels_comp", "mapped_ref", "mapped_comp", "ious")
    }
    for overlap in overlaps:
        covered = overlap.shared_px > _MIN_COVERAGE * overlap.truth_px[overlap.truth_index]
        columns["labels_ref"].append(overlap.truth.tolist())
        columns["labels_comp"].append(overlap.predicted.tolist())
        columns["mapped_ref"].append(overlap.truth[overlap.truth_index[covered]].tolist())
        columns["mapped_comp"].append(overlap.predicted[overlap.predicted_index[covered]].tolist())
        columns["ious"].append(overlap.iou[covered].tolist())
    return columns
