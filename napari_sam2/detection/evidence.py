"""What the learned detector sees of a video, as evidence for prompts and propagation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam2.core.byte_limited_cache import ByteLimitedCache
from napari_sam2.core.protocols import SIZE_OCTAVES, WORKING_DIAMETER
from napari_sam2.core.result import DetectedObject, FrameDetections
from napari_sam2.core.stack import Video
from napari_sam2.core.window import Window
from napari_sam2.detection.learned import LearnedDetector, LearnedEvidence
from napari_sam2.detection.maps.instances import segment_maps

_CLICK_DIAMETERS_PX = (6.0, 9.0, 13.5, 20.0, 30.0, 45.0, 67.0, 100.0, 150.0)
_CLICK_SIDE = 128  # of the window at a click, in which an object is WORKING_DIAMETER wide
_LARGEST_DIAMETER = 2.0  # in sides of the frame
# Octaves of size by which an object's sureness falls to a third: beside the size that its own
# pixels say, and beside the size the network sees best.
_SIZE_OCTAVES_OFF, _SCALE_OCTAVES_OFF = 3.0, 2.0
_MIN_PIXELS = 9
_SLICE_BYTES = 1 << 27  # of a volume, at the size of the video's frames


class VideoEvidence(LearnedEvidence):
    """The detections of a `LearnedDetector` on one video; see `ClickEvidence`.

    Frames of a z-stack with a known spacing are detected together, as a volume, when the first of
    them is asked for; those of a time-lapse one by one. A click needs neither: the place is looked
    at in nine windows of different size.
    """

    def __init__(self, detector: LearnedDetector, video: Video) -> None:
        super().__init__(detector, video)
        self._slices: ByteLimitedCache[int, FrameDetections] = ByteLimitedCache(
            lambda found: found.labels.nbytes + found.foreground.nbytes, _SLICE_BYTES
        )

    def get_frame(self, frame: int) -> FrameDetections:
        """See `ObjectEvidence`."""
        volume = self.detector.detect_volume_objects(self.video)
        if volume is None:
            return self.detector.get_frame(self.video, frame)
        return self._slices.get_or_make(frame, lambda: volume.draw_detections(frame))

    def find_objects(self, frame: int, yx: tuple[float, float]) -> list[DetectedObject]:
        """See `ClickEvidence`: at most one object per scale, from the smallest scale on."""
        plane = self.detector.prepare_frame(self.video, frame)
        if plane is None:
            return []
        windows = _make_windows(yx, plane.pixels.shape)
        crops = np.stack([window.crop(plane.pixels) for window in windows])
        found = [
            _find_centre_object(maps, window, plane.pixels.shape)
            for maps, window in zip(self.detector.maps.predict(crops), windows, strict=True)
        ]
        return [each for each in found if each is not None]


def _make_windows(yx: tuple[float, float], shape: Sequence[int]) -> list[Window]:
    """Windows around a position, one for each diameter that an object there may have."""
    y, x = yx[0] + 0.5, yx[1] + 0.5
    sides = [
        _CLICK_SIDE * diameter / WORKING_DIAMETER
        for diameter in _CLICK_DIAMETERS_PX
        if diameter <= _LARGEST_DIAMETER * max(shape)
    ]
    return [Window(y - side / 2, x - side / 2, side, side, _CLICK_SIDE) for side in sides]


def _find_centre_object(
    maps: NDArray[np.float32], window: Window, shape: Sequence[int]
) -> DetectedObject | None:
    """The object in the middle of a window, if the window shows it whole."""
    labels = segment_maps(maps)
    middle = _CLICK_SIDE // 2
    label = labels[middle, middle] or labels[middle - 1, middle - 1]
    mask = labels == label
    rim = mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    if not label or rim:
        return None
    # the outline lies where the foreground crosses one half, between the cells
    grid = np.where(mask, np.maximum(maps[0], 0.51), np.minimum(maps[0], 0.49)) - 0.5
    rows, columns = window.find_positive_region(grid, (int(shape[0]), int(shape[1])))
    if rows.start == rows.stop or columns.start == columns.stop:
        return None
    pixels = window.paste(grid, rows, columns) > 0
    if pixels.sum() < _MIN_PIXELS:
        return None
    return DetectedObject(pixels, (rows.start, columns.start), _measure_sureness(maps, mask))


def _measure_sureness(maps: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """0..1: the foreground, and how well the size fits what the pixels say, and the scale."""
    size = np.log2(2 * np.sqrt(mask.sum() / np.pi))
    said = SIZE_OCTAVES * float(np.median(maps[3][mask]))
    own = np.exp(-(((size - said) / _SIZE_OCTAVES_OFF) ** 2))
    scale = np.exp(-(((size - np.log2(WORKING_DIAMETER)) / _SCALE_OCTAVES_OFF) ** 2))
    return float(maps[0][mask].mean() * own * scale)
