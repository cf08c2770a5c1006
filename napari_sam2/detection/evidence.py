"""What the learned detector sees of a video, as evidence for prompts and propagation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_sam2.core.byte_limited_cache import ByteLimitedCache
from napari_sam2.core.result import FrameDetections
from napari_sam2.core.stack import Video
from napari_sam2.detection.learned import LearnedDetector

_SLICE_BYTES = 1 << 27  # of a volume, at the size of the video's frames


class VideoEvidence:
    """The detections of a `LearnedDetector` on one video; see `ObjectEvidence`.

    Frames of a z-stack with a known spacing are detected together, as a volume, when the first of
    them is asked for, see `SteppedEvidence`; those of a time-lapse one by one.
    """

    def __init__(self, detector: LearnedDetector, video: Video) -> None:
        self.detector, self.video = detector, video
        self.on_progress: Callable[[int, int], Any] = lambda done, total: None
        self._slices: ByteLimitedCache[int, FrameDetections] = ByteLimitedCache(
            lambda found: found.labels.nbytes + found.foreground.nbytes, _SLICE_BYTES
        )

    @property
    def name(self) -> str:
        """Name of the detector and of its weights."""
        return f"{self.detector.name} {self.detector.maps.sha256[:12]}"

    def get_frame(self, frame: int) -> FrameDetections:
        """See `ObjectEvidence`."""
        for done, total in self.detector.detect_volume_in_steps(self.video):
            self.on_progress(done, total)
        volume = self.detector.detect_volume_objects(self.video)
        if volume is None:
            return self.detector.get_frame(self.video, frame)
        return self._slices.get_or_make(frame, lambda: volume.draw_detections(frame))
