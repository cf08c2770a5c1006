"""Lineage: which tracks are on which frames, and who came from whom, as the Cell Tracking Challenge writes it down."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.track import Branch


def find_branches(
    ids_by_frame: Iterable[np.ndarray], parents: Mapping[int, int] | None = None
) -> list[Branch]:
    """The branches of label planes, ascending by track: `ids_by_frame` are the labels on each frame, in order.

    Raises LabelsError for a parent that has no pixels, or begins no earlier than its child.
    """
    frames: dict[int, list[int]] = defaultdict(list)
    for frame, labels in enumerate(ids_by_frame):
        for label in labels.tolist():
            frames[int(label)].append(frame)
    known = dict(parents or {})
    for child, parent in known.items():
        if child in frames and (parent not in frames or frames[parent][0] >= frames[child][0]):
            raise LabelsError(
                f"parent {parent} of track {child}: expected a track with pixels that begins "
                "before it",
                track=child,
            )
    return [
        Branch(track, places[0], places[-1], known.get(track, 0))
        for track, places in sorted(frames.items())
    ]
