"""Count objects on each frame, and tracks over all frames."""

from __future__ import annotations

from itertools import product

import pandas as pd

from napari_sam2.core.errors import MeasurementError
from napari_sam2.measurement.columns import count_measured_channels

ALL = "all"
"""The value of the columns `frame` and `category` in rows over all of them."""


def count_objects(objects: pd.DataFrame, n_frames: int) -> pd.DataFrame:
    """The table ``counts.csv`` with the columns `frame`, `category` and `n`.

    The first rows are the objects of each frame and category, including n = 0. The rows of the
    frame ``all`` count tracks: one for each category if there are several, and always a last row
    ``all, all``. Objects without a category have the category "".

    Parameters
    ----------
    objects
        The table of objects.
    n_frames
        Number of frames of the video.

    Raises
    ------
    MeasurementError
        If the table has objects on frames outside the video, or is not a table of objects.
    """
    count_measured_channels(objects)
    if len(objects) and not objects["frame"].between(0, n_frames - 1).all():
        raise MeasurementError(
            f"objects on frames {objects['frame'].min()} to {objects['frame'].max()}: expected 0 "
            f"to {n_frames - 1}, the frames of the video"
        )
    category = objects["category"].fillna("").astype(str)
    names = sorted(category.unique()) or [""]
    by_frame = objects["track"].groupby([objects["frame"], category]).nunique()
    rows = [
        (str(frame), name, int(by_frame.get((frame, name), 0)))
        for frame, name in product(range(n_frames), names)
    ]
    if len(names) > 1:
        rows += [(ALL, name, int(objects["track"][category == name].nunique())) for name in names]
    rows.append((ALL, ALL, int(objects["track"].nunique())))
    return pd.DataFrame(rows, columns=["frame", "category", "n"]).astype(
        {"frame": "string", "category": "string", "n": "int64"}
    )
