"""Seeds by classical detectors: outlined bodies, blobs, and peaks of the distance to the background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max

from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt
from napari_sam2.core.video import Video
from napari_sam2.detection.classical import Light, ball, flattened, outline, response_of, seeds
from napari_sam2.detection.object_scale import Scale
from napari_sam2.detection.options import Hints, Kind

_NEW = 0.5  # of an object's pixels: as many must be free of known objects for it to be new
_SLICED = 4 / np.pi  # diameter of a ball by the mean one of its slices, which is what is guessed
_VOXELS = 12.0  # of a diameter: finer than this a volume is not looked at


class _Sized:
    """A source that looks for objects of one size, known or guessed once for a video."""

    def __init__(self, hints: Hints | None = None) -> None:
        self.hints = hints or Hints()
        self._scales: dict[int, Scale | None] = {}

    def scale(self, video: Video) -> Scale | None:
        """The size of objects in this video; None where nothing is to be seen."""
        if id(video) not in self._scales:
            self._scales = {id(video): self.hints.scale(video)}
        return self._scales[id(video)]


class Bodies(_Sized):
    """Objects outlined by local background, watershed and half maximum; each a mask, a box or a click."""

    name = "bodies"

    def prompts(
        self, video: Video, frame: int, *, first: int = 1, taken: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `PromptSource`."""
        scale = self.scale(video)
        if scale is None:
            return []
        return label_prompts(
            outline(_bright(video, frame, scale), (scale.diameter_px,) * 2),
            frame,
            self.hints.kind,
            first,
            taken,
        )

    def labels(self, video: Video) -> Callable[[int], np.ndarray] | None:
        """A z-stack is outlined as a volume, no finer than needed; other videos are not."""
        scale = self.scale(video)
        if video.along != "z" or scale is None or len(video) == 1:
            return None
        guessed = self.hints.diameter_px is None and self.hints.diameter_um is None
        diameter = scale.diameter_px * (_SLICED if guessed else 1.0)
        step = max(1, int(diameter / _VOXELS))
        flatness = (
            (video.spacing.z_um or 1.0) / (video.spacing.y_um or 1.0)
            if video.spacing.z_um and video.spacing.y_um
            else 1.0
        )
        volume = np.stack(
            [_reduced(_bright(video, frame, scale), step) for frame in range(len(video))]
        )
        found = outline(volume, (diameter / flatness, diameter / step, diameter / step))
        return lambda frame: _enlarged(found[frame], step, video.shape[1:])


class Blobs(_Sized):
    """A click on every maximum of the Laplacian of Gaussian that lies on something bright (dark)."""

    name = "blobs"

    def prompts(
        self, video: Video, frame: int, *, first: int = 1, taken: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `PromptSource`."""
        scale = self.scale(video)
        if scale is None:
            return []
        image, size = _bright(video, frame, scale), (scale.diameter_px,) * 2
        light = Light.of(image, size)
        if not np.isfinite(light.least):
            return []
        return clicks(
            seeds(light, response_of(flattened(light, size), size), size), frame, first, taken
        )


class Peaks(_Sized):
    """A click where the distance to the background is largest: for objects of even brightness that touch."""

    name = "peaks"

    def prompts(
        self, video: Video, frame: int, *, first: int = 1, taken: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `PromptSource`."""
        scale = self.scale(video)
        if scale is None:
            return []
        light = Light.of(_bright(video, frame, scale), (scale.diameter_px,) * 2)
        depth = ndimage.gaussian_filter(
            ndimage.distance_transform_edt(light.above > light.least), 1.0
        )
        apart = ball([0.35 * scale.diameter_px] * 2)
        return clicks(
            peak_local_max(
                depth, footprint=apart, threshold_abs=0.15 * scale.diameter_px, exclude_border=False
            ),
            frame,
            first,
            taken,
        )


def clicks(places: np.ndarray, frame: int, first: int, taken: np.ndarray | None) -> list[Prompt]:
    """A click at each (y, x) of `places` that is not taken."""
    free = [(float(y), float(x)) for y, x in places if taken is None or not taken[int(y), int(x)]]
    return [
        PointPrompt(frame, first + number, [place], [True]) for number, place in enumerate(free)
    ]


def label_prompts(
    labels: np.ndarray, frame: int, kind: Kind, first: int, taken: np.ndarray | None
) -> list[Prompt]:
    """A prompt for each label of a plane that is mostly on free pixels, in order of the labels."""
    found: list[Prompt] = []
    codes = np.unique(labels[labels > 0])
    for code, box in zip(
        codes, ndimage.find_objects(np.searchsorted([0, *codes], labels)), strict=True
    ):
        mask = labels[box] == code
        if taken is not None and np.count_nonzero(mask & taken[box]) > _NEW * np.count_nonzero(
            mask
        ):
            continue
        found.append(
            mask_prompt(
                mask, (box[0].start, box[1].start), labels.shape, frame, first + len(found), kind
            )
        )
    return found


def mask_prompt(
    mask: np.ndarray,
    corner: tuple[int, int],
    shape: tuple[int, ...],
    frame: int,
    track: int,
    kind: Kind,
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


def _bright(video: Video, frame: int, scale: Scale) -> np.ndarray:
    pixels = video.frame(frame).pixels
    return 1.0 - pixels if scale.dark else pixels


def _reduced(plane: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of `step` pixels; what is left over at the far edges goes with the last block."""
    if step == 1:
        return plane
    rows, columns = (np.arange(0, max(step, side - side % step), step) for side in plane.shape)
    sums = np.add.reduceat(np.add.reduceat(plane.astype(np.float64), rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, plane.shape[0]]), np.diff([*columns, plane.shape[1]]))
    return np.asarray(sums / counts, dtype=np.float32)


def _enlarged(labels: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
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
