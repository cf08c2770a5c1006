"""The table of tracks: duration, size and intensity over all frames of each track."""

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
    """The table ``tracks.csv``: a row for each track with pixels, by id.

    Parameters
    ----------
    objects
        The table of objects.
    tracks
        Tracks with their parents (``PromptLog.tracks``).
    spots
        3D spots as `measure_track_spots` returns them; used along z.

    Returns
    -------
    pd.DataFrame
        `parent` is empty if unknown. Along z, `volume_um3` is the sum of the areas times the
        distance of planes. Along t, `duration_s` is (last frame - first frame) × interval,
        or the difference of their times if frames come unevenly, including frames on which the
        track is absent. `n_frames` and `mean_area_um2` refer to the frames on which it has pixels.

        Intensities are those of all pixels on all frames: `mean` and `background` are weighted by
        area, `std` is pooled, `corrected_sum` is the sum over the frames, that is, sum - pixels ×
        background; empty if unknown on one frame.

        Then follow `mean_area_px`; along z `volume_px` (voxels) and `on_edge` (the track touches
        the edge of a frame, or is on the first or last frame, and may be incomplete); along t
        `origin` and `fate`, see `classify_fates`. Each channel has `spots` and `spots_sum` (along z
        those in 3D, along t the means over the frames), `saturated_px` (the sum) and `saturated`.
    """
    n_channels = count_measured_channels(objects)
    groups = objects.groupby("track", sort=True)
    parents = {track.id: track.parent for track in tracks}
    rows = groups[["category"]].first().astype("string").fillna("")
    rows["parent"] = pd.array([parents.get(int(track)) for track in rows.index], dtype="Int64")
    rows["first_frame"] = groups["frame"].min()
    rows["last_frame"] = groups["frame"].max()
    rows["n_frames"] = groups.size()
    pixels = groups["area_px"].sum()
    spacing = video.spacing
    if video.along == "z":
        rows["volume_um3"] = pixels * _replace_none_by_nan(spacing.voxel_um3)
    else:
        rows["duration_s"] = _compute_durations(rows["first_frame"], rows["last_frame"], video)
    rows["mean_area_um2"] = (pixels / rows["n_frames"]) * _replace_none_by_nan(spacing.pixel_um2)
    for channel in range(n_channels):
        rows = rows.join(_pool_intensities(objects, channel))
    types = {
        **dict.fromkeys(("first_frame", "last_frame", "n_frames"), "int64"),
        "mean_area_um2": "float64",
        **get_intensity_columns(n_channels),
    }
    rows = rows.astype(types).join(_make_extra_columns(objects, video, rows, spots))
    return rows.reset_index().astype({"track": "int64"})


def _compute_durations(
    first: pd.Series[int], last: pd.Series[int], video: Video
) -> pd.Series[float]:
    """Time in s between two frames: from their times if these are known, else the interval."""
    if video.times_s:
        times = np.asarray(video.times_s)
        return pd.Series(times[last] - times[first], index=first.index)
    return (last - first) * _replace_none_by_nan(video.spacing.t_s)


def _make_extra_columns(
    objects: pd.DataFrame, video: Video, tracks: pd.DataFrame, spots: pd.DataFrame | None
) -> pd.DataFrame:
    """The columns after the fixed ones."""
    pixels = objects.groupby("track", sort=True)["area_px"].sum()
    columns = pd.DataFrame({"mean_area_px": (pixels / tracks["n_frames"]).astype("float64")})
    if video.along == "z":
        at_end = (tracks["first_frame"] == 0) | (tracks["last_frame"] == len(video) - 1)
        columns["volume_px"] = pixels.astype("int64")
        columns["on_edge"] = _check_any_by_track(objects, "on_edge") | at_end.astype("boolean")
    else:
        columns = columns.join(classify_fates(objects, tracks["parent"], len(video)))
        spots = _average_spots(objects)
    for channel in range(count_measured_channels(objects)):
        for name in (f"spots_c{channel}", f"spots_sum_c{channel}"):
            if spots is not None and name in spots.columns:
                columns[name] = spots[name].astype("float64")
            else:
                columns[name] = np.nan
        name = f"saturated_px_c{channel}"
        columns[name] = _sum_by_track(objects, name)
        columns[f"saturated_c{channel}"] = columns[name] > 0
    return columns


def _average_spots(objects: pd.DataFrame) -> pd.DataFrame:
    """The means of the spot columns over the frames of each track."""
    names = [name for name in objects.columns if str(name).startswith("spots_")]
    return objects.groupby("track", sort=True)[names].mean()


def _sum_by_track(objects: pd.DataFrame, name: str) -> pd.Series[int]:
    """The sum of a column over the frames of each track; empty if it is unknown."""
    if name not in objects.columns:
        return pd.Series(pd.NA, index=sorted(objects["track"].unique()), dtype="Int64")
    return objects[name].astype("Int64").groupby(objects["track"]).sum(min_count=1)


def _check_any_by_track(objects: pd.DataFrame, name: str) -> pd.Series[bool]:
    """Whether a flag is set on any frame of each track; empty if the table lacks the column."""
    if name not in objects.columns:
        return pd.Series(pd.NA, index=sorted(objects["track"].unique()), dtype="boolean")
    return objects[name].astype("boolean").groupby(objects["track"]).any()


def _pool_intensities(objects: pd.DataFrame, channel: int) -> pd.DataFrame:
    """Intensities of one channel over all pixels of all frames of each track."""
    values = {
        name: objects[f"{name}_c{channel}"]
        for name in ("mean", "sum", "min", "max", "std", "corrected_sum")
    }
    track, area = objects["track"], objects["area_px"]
    pixels = area.groupby(track).sum()
    total = values["sum"].groupby(track).sum()
    mean = total / pixels
    # within and between frames separately, because E[x²] - E[x]² would lose digits
    variance = values["std"] ** 2 + (values["mean"] - track.map(mean)) ** 2
    corrected = values["corrected_sum"].groupby(track).agg(lambda each: each.sum(skipna=False))
    columns = {
        "mean": mean,
        "sum": total,
        "min": values["min"].groupby(track).min(),
        "max": values["max"].groupby(track).max(),
        "std": np.sqrt((area * variance).groupby(track).sum() / pixels),
        "background": (total - corrected) / pixels,
        "corrected_sum": corrected,
    }
    return pd.DataFrame({f"{name}_c{channel}": values for name, values in columns.items()})


def _replace_none_by_nan(unit: float | None) -> float:
    return np.nan if unit is None else unit
