"""LearnedDetector: objects that a network tells from their surroundings."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from scipy import ndimage as ndi

from napari_sam2.core.byte_limited_cache import ByteLimitedCache
from napari_sam2.core.errors import PlanError
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.protocols import ObjectMapModel
from napari_sam2.core.result import FrameDetections
from napari_sam2.core.stack import Video
from napari_sam2.detection.maps.blocks import iterate_objects
from napari_sam2.detection.maps.instances import measure_diameters, segment_plane
from napari_sam2.detection.maps.intensities import PreparedPlane, StackRange, prepare_plane
from napari_sam2.detection.maps.planes import Steps
from napari_sam2.detection.maps.size_search import estimate_diameter
from napari_sam2.detection.maps.volumes import VolumeObjects, segment_volume
from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.detection.options import DetectionOptions, sample_frames
from napari_sam2.detection.prompts import make_label_prompts

_CACHE_BYTES = 1 << 28
_MIN_SLICES = 3.0  # of an object: with fewer, a volume has nothing to see from the side
_RING = 4  # pixels around an object that it is compared with, to tell bright from dark
_MIN_SURENESS = 0.8  # an object below it is doubtful
_MAX_SIZE_RATIO = 3.0  # between the diameter of an object and the typical one, both ways
_MAX_DOUBT = 0.6  # share of doubtful objects: above it, the image is of an unknown kind

_Detecting = Generator[tuple[int, int], None, FrameDetections]


class LearnedDetector:
    """Objects segmented on the maps of a network; each a mask, a box or a click.

    Parameters
    ----------
    options
        `maps` is needed. The size of the objects is found on some frames of the stack together,
        unless it is given. `dark` keeps only objects that are darker (or brighter) than what is
        around them.

    Raises
    ------
    PlanError
        There is no network in the options.
    """

    name = "learned"

    def __init__(self, options: DetectionOptions | None = None) -> None:
        self.options = options or DetectionOptions()
        if self.options.maps is None:
            raise PlanError(
                f"the detector {self.name!r} needs a network: give maps=load_detector()"
            )
        self.maps: ObjectMapModel = self.options.maps
        self._view: _VideoView | None = None

    def get_scale(self, video: Video) -> ObjectScale | None:
        """Size of the objects in this video; None if no object is seen on the frames looked at."""
        diameter = self._get_view(video).diameter
        return None if diameter is None else ObjectScale(diameter, bool(self.options.dark))

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `Detector`."""
        labels = self.get_frame(video, frame).labels
        return make_label_prompts(labels, frame, self.options.kind, first_track, occupied)

    def detect_in_steps(
        self, video: Video, frame: int, *, occupied: np.ndarray | None = None
    ) -> Generator[tuple[int, int], None, list[Prompt]]:
        """See `SteppedDetector`."""
        found = yield from self._get_view(video).detect(frame)
        return make_label_prompts(found.labels, frame, self.options.kind, 1, occupied)

    def detect_volume(self, video: Video) -> Callable[[int], np.ndarray] | None:
        """Objects of a z-stack as volumes; None if it is none.

        None too if its spacing in z is not known, or objects are on too few slices: then the
        objects of single slices are linked.
        """
        return Steps(self.detect_volume_in_steps(video)).finish()

    def detect_volume_in_steps(
        self, video: Video
    ) -> Generator[tuple[int, int], None, Callable[[int], np.ndarray] | None]:
        """See `SteppedDetector`."""
        volume = yield from self._get_view(video).detect_volume()
        return None if volume is None else volume.draw_plane

    def get_frame(self, video: Video, frame: int) -> FrameDetections:
        """Objects, foreground and sureness on a frame; it is kept for a while."""
        return Steps(self._get_view(video).detect(frame)).finish()

    def detect_volume_objects(self, video: Video) -> VolumeObjects | None:
        """The objects of a volume; None if it is none, see `detect_volume`. They are kept."""
        return Steps(self._get_view(video).detect_volume()).finish()

    def compute_doubt(self, video: Video) -> float:
        """Share of detected objects, 0..1, that are doubtful: unsure, or of an odd size."""
        return self._get_view(video).compute_doubt()

    def get_notes(self, video: Video) -> list[str]:
        """See `ExplainingDetector`."""
        notes = [f"detector weights {self.maps.sha256[:12]}"]
        if self._get_view(video).lacks_depth:
            notes.append(
                "spacing in z not known: objects were detected slice by slice and linked, not as "
                "volumes; give the spacing for that"
            )
        return [*notes, *filter(None, [self.get_doubt(video)])]

    def get_doubt(self, video: Video) -> str:
        """See `ExplainingDetector`."""
        doubt = self.compute_doubt(video)
        if doubt <= _MAX_DOUBT:
            return ""
        return (
            f"DOUBTFUL: {doubt:.0%} of the detected objects are unsure or of an odd size, as on "
            "images unlike those the detector was trained on; fine-tune on a few annotated frames, "
            "or use another detector or SAM 2.1"
        )

    def _get_view(self, video: Video) -> _VideoView:
        if self._view is None or self._view.video is not video:
            self._view = _VideoView(video, self.maps, self.options)
        return self._view


