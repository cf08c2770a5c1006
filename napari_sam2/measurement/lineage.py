"""Lineage: the branches of tracks, as the Cell Tracking Challenge defines them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.track import Branch


def find_branches(
    ids_by_frame: Iterable[np.ndarray], parents: Mapping[int, int] | None = None
) -> list[Branch]:
    """The branches of label planes, ascending by track.

    Parameters
    ----------
    ids_by_frame
        The labels on each frame, in the order of frames.
    parents
        The parent of each track that has one.

    Raises
    ------
    LabelsError
        If a parent has no pixels, or does not begin before its child.
    """
    frames: dict[int, list[int]] = defaultdict(list)
    for frame, labels in enumerate(ids_by_frame):
        for label in labels.tolist():
            frames[int(label)].append(frame)
    parents = dict(parents or {})
    for child, parent in parents.items():
        if child in frames and (parent not in frames or frames[parent][0] >= frames[child][0]):
            raise LabelsError(
                f"has the parent {parent}: expected a track with pixels that begins before it",
                track=child,
            )
    return [
        Branch(track, track_frames[0], track_frames[-1], parents.get(track, 0))
        for track, track_frames in sorted(frames.items())
    ]
