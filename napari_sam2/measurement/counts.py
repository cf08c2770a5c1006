"""How many objects there are, on every frame and in all."""

from __future__ import annotations

import pandas as pd

from napari_sam2.core.errors import MeasurementError
from napari_sam2.measurement.columns import count_measured_channels

ALL = "all"
"""What stands for every frame, and for every category."""


def count_objects(objects: pd.DataFrame, n_frames: int) -> pd.DataFrame:
    """The table ``counts.csv``: columns `frame`, `category`, `n`, from the table `objects` of a video of so many `n_frames`.

    First a row for each frame and category, those with n = 0 too. Then the frame ``all``: objects
    in a stack are counted as tracks, never as labels per frame, so n is the number of tracks; where
    there are several categories a row for each of them, and at the very end, always, one row ``all,
    all`` for everything. Objects without a category have the category "".

    Raises
    ------
    MeasurementError
        Objects on frames that the video does not have.
    """
    count_measured_channels(objects)
    if len(objects) and not objects["frame"].between(0, n_frames - 1).all():
        raise MeasurementError(
            f"objects on frames up to {objects['frame'].max()}: expected 0 to {n_frames - 1}, the "
            "frames of the video"
        )
    category = objects["category"].fillna("").astype(str)
    names = sorted(category.unique()) or [""]
    found = objects["track"].groupby([objects["frame"], category]).nunique()
    every = pd.MultiIndex.from_product([range(n_frames), names])
    rows = [(str(frame), name, int(found.get((frame, name), 0))) for frame, name in every]
    if len(names) > 1:
        rows += [(ALL, name, int(objects["track"][category == name].nunique())) for name in names]
    rows.append((ALL, ALL, int(objects["track"].nunique())))
    return pd.DataFrame(rows, columns=["frame", "category", "n"]).astype(
        {"frame": "string", "category": "string", "n": "int64"}
    )