class _VideoView:
    """A video as the detector sees it: intensities, size of the objects, frames found so far."""

    def __init__(self, video: Video, maps: ObjectMapModel, options: DetectionOptions) -> None:
        self.video, self._maps, self._options = video, maps, options
        self._samples = sample_frames(len(video))
        pixels = [video.read_frame(frame).pixels for frame in self._samples]
        self._range = StackRange.of(pixels)
        given = options.compute_diameter_px(video)
        if given is None:
            planes = [prepare_plane(plane, self._range) for plane in pixels]
            given = estimate_diameter(maps, [each.pixels for each in planes if each is not None])
        self.diameter = given
        self._volume: VolumeObjects | None = None
        self._frames: ByteLimitedCache[int, FrameDetections] = ByteLimitedCache(
            lambda found: found.labels.nbytes + found.foreground.nbytes + found.sureness.nbytes,
            _CACHE_BYTES,
        )

    @property
    def lacks_depth(self) -> bool:
        """Whether this is a z-stack without a spacing in z or y."""
        spacing = self.video.spacing
        known = spacing.z_um is not None and spacing.y_um is not None
        return self.video.along == "z" and len(self.video) > 1 and not known

    def detect(self, frame: int) -> _Detecting:
        """The objects of a frame."""
        if frame not in self._frames:
            found = yield from self._segment_frame(frame)
            return self._frames.get_or_make(frame, lambda: found)
        return self._frames.get_or_make(frame, lambda: Steps(self._segment_frame(frame)).finish())

    def detect_volume(self) -> Generator[tuple[int, int], None, VolumeObjects | None]:
        """The objects of the volume; None if it is none, see `LearnedDetector.detect_volume`."""
        video, spacing = self.video, self.video.spacing
        if video.along != "z" or len(video) == 1 or self.lacks_depth or self.diameter is None:
            return None
        assert spacing.z_um is not None and spacing.y_um is not None
        ratio = spacing.z_um / spacing.y_um
        if self.diameter / ratio < _MIN_SLICES:
            return None
        if self._volume is None:
            self._volume = yield from segment_volume(
                self._maps,
                lambda frame: self.prepare(frame, alike=True),
                video.shape,
                depth_ratio=ratio,
                diameter=self.diameter,
            )
        return self._volume

    def compute_doubt(self) -> float:
        """See `LearnedDetector.compute_doubt`: of the volume, or of the frames of the sample."""
        if self.diameter is None:
            return 0.0
        if self._volume is not None:
            odd = self._volume.sureness < _MIN_SURENESS
            return float(odd.mean()) if len(odd) else 0.0
        doubtful, total = 0, 0
        for frame in self._samples:
            found = Steps(self.detect(frame)).finish()
            sizes = measure_diameters(found.labels)
            ratio = np.abs(np.log(np.maximum(sizes, 1) / self.diameter))
            sureness = found.sureness[: len(sizes)]
            doubtful += int(
                np.count_nonzero((sureness < _MIN_SURENESS) | (ratio > np.log(_MAX_SIZE_RATIO)))
            )
            total += len(sizes)
        return doubtful / total if total else 0.0

    def _segment_frame(self, frame: int) -> _Detecting:
        plane = None if self.diameter is None else self.prepare(frame)
        if plane is None or self.diameter is None:
            shape = self.video.shape[1:]
            empty = np.zeros(shape, np.int32), np.zeros(shape, np.uint8), np.zeros(0, np.float32)
            return FrameDetections(*empty)
        found = yield from segment_plane(self._maps, plane, self.diameter)
        if self._options.dark is None:
            return found
        return _keep_dark(found, plane.pixels, self._options.dark)

    def prepare(self, frame: int, *, alike: bool = False) -> PreparedPlane | None:
        """The plane of a frame; see `prepare_plane`."""
        return prepare_plane(self.video.read_frame(frame).pixels, self._range, alike=alike)


def _keep_dark(found: FrameDetections, pixels: np.ndarray, dark: bool) -> FrameDetections:
    """Only the objects that are darker (or brighter) than the background around them."""
    kept, labels = [], np.zeros_like(found.labels)
    for number, box in iterate_objects(found.labels):
        around = tuple(slice(max(0, side.start - _RING), side.stop + _RING) for side in box)
        mask = found.labels[around] == number
        ring = ndi.binary_dilation(mask, iterations=_RING) & (found.labels[around] == 0)
        if ring.any():
            inside, outside = pixels[around][mask].mean(), pixels[around][ring].mean()
            if (inside < outside) != dark:
                continue
        kept.append(number)
        labels[around][mask] = len(kept)
    sureness = found.sureness[np.array(kept, int) - 1]
    return FrameDetections(labels, found.foreground, sureness)
