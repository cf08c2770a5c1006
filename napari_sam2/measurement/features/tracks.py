"""One row per track: how long, how large, how bright it is over all its frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from napari_sam2.core.stack import Video
from napari_sam2.core.track import Track
from napari_sam2.measurement.columns import count_measured_channels, get_intensity_columns
from napari_sam2.measurement.fates import classify_fates


def measure_tracks(
    objects: pd.DataFrame,
    video: Video,
    tracks: Sequence[Track] = (),
    *,
    spots: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The table ``tracks.csv``, from the table `objects`: a row for each track that has pixels anywhere, by id.

    `measure_tracks` (``PromptLog.tracks``) say who divided from whom: `parent`, empty where nobody said.

    A video along z has `volume_um3`: the sum of its areas times the distance of planes. One along t
    has `duration_s`: from its first to its last frame, (last - first) × interval, 0 for a track on
    one frame; frames between on which it is absent count. `n_frames` and `mean_area_um2` are of the
    frames on which it has pixels.

    The intensities are those of all its pixels on all its frames taken together: `mean` and
    `background` weighted by area, `std` pooled, `corrected_sum` the sum of those of the frames (so
    it is sum - pixels × background); empty where that of one frame is not known.

    After these come `mean_area_px`; `volume_px` and `on_edge` (along z: voxels, and whether it
    touches the edge of a frame or is on the first or last one, so that part of it may not be seen),
    or `origin` and `fate` (along t, see `fates`); and for each channel `spots`, `spots_sum` (along
    z those in three dimensions, `spots` as `track_spots` gives them, empty where not given; along t
    the means of its frames), `saturated_px` (added up) and `saturated`.
    """
    channels = count_measured_channels(objects)
    groups = objects.groupby("track", sort=True)
    parents = {track.id: track.parent for track in tracks}
    rows = groups[["category"]].first().astype("string").fillna("")
    rows["parent"] = pd.array([parents.get(int(track)) for track in rows.index], dtype="Int64")
    rows["first_frame"], rows["last_frame"], rows["n_frames"] = (
        groups["frame"].min(),
        groups["frame"].max(),
        groups.size(),
    )
    pixels = groups["area_px"].sum()
    if video.along == "z":
        rows["volume_um3"] = pixels * _nan_if_none(video.spacing.voxel_um3)
    else:
        rows["duration_s"] = (rows["last_frame"] - rows["first_frame"]) * _nan_if_none(
            video.spacing.t_s
        )
    rows["mean_area_um2"] = (pixels / rows["n_frames"]) * _nan_if_none(video.spacing.pixel_um2)
    for channel in range(channels):
        rows = rows.join(_pool_intensities(objects, channel))
    types = {
        "first_frame": "int64",
        "last_frame": "int64",
        "n_frames": "int64",
        "mean_area_um2": "float64",
        **get_intensity_columns(channels),
    }
    rows = rows.astype(types).join(_make_extra_columns(objects, video, rows, spots))
    return rows.reset_index().astype({"track": "int64"})


def _make_extra_columns(
    objects: pd.DataFrame, video: Video, tracks: pd.DataFrame, spots: pd.DataFrame | None
) -> pd.DataFrame:
    """What comes after the fixed columns."""
    groups = objects.groupby("track", sort=True)
    pixels = groups["area_px"].sum()
    more = pd.DataFrame({"mean_area_px": (pixels / tracks["n_frames"]).astype("float64")})
    if video.along == "z":
        ends = (tracks["first_frame"] == 0) | (tracks["last_frame"] == len(video) - 1)
        more["volume_px"] = pixels.astype("int64")
        more["on_edge"] = _any_by_track(objects, "on_edge") | ends.astype("boolean")
    else:
        more = more.join(classify_fates(objects, tracks["parent"], len(video)))
    for channel in range(count_measured_channels(objects)):
        for name in (f"spots_c{channel}", f"spots_sum_c{channel}"):
            along_t = groups[name].mean() if name in objects.columns else np.nan
            more[name] = along_t if video.along == "t" else np.nan if spots is None else spots[name]
            more = more.astype({name: "float64"})
        full = objects.get(f"saturated_px_c{channel}")
        total = (
            None
            if full is None
            else full.astype("Int64").groupby(objects["track"]).sum(min_count=1)
        )
        more[f"saturated_px_c{channel}"] = (
            pd.array([None] * len(more), dtype="Int64") if total is None else total
        )
        more[f"saturated_c{channel}"] = more[f"saturated_px_c{channel}"] > 0
    return more


def _any_by_track(objects: pd.DataFrame, name: str) -> pd.Series[bool]:
    """By track whether it is so on any frame; empty where the table does not have that column."""
    if name not in objects.columns:
        return pd.Series(pd.NA, index=sorted(objects["track"].unique()), dtype="boolean")
    return objects[name].astype("boolean").groupby(objects["track"]).any()


def _pool_intensities(objects: pd.DataFrame, channel: int) -> pd.DataFrame:
    """Intensities of one channel by track, of all pixels of all frames together."""
    of = {
        name: objects[f"{name}_c{channel}"]
        for name in ("mean", "sum", "min", "max", "std", "corrected_sum")
    }
    track, area = objects["track"], objects["area_px"]
    pixels = area.groupby(track).sum()
    total = of["sum"].groupby(track).sum()
    mean = total / pixels
    # Each frame's own spread plus that of its mean about the mean of all: E[x²] - E[x]² would lose
    # digits.
    spread = (area * (of["std"] ** 2 + (of["mean"] - track.map(mean)) ** 2)).groupby(track).sum()
    corrected = of["corrected_sum"].groupby(track).agg(lambda values: values.sum(skipna=False))
    columns = {
        "mean": mean,
        "sum": total,
        "min": of["min"].groupby(track).min(),
        "max": of["max"].groupby(track).max(),
        "std": np.sqrt(spread / pixels),
        "background": (total - corrected) / pixels,
        "corrected_sum": corrected,
    }
    return pd.DataFrame({f"{name}_c{channel}": values for name, values in columns.items()})


def _nan_if_none(unit: float | None) -> float:
    return np.nan if unit is None else unit
