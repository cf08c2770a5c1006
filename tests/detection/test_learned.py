"""The learned detector with the embedded weights: scenes, bad input, volumes, doubt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import IntensityError, PlanError
from napari_sam2.core.protocols import (
    Detector,
    ExplainingDetector,
    ObjectEvidence,
    SteppedDetector,
    VolumeDetector,
)
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.detection.evidence import VideoEvidence
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.maps.planes import Steps
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.detection.sized import SizedDetector
from napari_sam2.models.load import load_detector
from napari_sam2.testing.contracts import DetectorContract
from napari_sam2.testing.scenes import Scene, make_ellipsoid_scene

RNG = np.random.default_rng(3)
SIDE = 192
Y, X = np.mgrid[:SIDE, :SIDE]


def make_detector(**options: object) -> LearnedDetector:
    """The detector with the embedded weights."""
    return LearnedDetector(DetectionOptions(maps=load_detector(), **options))  # type: ignore[arg-type]


def make_video(image: np.ndarray, axes: str = "tyx", spacing: Spacing | None = None) -> Video:
    """A video of planes of any intensities; constant ones too."""
    planes = image[None] if image.ndim == 2 else image
    stack = Stack(planes.astype(np.float32), axes, spacing or Spacing())
    try:
        return Video.of(stack)
    except IntensityError:
        return Video.of(stack, contrast=Contrast(float(planes.min()), float(planes.min()) + 1))


def draw_cells(seed: int = 0, radius: float = 9, count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(Y, X) image of bright discs that do not touch, on noise, and its labels."""
    rng = np.random.default_rng(seed)
    image, labels = np.full((SIDE, SIDE), 40.0), np.zeros((SIDE, SIDE), int)
    places: list[np.ndarray] = []
    while len(places) < count:
        place = rng.uniform(radius + 2, SIDE - radius - 2, 2)
        if all(np.hypot(*(place - other)) > 2 * radius + 5 for other in places):
            places.append(place)
            disc = (Y - place[0]) ** 2 + (X - place[1]) ** 2 <= radius**2
            image[disc], labels[disc] = 120 * rng.uniform(0.7, 1.2), len(places)
    return gaussian_filter(image, 1.2) + rng.normal(0, 5, image.shape), labels


def count_objects(image: np.ndarray, **options: object) -> int:
    """How many objects there are on a plane."""
    return len(make_detector(**options).get_frame(make_video(image), 0).sureness)


class TestContract(DetectorContract):
    """The contract of detectors."""

    def make_detector(self, scene: Scene) -> Detector:
        return make_detector()


def test_it_is_a_detector_of_all_kinds() -> None:
    detector = make_detector()
    for kind in (SizedDetector, VolumeDetector, SteppedDetector, ExplainingDetector):
        assert isinstance(detector, kind)
    with pytest.raises(PlanError, match="needs a network"):
        LearnedDetector()


NOTHING: dict[str, np.ndarray] = {
    "zeros": np.zeros((SIDE, SIDE)),
    "constant": np.full((SIDE, SIDE), 7.0),
    "normal noise": RNG.normal(100, 10, (SIDE, SIDE)),
    "noise of 8 bit": RNG.normal(3, 1, (SIDE, SIDE)).clip(0, 255).astype(np.uint8),
    "noise of a counter": RNG.poisson(3, (SIDE, SIDE)),
    "uniform noise": RNG.random((SIDE, SIDE)),
    "a slope": np.tile(np.linspace(0, 1, SIDE), (SIDE, 1)),
    "a slope with noise": np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))
    + RNG.normal(0, 0.01, (SIDE, SIDE)),
    "one pixel high": RNG.random((1, SIDE)),
    "one pixel wide": RNG.random((SIDE, 1)),
    "one pixel": np.ones((1, 1)),
    "three pixels": RNG.random((3, 3)),
}


@pytest.mark.parametrize("name", NOTHING)
def test_no_object_is_invented(name: str) -> None:
    assert count_objects(NOTHING[name]) == 0


def _cut_round(image: np.ndarray) -> np.ndarray:
    return np.where((Y - 96) ** 2 + (X - 96) ** 2 > 88**2, 0, image)


def _break_lines(image: np.ndarray) -> np.ndarray:
    broken = image.copy()
    broken[:, 100], broken[60] = 0, 255
    return broken


SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nothing": lambda image: image,
    "a round aperture": _cut_round,
    "padding at a side": lambda image: np.where(X < 30, 0, image),
    "padding of white": lambda image: np.where(Y > 160, 255, image),
    "a dead column and a hot row": _break_lines,
    "a slope": lambda image: image + 200 * X / SIDE,
    "a slope of the other side": lambda image: image - 200 * Y / SIDE,
    "a bowl": lambda image: image + 100 * ((Y - 96) ** 2 + (X - 96) ** 2) / 96**2,
    "a hot pixel": lambda image: np.where((Y == 5) & (X == 5), 65000, image),
    "dark objects": lambda image: 255 - image,
}


@pytest.mark.parametrize("name", SPOILT)
def test_cells_are_counted_in_spoilt_images(name: str) -> None:
    image, labels = draw_cells()
    changed = SPOILT[name](image)
    shown = np.bincount(labels[(changed != 0) & (changed != 255)], minlength=13)[1:]
    whole = np.bincount(labels.ravel())[1:]
    found = count_objects(changed)
    assert np.count_nonzero(shown > 0.9 * whole) <= found <= np.count_nonzero(shown > 0)


@pytest.mark.parametrize("radius", [40, 60, 85])
def test_one_object_that_fills_the_frame_is_one(radius: int) -> None:
    disc = 100.0 * (radius**2 > (Y - 96) ** 2 + (X - 96) ** 2)
    assert count_objects(gaussian_filter(disc, 2) + RNG.normal(20, 5, disc.shape)) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(value: float) -> None:
    image, _ = draw_cells()
    image[3, 3] = value
    with pytest.raises(IntensityError):
        count_objects(image)


def test_bright_or_dark_objects_only() -> None:
    image, _ = draw_cells()
    assert count_objects(image, dark=False) == 12
    assert count_objects(image, dark=True) == 0


def test_a_given_size_wins() -> None:
    video = make_video(draw_cells()[0], spacing=Spacing(None, 0.5, 0.5))
    for options in ({"diameter_px": 30.0}, {"diameter_um": 15.0}):
        scale = make_detector(**options).get_scale(video)
        assert scale is not None and scale.diameter_px == 30.0


def test_the_size_is_found_on_all_frames_together() -> None:
    frames = np.stack([RNG.normal(40, 5, (SIDE, SIDE)), *(draw_cells(n)[0] for n in range(3))])
    scale = make_detector().get_scale(make_video(frames))
    assert scale is not None and scale.diameter_px == pytest.approx(19, rel=0.25)


def test_balls_of_a_stack_are_volumes_where_the_spacing_is_known() -> None:
    scene = make_ellipsoid_scene()
    planes = make_detector().detect_volume(scene.video)
    assert planes is not None
    labels = np.stack([planes(frame) for frame in range(len(scene.video))])
    assert len(np.unique(labels)) - 1 == len(scene.tracks)


def test_without_spacing_slices_are_linked_and_that_is_said() -> None:
    scene = make_ellipsoid_scene()
    video = Video.of(replace(scene.stack, spacing=Spacing()), along="z")
    detector = make_detector()
    assert detector.detect_volume(video) is None
    assert any("spacing in z not known" in note for note in detector.get_notes(video))
    assert not any("spacing" in note for note in detector.get_notes(scene.video))


def test_a_time_lapse_is_no_volume() -> None:
    assert make_detector().detect_volume(make_video(draw_cells()[0])) is None


def test_evidence_is_the_same_for_the_same_frame() -> None:
    image, labels = draw_cells()
    evidence: ObjectEvidence = VideoEvidence(make_detector(), make_video(image))
    first, again = evidence.get_frame(0), evidence.get_frame(0)
    assert first is again and evidence.name.startswith("learned ")
    assert first.labels.dtype == np.int32 and first.foreground.dtype == np.uint8
    assert first.labels.max() == len(first.sureness) == 12
    assert first.foreground[labels > 0].mean() > 200 > 20 > first.foreground[labels == 0].mean()


def test_doubt_is_said_where_objects_are_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    detector, video = make_detector(), make_video(draw_cells()[0])
    assert detector.compute_doubt(video) < 0.3
    assert not any("DOUBTFUL" in note for note in detector.get_notes(video))
    monkeypatch.setattr(detector, "compute_doubt", lambda _: 0.8)
    (sentence,) = [note for note in detector.get_notes(video) if "DOUBTFUL" in note]
    assert "fine-tune" in sentence and "another detector" in sentence


def test_steps_end_in_what_detect_gives() -> None:
    detector, video = make_detector(), make_video(draw_cells()[0])
    steps = Steps(detector.detect_in_steps(video, 0))
    assert list(steps)
    assert len(steps.result) == len(detector.detect(video, 0)) == 12
