"""Detectors that look for objects of one size."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from napari_sam2.core.protocols import Detector
from napari_sam2.core.stack import Video
from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.detection.options import DetectionOptions


@runtime_checkable
class SizedDetector(Detector, Protocol):
    """A detector that knows the size of the objects it looks for: linking uses it."""

    def get_scale(self, video: Video) -> ObjectScale | None:
        """Size of the objects in this video; None if nothing stands out."""
        ...


class ScaleEstimator:
    """Base of detectors that look for objects of one size, given or estimated once per video."""

    def __init__(self, options: DetectionOptions | None = None) -> None:
        self.options = options or DetectionOptions()
        self._estimate: tuple[Video, ObjectScale | None] | None = None

    def get_scale(self, video: Video) -> ObjectScale | None:
        """Size of the objects in this video; None if nothing stands out."""
        if self._estimate is None or self._estimate[0] is not video:
            self._estimate = video, self.options.estimate_scale(video)
        return self._estimate[1]
