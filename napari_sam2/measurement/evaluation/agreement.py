"""Agreement of labels with ground truth: objects on each plane, and whole tracks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from napari_sam2.core.errors import MeasurementError
from napari_sam2.measurement.counts import ALL
from napari_sam2.measurement.evaluation.boundary import OutlineOverlap
from napari_sam2.measurement.evaluation.ctc_agreement import compute_ctc_measures
from napari_sam2.measurement.evaluation.track_agreement import compare_tracks
from napari_sam2.measurement.label_overlap import MATCHED_IOU, LabelOverlap
from napari_sam2.measurement.label_planes import LabelPlanes

IOU_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""Smallest IoU of a match, 0.5 to 0.95, for AP as in the 2018 Data Science Bowl and COCO."""

TrackMatch = Literal["overlap", "id"]


@dataclass(frozen=True, eq=False)
class Agreement:
    """How well predicted labels agree with the truth.

    Parameters
    ----------
    table
        One row for each frame, and a last row ``all`` (sums of counts, means over all objects):
        `frame`, `n_truth`, `n_predicted`, `count_error` (predicted - truth), `count_error_abs`;
        `iou` and `dice`, means over the objects of the truth, 0 for missed objects; `precision`,
        `recall` and `f1` at IoU 0.5; `ap_50` … `ap_95` and their mean `ap`, AP = TP / (TP + FP +
        FN); `boundary_f`, see `boundary`. A ratio without a denominator is empty.
    objects
        One row for each object of the truth and frame: `frame`, `truth`, `predicted` (empty if
        missed), `iou`, `dice`.
    thresholds
        One row for each IoU threshold, over all frames: `iou`, `tp`, `fp`, `fn`, `precision`,
        `recall`, `f1`, `ap`.
    tracks
        One row for each track of the truth, see `track_agreement.compare_tracks`; None if tracks
        were not compared.
    track_count_error
        Number of predicted tracks - number of tracks of the truth; None if not compared.
    challenge
        The measures of the Cell Tracking Challenge, see `ctc_agreement.compute_ctc_measures`; None
        if not computed.
    """

    table: pd.DataFrame
    objects: pd.DataFrame
    thresholds: pd.DataFrame
    tracks: pd.DataFrame | None = None
    track_count_error: int | None = None
    challenge: dict[str, float] | None = None

    @property
    def overall(self) -> dict[str, float]:
        """The numbers of the row ``all``, mean count errors per frame, and those of the tracks."""
        frames = self.table.iloc[:-1]
        figures = {
            str(name): float(value) for name, value in self.table.iloc[-1].drop("frame").items()
        }
        figures |= {
            f"{name}_per_frame": float(frames[name].mean())
            for name in ("count_error", "count_error_abs")
        }
        if self.tracks is not None and self.track_count_error is not None:
            figures["track_count_error"] = float(self.track_count_error)
            figures["track_iou"] = float(self.tracks["iou"].mean())
            figures["track_iou_whole"] = float(self.tracks["iou_whole"].mean())
            figures["ended_on_other"] = _compute_fraction(self.tracks["end"] == "other")
            figures["ended_lost"] = _compute_fraction(self.tracks["end"] == "lost")
        return figures | (self.challenge or {})

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON: `overall`, `thresholds`, `frames`, and `tracks` if compared.

        Empty cells are None.
        """
        plain: dict[str, Any] = {
            "overall": {
                name: None if np.isnan(value) else value for name, value in self.overall.items()
            },
            "thresholds": _to_records(self.thresholds),
            "frames": _to_records(self.table.iloc[:-1].astype({"frame": "int64"})),
        }
        return plain if self.tracks is None else {**plain, "tracks": _to_records(self.tracks)}


def evaluate(
    predicted: Any,
    truth: Any,
    *,
    tracks: bool = False,
    match: TrackMatch = "overlap",
    challenge: bool = False,
    parents: tuple[Mapping[int, int], Mapping[int, int]] = ({}, {}),
) -> Agreement:
    """Compare predicted labels with the truth; both are read one plane at a time.

    Parameters
    ----------
    predicted, truth
        Labels of one shape: arrays of (H, W) or (frames, H, W) whole numbers, or Stacks; see
        `LabelPlanes.of`. Objects are matched one to one on each plane: first as many pairs as
        possible with an IoU of at least 0.5, then the largest sum of IoU.
    tracks
        Whether labels identify objects across planes; `Agreement.tracks` needs it.
    match
        The predicted track that a track of the truth is compared with: "overlap", the one of the
        one-to-one assignment with the largest total overlap; or "id", the one with the same id.
    challenge
        Whether to compute the measures of the Cell Tracking Challenge (SEG, DET, TRA, CHOTA,
        BC(i)), with the extra "evaluate".
    parents
        The parents of tracks, for the predicted labels and for the truth; used by `challenge`.

    Raises
    ------
    LabelsError
        If the labels differ in shape, or are not whole numbers from 0.
    MeasurementError
        If `match` is unknown.
    """
    if match not in get_args(TrackMatch):
        raise MeasurementError(f"match {match!r}: expected one of {get_args(TrackMatch)!r}")
    truth_planes = LabelPlanes.of(truth)
    predicted_planes = LabelPlanes.of(predicted, truth_planes.shape)
    overlaps, outlines = [], []
    for truth_plane, predicted_plane in zip(truth_planes, predicted_planes, strict=True):
        overlaps.append(LabelOverlap.of(truth_plane, predicted_plane))
        outlines.append(OutlineOverlap.of(truth_plane, predicted_plane))
    per_object = pd.concat(
        [_match_objects(frame, overlap) for frame, overlap in enumerate(overlaps)],
        ignore_index=True,
    )
    table = _make_table(per_object, overlaps)
    table["boundary_f"] = [each.f_score for each in (*outlines, sum(outlines, OutlineOverlap()))]
    measures = compute_ctc_measures(overlaps, *parents) if challenge else None
    thresholds = _compute_threshold_table(per_object, overlaps)
    if not tracks:
        return Agreement(table, per_object, thresholds, challenge=measures)
    n_truth = len(_collect_ids(each.first for each in overlaps))
    n_predicted = len(_collect_ids(each.second for each in overlaps))
    error = n_predicted - n_truth
    return Agreement(
        table,
        per_object,
        thresholds,
        compare_tracks(overlaps, same_ids=match == "id"),
        error,
        measures,
    )


def _match_objects(frame: int, overlap: LabelOverlap) -> pd.DataFrame:
    """The rows of one frame of `Agreement.objects`."""
    matched = np.flatnonzero(overlap.match_pairs())
    where = overlap.first_index[matched]
    iou = np.zeros(overlap.first.size)
    iou[where] = overlap.iou[matched]
    partner = pd.array([None] * overlap.first.size, dtype="Int64")
    partner[where] = overlap.second[overlap.second_index[matched]].astype(np.int64)
    columns = {
        "frame": frame,
        "truth": overlap.first.astype(np.int64),
        "predicted": partner,
        "iou": iou,
        "dice": 2 * iou / (1 + iou),
    }
    return pd.DataFrame(columns).astype({"frame": "int64"})


def _make_table(per_object: pd.DataFrame, overlaps: list[LabelOverlap]) -> pd.DataFrame:
    by_frame = dict(list(per_object.groupby("frame")))
    empty = per_object.iloc[:0]
    rows = [
        _make_row(str(frame), by_frame.get(frame, empty), [overlap])
        for frame, overlap in enumerate(overlaps)
    ]
    rows.append(_make_row(ALL, per_object, overlaps))
    rows[-1]["count_error_abs"] = sum(row["count_error_abs"] for row in rows[:-1])
    return pd.DataFrame(rows).astype({"frame": "string"})


def _make_row(frame: str, per_object: pd.DataFrame, overlaps: list[LabelOverlap]) -> dict[str, Any]:
    levels = _compute_threshold_table(per_object, overlaps)
    n_truth = sum(overlap.first.size for overlap in overlaps)
    n_predicted = sum(overlap.second.size for overlap in overlaps)
    error = n_predicted - n_truth
    row = {
        "frame": frame,
        "n_truth": n_truth,
        "n_predicted": n_predicted,
        "count_error": error,
        "count_error_abs": abs(error),
    }
    row |= {name: per_object[name].mean() for name in ("iou", "dice")}
    row |= {
        name: levels[name].iloc[IOU_THRESHOLDS.index(MATCHED_IOU)]
        for name in ("precision", "recall", "f1")
    }
    row |= {
        f"ap_{round(100 * level)}": ap
        for level, ap in zip(levels["iou"], levels["ap"], strict=True)
    }
    return {**row, "ap": levels["ap"].mean()}


def _compute_threshold_table(
    per_object: pd.DataFrame, overlaps: list[LabelOverlap]
) -> pd.DataFrame:
    n_predicted = sum(overlap.second.size for overlap in overlaps)
    iou = per_object["iou"].to_numpy()
    levels = np.array(IOU_THRESHOLDS)
    tp = (iou[None, :] >= levels[:, None]).sum(axis=1)
    fp, fn = n_predicted - tp, iou.size - tp
    columns = {
        "iou": levels,
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "precision": _divide(tp, tp + fp),
        "recall": _divide(tp, tp + fn),
    }
    return pd.DataFrame(
        {**columns, "f1": _divide(2 * tp, 2 * tp + fp + fn), "ap": _divide(tp, tp + fp + fn)}
    )


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


def _compute_fraction(flags: pd.Series[bool]) -> float:
    return float(flags.mean()) if len(flags) else float("nan")


def _collect_ids(frames: Iterable[np.ndarray]) -> set[int]:
    return {int(number) for ids in frames for number in ids}


def _to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]
