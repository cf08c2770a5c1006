"""Classical detectors: watershed, blobs, and peaks of the distance to the background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max

from napari_sam2.core.prompt import Prompt
from napari_sam2.core.stack import Video
from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.detection.prompts import make_clicks, make_label_prompts
from napari_sam2.detection.sized import ScaleEstimator
from napari_sam2.detection.watershed import (
    Foreground,
    compute_response,
    find_seeds,
    flatten_brightness,
    make_ball,
    segment_objects,
)

# diameter of a ball relative to the mean one of its slices, which is what is estimated
_BALL_PER_SLICE_DIAMETER = 4 / np.pi
_VOXELS_PER_DIAMETER = 12.0  # a volume is downsampled to this


class ClassicalDetector(ScaleEstimator):
    """Objects segmented by a watershed of local maxima; each a mask, a box or a click."""

    name = "classical"

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `Detector`."""
        scale = self.get_scale(video)
        if scale is None:
            return []
        return make_label_prompts(
            segment_objects(_load_bright_objects(video, frame, scale), (scale.diameter_px,) * 2),
            frame,
            self.options.kind,
            first_track,
            occupied,
        )

    def detect_volume(self, video: Video) -> Callable[[int], np.ndarray] | None:
        """Segment a z-stack as a volume, no finer than needed; None for other videos."""
        scale = self.get_scale(video)
        if video.along != "z" or scale is None or len(video) == 1:
            return None
        guessed = self.options.diameter_px is None and self.options.diameter_um is None
        diameter = scale.diameter_px * (_BALL_PER_SLICE_DIAMETER if guessed else 1.0)
        step = max(1, int(diameter / _VOXELS_PER_DIAMETER))
        flatness = (
            (video.spacing.z_um or 1.0) / (video.spacing.y_um or 1.0)
            if video.spacing.z_um and video.spacing.y_um
            else 1.0
        )
        volume = np.stack(
            [
                _downsample(_load_bright_objects(video, frame, scale), step)
                for frame in range(len(video))
            ]
        )
        found = segment_objects(volume, (diameter / flatness, diameter / step, diameter / step))
        return lambda frame: _upsample_labels(found[frame], step, video.shape[1:])


class BlobDetector(ScaleEstimator):
    """A click on each maximum of the Laplacian of Gaussian on a bright (dark) object."""

    name = "blobs"

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `Detector`."""
        scale = self.get_scale(video)
        if scale is None:
            return []
        image, size = _load_bright_objects(video, frame, scale), (scale.diameter_px,) * 2
        light = Foreground.of(image, size)
        if not np.isfinite(light.threshold):
            return []
        return make_clicks(
            find_seeds(light, compute_response(flatten_brightness(light, size), size), size),
            frame,
            first_track,
            occupied,
        )


class PeakDetector(ScaleEstimator):
    """A click where the distance to the background is largest: for even objects that touch."""

    name = "peaks"

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `Detector`."""
        scale = self.get_scale(video)
        if scale is None:
            return []
        light = Foreground.of(_load_bright_objects(video, frame, scale), (scale.diameter_px,) * 2)
        depth = ndimage.gaussian_filter(
            ndimage.distance_transform_edt(light.above_background > light.threshold), 1.0
        )
        apart = make_ball([0.35 * scale.diameter_px] * 2)
        return make_clicks(
            peak_local_max(
                depth, footprint=apart, threshold_abs=0.15 * scale.diameter_px, exclude_border=False
            ),
            frame,
            first_track,
            occupied,
        )


def _load_bright_objects(video: Video, frame: int, scale: ObjectScale) -> np.ndarray:
    pixels = video.read_frame(frame).pixels
    return 1.0 - pixels if scale.dark else pixels


def _downsample(plane: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of `step` pixels; the last block takes the rest."""
    if step == 1:
        return plane
    rows, columns = (np.arange(0, max(step, side - side % step), step) for side in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane.astype(np.float64), rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, plane.shape[0]]), np.diff([*columns, plane.shape[1]]))
    return np.asarray(sums / counts, dtype=np.float32)


def _upsample_labels(labels: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `_downsample` for labels, with smoothed borders."""
    if step == 1:
        return labels
    rows, columns = (
        np.minimum(np.arange(side) // step, cells - 1)
        for side, cells in zip(shape, labels.shape, strict=True)
    )
    coarse = labels[np.ix_(rows, columns)]
    smooth, strongest = np.zeros_like(coarse), np.full(coarse.shape, 0.5, dtype=np.float32)
    boxes = ndimage.find_objects(coarse)
    for code in np.unique(coarse[coarse > 0]).tolist():
        box = boxes[code - 1]
        around = tuple(slice(max(0, side.start - step), side.stop + step) for side in box)
        cover = ndimage.gaussian_filter((coarse[around] == code).astype(np.float32), 0.6 * step)
        wins = cover > strongest[around]
        smooth[around][wins], strongest[around][wins] = code, cover[wins]
    return smooth
