"""Label planes of another tool (Cellpose, StarDist, micro-sam) as prompts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.stack import Stack
from napari_sam2.core.video import Video
from napari_sam2.detection.options import Hints
from napari_sam2.detection.seeds import label_prompts

# of the objects that overlap one on the next frame: as many must have its label for labels to be
# identities
_SAME = 0.7


class Labels:
    """Objects that another tool labelled, one plane for each frame.

    Holes, gaps and objects of several parts are taken as they are.
    """

    name = "labels"

    def __init__(self, hints: Hints | None = None) -> None:
        self.hints = hints or Hints()
        if self.hints.labels is None:
            raise LabelsError(
                "the source 'labels' without labels: give a label image of the video's frames"
            )

    def prompts(
        self, video: Video, frame: int, *, first: int = 1, taken: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `PromptSource`.

        Raises LabelsError for labels of another shape than the video, or that are no whole numbers.
        """
        return label_prompts(self._plane(video, frame), frame, self.hints.kind, first, taken)

    def labels(self, video: Video) -> Callable[[int], np.ndarray] | None:
        """The labels themselves where they are identities: most objects keep theirs from frame to frame."""
        alike = other = 0
        before = self._plane(video, 0)
        for frame in range(1, len(video)):
            after = self._plane(video, frame)
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
        if len(video) > 1 and alike <= _SAME * (alike + other):
            return None
        return lambda frame: self._plane(video, frame)

    def _plane(self, video: Video, frame: int) -> np.ndarray:
        array = (
            self.hints.labels.data if isinstance(self.hints.labels, Stack) else self.hints.labels
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
