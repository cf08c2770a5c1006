"""Where tracks of a time-lapse come from and how they end."""

from __future__ import annotations

import pandas as pd


def classify_fates(objects: pd.DataFrame, parents: pd.Series[int], n_frames: int) -> pd.DataFrame:
    """Index `track`; `origin` and `fate` of each, from the table `objects` of a time-lapse of so many `n_frames`.

    `origin`: ``start``, it is there on the first frame; ``division``, it has a parent (`parents`,
    by track); ``entered``, it is first seen at the edge of the frame; ``appeared``, none of these.
    `fate`: ``end``, it is there on the last frame; ``division``, it is a parent; ``left``, it is
    last seen at the edge; ``lost``, none of these.
    """
    ordered = objects.sort_values("frame", kind="stable").groupby("track")
    first, last = ordered.first(), ordered.last()
    edge = "on_edge" in objects.columns
    mothers = set(parents.dropna().astype(int))
    rows = []
    for track in first.index:
        begun, ended = first.loc[track], last.loc[track]
        origin = (
            "start"
            if begun["frame"] == 0
            else "division"
            if pd.notna(parents.get(track))
            else _choose_by_edge(begun, edge, "entered", "appeared")
        )
        fate = (
            "division"
            if track in mothers
            else "end"
            if ended["frame"] == n_frames - 1
            else _choose_by_edge(ended, edge, "left", "lost")
        )
        rows.append((track, origin, fate))
    return (
        pd.DataFrame(rows, columns=["track", "origin", "fate"]).set_index("track").astype("string")
    )


def _choose_by_edge(row: pd.Series, has_edge_column: bool, if_on_edge: str, otherwise: str) -> str:
    return (
        if_on_edge
        if has_edge_column and pd.notna(row["on_edge"]) and bool(row["on_edge"])
        else otherwise
    )
