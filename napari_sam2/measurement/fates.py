"""How tracks of a time-lapse begin and end."""

from __future__ import annotations

import numpy as np
import pandas as pd


def classify_fates(objects: pd.DataFrame, parents: pd.Series[int], n_frames: int) -> pd.DataFrame:
    """The columns `origin` and `fate` of each track, with the index `track`.

    Parameters
    ----------
    objects
        The table of objects.
    parents
        Parent by track, missing for tracks without one.
    n_frames
        Number of frames of the time-lapse.

    Returns
    -------
    pd.DataFrame
        `origin` is ``start`` if the track is on the first frame; ``division`` if it has a parent;
        ``entered`` if it begins at the edge of the frame; else ``appeared``. `fate` is ``division``
        if the track is a parent; ``end`` if it is on the last frame; ``left`` if it ends at the
        edge; else ``lost``.
    """
    tracks = objects.sort_values("frame", kind="stable").groupby("track")
    first, last = tracks.first(), tracks.last()
    has_parent = np.array([pd.notna(parents.get(track)) for track in first.index], dtype=bool)
    is_parent = first.index.isin(set(parents.dropna().astype(int)))
    origin = np.select(
        [first["frame"] == 0, has_parent, _get_on_edge(first)],
        ["start", "division", "entered"],
        "appeared",
    )
    fate = np.select(
        [is_parent, last["frame"] == n_frames - 1, _get_on_edge(last)],
        ["division", "end", "left"],
        "lost",
    )
    return pd.DataFrame({"origin": origin, "fate": fate}, index=first.index).astype("string")


def _get_on_edge(rows: pd.DataFrame) -> np.ndarray:
    """Whether each object touches the edge of its frame; False if unknown."""
    if "on_edge" not in rows.columns:
        return np.zeros(len(rows), dtype=bool)
    return rows["on_edge"].astype("boolean").fillna(False).to_numpy(dtype=bool)
