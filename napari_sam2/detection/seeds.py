"""Seeds by classical detectors: outlined bodies, blobs, and peaks of the distance to the background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max

from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from napari_sam2.core.stack import Video
from napari_sam2.detection.classical import (
    Foreground,
    compute_response,
    find_seeds,
    flatten_brightness,
    make_ball,
    segment_objects,
)
from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.detection.options import DetectionOptions, PromptKind

_MAX_OVERLAP = 0.5  # of an object's pixels: as many must be free of known objects for it to be new
_BALL_PER_SLICE_DIAMETER = (
    4 / np.pi
)  # diameter of a ball by the mean one of its slices, which is what is guessed
_VOXELS_PER_DIAMETER = 12.0  # of a diameter: finer than this a volume is not looked at


class _ScaledDetector:
    """A source that looks for objects of one size, known or guessed once for a video."""

    def __init__(self, options: DetectionOptions | None = None) -> None:
        self.options = options or DetectionOptions()
        self._scales: dict[int, ObjectScale | None] = {}

    def get_scale(self, video: Video) -> ObjectScale | None:
        """The size of objects in this video; None where nothing is to be seen."""
        if id(video) not in self._scales:
            self._scales = {id(video): self.options.estimate_scale(video)}
        return self._scales[id(video)]


class ClassicalDetector(_ScaledDetector):
    """Objects outlined by local background, watershed and half maximum; each a mask, a box or a click."""

    name = "bodies"

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
        """A z-stack is outlined as a volume, no finer than needed; other videos are not."""
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


class BlobDetector(_ScaledDetector):
    """A click on every maximum of the Laplacian of Gaussian that lies on something bright (dark)."""

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


class PeakDetector(_ScaledDetector):
    """A click where the distance to the background is largest: for objects of even brightness that touch."""

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


def make_clicks(
    positions: np.ndarray, frame: int, first_track: int, occupied: np.ndarray | None
) -> list[Prompt]:
    """A click at each (y, x) of `positions` that is not taken."""
    free = [
        (float(y), float(x))
        for y, x in positions
        if occupied is None or not occupied[int(y), int(x)]
    ]
    return [
        PointPrompt(frame, first_track + number, [place], [True])
        for number, place in enumerate(free)
    ]


def make_label_prompts(
    labels: np.ndarray, frame: int, kind: PromptKind, first_track: int, occupied: np.ndarray | None
) -> list[Prompt]:
    """A prompt for each label of a plane that is mostly on free pixels, in order of the labels."""
    found: list[Prompt] = []
    codes = np.unique(labels[labels > 0])
    for code, box in zip(
        codes, ndimage.find_objects(np.searchsorted([0, *codes], labels)), strict=True
    ):
        mask = labels[box] == code
        if occupied is not None and np.count_nonzero(
            mask & occupied[box]
        ) > _MAX_OVERLAP * np.count_nonzero(mask):
            continue
        found.append(
            make_prompt(
                mask,
                (box[0].start, box[1].start),
                labels.shape,
                frame,
                first_track + len(found),
                kind,
            )
        )
    return found


def make_prompt(
    mask: np.ndarray,
    corner: tuple[int, int],
    shape: tuple[int, ...],
    frame: int,
    track: int,
    kind: PromptKind,
) -> Prompt:
    """What is said of an object that is `mask`, a crop whose first pixel is `corner`: a click deepest inside, its box, or all of it."""
    if kind == "point":
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return PointPrompt(frame, track, [(float(corner[0] + y), float(corner[1] + x))], [True])
    if kind == "box" and min(mask.shape) > 1:
        low, high = (
            (corner[0], corner[1]),
            (corner[0] + mask.shape[0] - 1, corner[1] + mask.shape[1] - 1),
        )
        return BoxPrompt(frame, track, (*low, *high))
    whole = np.zeros(shape, dtype=bool)
    whole[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]] = mask
    return MaskPrompt(frame, track, whole)


def _load_bright_objects(video: Video, frame: int, scale: ObjectScale) -> np.ndarray:
    pixels = video.read_frame(frame).pixels
    return 1.0 - pixels if scale.dark else pixels


def _downsample(plane: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of `step` pixels; what is left over at the far edges goes with the last block."""
    if step == 1:
        return plane
    rows, columns = (np.arange(0, max(step, side - side % step), step) for side in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane.astype(np.float64), rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, plane.shape[0]]), np.diff([*columns, plane.shape[1]]))
    return np.asarray(sums / counts, dtype=np.float32)


def _upsample_labels(labels: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse on labels, its borders made smooth again."""
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
