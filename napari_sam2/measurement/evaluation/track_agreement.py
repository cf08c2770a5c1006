"""Agreement of tracks with those of the truth, including their identity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from napari_sam2.measurement.label_overlap import LabelOverlap, assign

_NO_TRACK = 0  # the label of the background


def compare_tracks(overlaps: Sequence[LabelOverlap], *, same_ids: bool = False) -> pd.DataFrame:
    """One row for each track of the truth, ascending.

    Parameters
    ----------
    overlaps
        Of all frames in order.
    same_ids
        Whether to compare tracks of the same id; otherwise, the tracks of the one-to-one assignment
        with the largest total overlap.

    Returns
    -------
    pd.DataFrame
        `truth` and `predicted` are the ids of the compared tracks, `predicted` is empty if there is
        none. `n_frames` counts the frames of the true track. `iou` is the mean IoU over these
        frames, 0 if the predicted track is absent. `iou_whole` is the IoU of all pixels of all
        frames, in 3D for a z-stack. `end` says what the predicted track shows on the last of these
        frames: ``same``, the same object; ``other``, mostly another object of the truth; ``lost``,
        neither.
    """
    truth = _collect_areas([(each.first, each.first_px) for each in overlaps])
    predicted = _collect_areas([(each.second, each.second_px) for each in overlaps])
    pairs = _collect_pairs(overlaps)
    partners = _match_same_ids(truth, predicted) if same_ids else _match_by_overlap(pairs)
    frames = _pair_frames(truth, predicted, pairs, partners)
    tracks = frames.groupby("truth")
    total = tracks[["area", "shared"]].sum()
    rows = pd.DataFrame(
        {
            "predicted": tracks["predicted"].first(),
            "n_frames": tracks.size(),
            "iou": tracks["iou"].mean(),
        }
    )
    predicted_area = rows["predicted"].map(predicted.groupby("track")["area"].sum()).fillna(0)
    rows["iou_whole"] = total["shared"] / (total["area"] + predicted_area - total["shared"])
    rows["end"] = tracks["shows"].last()
    rows["predicted"] = rows["predicted"].astype("Int64").mask(rows["predicted"] == _NO_TRACK)
    return rows.reset_index().astype(
        {
            "truth": "int64",
            "n_frames": "int64",
            "iou": "float64",
            "iou_whole": "float64",
            "end": "string",
        }
    )


def _pair_frames(
    truth: pd.DataFrame, predicted: pd.DataFrame, pairs: pd.DataFrame, partners: dict[int, int]
) -> pd.DataFrame:
    """A row for each track of the truth and frame, in the order of frames.

    Its columns are the areas of the track and of its partner, the pixels and the IoU they share,
    and what the partner shows (see `end` of `compare_tracks`).
    """
    frames = truth.rename(columns={"track": "truth"})
    frames["predicted"] = [partners.get(track, _NO_TRACK) for track in frames["truth"]]
    frames = frames.merge(
        predicted.rename(columns={"track": "predicted", "area": "partner_area"}),
        on=["frame", "predicted"],
        how="left",
    )
    frames = frames.merge(pairs, on=["frame", "truth", "predicted"], how="left")
    largest = (
        pairs.groupby(["frame", "predicted"])[["shared"]]
        .max()
        .rename(columns={"shared": "max_shared"})
        .reset_index()
    )
    frames = frames.merge(largest, on=["frame", "predicted"], how="left").fillna(
        {"partner_area": 0, "shared": 0, "max_shared": 0}
    )
    union = frames["area"] + frames["partner_area"] - frames["shared"]
    frames["iou"] = frames["shared"] / union
    shown = np.where(frames["max_shared"] > frames["shared"], "other", "same")
    frames["shows"] = np.where(frames["max_shared"] == 0, "lost", shown)
    return frames


def _match_same_ids(truth: pd.DataFrame, predicted: pd.DataFrame) -> dict[int, int]:
    return {int(track): int(track) for track in set(truth["track"]) & set(predicted["track"])}


def _match_by_overlap(pairs: pd.DataFrame) -> dict[int, int]:
    total = pairs.groupby(["truth", "predicted"], as_index=False)["shared"].sum()
    first, second = (
        np.unique(total[side], return_inverse=True)[1] for side in ("truth", "predicted")
    )
    chosen = total[assign(first, second, total["shared"].to_numpy(dtype=np.float64))]
    return {
        int(track): int(other)
        for track, other in zip(chosen["truth"], chosen["predicted"], strict=True)
    }


def _collect_areas(frames: Sequence[tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Areas of tracks; `frames` has the (n,) ids and (n,) pixels of each frame."""
    ids, pixels = [each[0] for each in frames], [each[1] for each in frames]
    return pd.DataFrame(
        {"frame": _repeat_frames(ids), "track": _concatenate(ids), "area": _concatenate(pixels)}
    )


def _collect_pairs(overlaps: Sequence[LabelOverlap]) -> pd.DataFrame:
    shared = [overlap.shared_px for overlap in overlaps]
    truth = [overlap.first[overlap.first_index] for overlap in overlaps]
    predicted = [overlap.second[overlap.second_index] for overlap in overlaps]
    return pd.DataFrame(
        {
            "frame": _repeat_frames(shared),
            "truth": _concatenate(truth),
            "predicted": _concatenate(predicted),
            "shared": _concatenate(shared),
        }
    )


def _repeat_frames(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.repeat(np.arange(len(parts)), [part.size for part in parts])


def _concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int64)
