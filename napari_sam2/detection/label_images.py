"""Label planes of another tool (Cellpose, StarDist, micro-sam) as prompts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.stack import Stack, Video
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.detection.prompts import make_label_prompts

# of overlapping objects on neighbouring frames: above it, labels are identities
_MIN_SAME_LABEL_FRACTION = 0.7


class LabelImageDetector:
    """Objects that another tool labelled, one plane per frame.

    Holes, gaps and objects in several parts stay as they are.
    """

    name = "labels"

    def __init__(self, options: DetectionOptions | None = None) -> None:
        self.options = options or DetectionOptions()
        if self.options.labels is None:
            raise LabelsError(
                "the detector 'labels' without labels: give a label image of the video's frames"
            )

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `Detector`.

        Raises LabelsError if the labels are no whole numbers, or have another shape than the video.
        """
        return make_label_prompts(
            self._load_plane(video, frame), frame, self.options.kind, first_track, occupied
        )

    def detect_volume(self, video: Video) -> Callable[[int], np.ndarray] | None:
        """The labels, if most objects keep theirs from frame to frame; else None."""
        alike = other = 0
        before = self._load_plane(video, 0)
        for frame in range(1, len(video)):
            after = self._load_plane(video, frame)
            for label in np.unique(before[before > 0]):
                there = after[(before == label) & (after > 0)]
                if there.size:
                    same = int(np.bincount(np.unique(there, return_inverse=True)[1]).argmax())
                    alike, other = (
                        (alike + 1, other)
                        if np.unique(there)[same] == label
                        else (alike, other + 1)
                    )
            before = after
        if len(video) > 1 and alike <= _MIN_SAME_LABEL_FRACTION * (alike + other):
            return None
        return lambda frame: self._load_plane(video, frame)

    def _load_plane(self, video: Video, frame: int) -> np.ndarray:
        array = (
            self.options.labels.data
            if isinstance(self.options.labels, Stack)
            else self.options.labels
        )
        shape = tuple(array.shape) if len(array.shape) == 3 else (1, *array.shape)
        if shape != video.shape or np.dtype(array.dtype).kind not in "ui":
            raise LabelsError(
                f"labels of {array.dtype} {shape!r}: expected whole numbers {video.shape!r}, one "
                "plane for each frame of the video"
            )
        plane = np.asarray(array[frame] if len(array.shape) == 3 else array)
        if plane.size and plane.min() < 0:
            raise LabelsError(
                f"labels from {plane.min()}: expected 0 for the background and numbers above it",
                frame=frame,
            )
        return plane
