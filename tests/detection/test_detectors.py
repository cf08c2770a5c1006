"""All detectors fulfil the contract; the other tests are about single ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_sam2.api.samples import SAMPLES
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import LabelsError, PlanError, PromptError, SpacingError
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt
from napari_sam2.core.protocols import Detector, VolumeDetector
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.detection.classical import BlobDetector, ClassicalDetector, PeakDetector
from napari_sam2.detection.exemplars import ExemplarDetector
from napari_sam2.detection.grid import (
    CandidateMask,
    EverythingDetector,
    GridDetector,
    compute_stability,
    make_lattice,
    remove_duplicates,
)
from napari_sam2.detection.label_images import LabelImageDetector
from napari_sam2.detection.object_scale import estimate_scale, is_dark
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.detection.prompts import make_label_prompts
from napari_sam2.detection.registry import DETECTORS, open_detector
from napari_sam2.detection.watershed import segment_objects
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.models.load import load_model
from napari_sam2.testing.contracts import DetectorContract
from napari_sam2.testing.scenes import Scene, make_drifting_scene, make_ellipsoid_scene
from napari_sam2.testing.toy import ToyModel


class TestClassical(DetectorContract):
    def make_detector(self, scene: Scene) -> Detector:
        return ClassicalDetector()


class TestClassicalBoxes(DetectorContract):
    def make_detector(self, scene: Scene) -> Detector:
        return ClassicalDetector(DetectionOptions(kind="box"))


class TestBlobs(DetectorContract):
    def make_detector(self, scene: Scene) -> Detector:
        return BlobDetector()


class TestPeaks(DetectorContract):
    def make_detector(self, scene: Scene) -> Detector:
        return PeakDetector()


class TestLabels(DetectorContract):
    def make_detector(self, scene: Scene) -> Detector:
        return LabelImageDetector(DetectionOptions(labels=scene.labels))


class TestGrid(DetectorContract):
    def make_detector(self, scene: Scene) -> Detector:
        return GridDetector(DetectionOptions(model=ToyModel()))


class TestEverything(DetectorContract):
    def make_detector(self, scene: Scene) -> Detector:
        return EverythingDetector(DetectionOptions(model=ToyModel(), kind="point"))


class TestExamples(DetectorContract):
    def make_detector(self, scene: Scene) -> Detector:
        shown = scene.tracks[0] if scene.tracks else 0
        example = scene.make_click(shown, 0) if shown else PointPrompt(0, 1, [(30.0, 30.0)], [True])
        return ExemplarDetector(DetectionOptions(model=ToyModel(), examples=(example,)))


def discs(
    radii: list[int], *, level: float = 0.8, ground: float = 0.1, noise: float = 0.02
) -> np.ndarray:
    y, x = np.mgrid[:120, : 120 * len(radii)]
    plane = np.full(y.shape, ground)
    for number, radius in enumerate(radii):
        plane[(y - 60) ** 2 + (x - 60 - 120 * number) ** 2 <= radius**2] = level
    return (
        (plane + np.random.default_rng(0).normal(0, noise, plane.shape))
        .clip(0, 1)
        .astype(np.float32)
    )


@pytest.mark.parametrize("radius", [6, 12, 24])
@pytest.mark.parametrize("dark", [False, True], ids=["bright", "dark"])
def test_size_and_darkness_are_estimated_from_the_image(radius, dark):
    plane = discs([radius] * 3)
    scale = estimate_scale(1 - plane if dark else plane)
    assert scale is not None
    assert scale.dark is dark is is_dark(1 - plane if dark else plane)
    assert 0.7 * 2 * radius <= scale.diameter_px <= 1.5 * 2 * radius


@pytest.mark.parametrize("diameter", [20.0, 30.0], ids=["too small a size", "too large a size"])
def test_disc_is_one_object_with_a_wrong_diameter(diameter):
    labels = segment_objects(discs([13] * 2), (diameter, diameter))
    assert sorted(np.unique(labels).tolist()) == [0, 1, 2]
    assert np.abs(np.bincount(labels.ravel())[1:] / (np.pi * 13**2) - 1).max() < 0.15


def test_touching_discs_are_two_objects():
    y, x = np.mgrid[:80, :120]
    plane = (
        ((y - 40) ** 2 + (x - 45) ** 2 <= 225) | ((y - 40) ** 2 + (x - 75) ** 2 <= 225)
    ).astype(np.float32)
    assert segment_objects(plane, (30.0, 30.0)).max() == 2


@pytest.mark.parametrize(
    ("middles", "half_axes", "count"),
    [([32], (9, 9, 20), 1), ([24, 40], (9, 9, 9), 2)],
    ids=["one that is longer than wide", "two balls that touch"],
)
def test_fading_volume_is_split_only_at_a_gap(middles, half_axes, count):
    z, y, x = np.mgrid[:32, :40, :64]
    offsets = [
        [(z - 16) / half_axes[0], (y - 20) / half_axes[1], (x - middle) / half_axes[2]]
        for middle in middles
    ]
    inside = np.any([sum(each**2 for each in offset) <= 1 for offset in offsets], axis=0)
    volume = gaussian_filter(inside.astype(np.float32), (3, 1, 1)) + np.random.default_rng(
        0
    ).normal(0, 0.01, inside.shape)
    assert segment_objects(volume.astype(np.float32), (18.0, 18.0, 18.0)).max() == count


def test_each_nucleus_of_the_sample_is_one_object():
    sample = SAMPLES[0]
    video, truth = (
        open_stack(sample.image).as_video("z"),
        np.asarray(open_labels(sample.truth).data),
    )
    planes = ClassicalDetector().detect_volume(video)
    found = np.stack([planes(frame) for frame in range(len(video))])
    nuclei = np.unique(truth[truth > 0])
    mine = [
        int(np.bincount(found[(truth == nucleus) & (found > 0)]).argmax()) for nucleus in nuclei
    ]
    assert len(set(mine)) == len(nuclei) == len(np.unique(found[found > 0]))


def test_dim_object_beside_a_bright_one_is_found():
    plane = discs([12, 12], noise=0.01)
    plane[:, 120:] *= 0.4
    assert segment_objects(plane, (24.0, 24.0)).max() == 2


@pytest.mark.parametrize("kind", ["mask", "box", "point"])
def test_detections_become_the_requested_prompts(kind):
    scene = make_drifting_scene(count=2, frames=2, shape=(96, 96))
    prompts = LabelImageDetector(DetectionOptions(labels=scene.labels, kind=kind)).detect(
        scene.video, 0
    )
    assert [type(prompt) for prompt in prompts] == [
        {"mask": MaskPrompt, "box": BoxPrompt, "point": PointPrompt}[kind]
    ] * 2


def test_labels_with_holes_parts_and_large_numbers_stay_as_they_are():
    plane = np.zeros((40, 60), np.uint32)
    plane[5:15, 5:15] = 70_000
    plane[8:11, 8:11] = 0
    plane[20:25, 5:10] = plane[20:25, 30:35] = 4_294_967_295
    prompts = make_label_prompts(plane, 0, "mask", 1, None)
    assert [int(prompt.mask.sum()) for prompt in prompts] == [91, 50]
    assert [prompt.track for prompt in prompts] == [1, 2]


def test_labels_are_identities_only_if_they_stay_the_same():
    scene = make_drifting_scene(count=4, frames=4, shape=(96, 96), speed=1.0)
    video = scene.video
    assert (
        LabelImageDetector(DetectionOptions(labels=scene.labels)).detect_volume(video) is not None
    )
    shuffled = np.stack(
        [np.where(plane, (plane + frame) % 4 + 1, 0) for frame, plane in enumerate(scene.labels)]
    ).astype(np.uint16)
    assert LabelImageDetector(DetectionOptions(labels=shuffled)).detect_volume(video) is None


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros((3, 9, 9), np.uint8), "expected whole numbers"),
        (np.zeros((4, 96, 96)), "float64"),
        (np.full((4, 96, 96), -1), "from -1"),
    ],
    ids=["shape", "floats", "negative"],
)
def test_labels_that_do_not_fit_are_an_error(labels, says):
    video = make_drifting_scene(count=4, frames=4, shape=(96, 96)).video
    with pytest.raises(LabelsError, match=says):
        LabelImageDetector(DetectionOptions(labels=labels)).detect(video, 0)


def test_z_stack_is_segmented_as_a_volume():
    scene = make_ellipsoid_scene(slices=20, shape=(128, 128))
    detector = ClassicalDetector()
    assert isinstance(detector, VolumeDetector)
    planes = detector.detect_volume(scene.video)
    found = np.stack([planes(frame) for frame in range(len(scene.video))])
    assert len(np.unique(found)) == 3
    for track in scene.tracks:
        ours = np.bincount(found[scene.labels == track]).argmax()
        shared = ((found == ours) & (scene.labels == track)).sum()
        assert ours > 0 and shared / ((found == ours) | (scene.labels == track)).sum() > 0.8


def test_time_lapse_is_no_volume():
    assert ClassicalDetector().detect_volume(make_drifting_scene().video) is None


def test_diameter_in_um_needs_a_spacing():
    pixels = np.random.default_rng(0).integers(0, 9, (1, 64, 64)).astype(np.uint8)
    known = Video.of(Stack(pixels, "tyx", Spacing(y_um=0.5, x_um=0.5)), contrast=Contrast(0, 9))
    assert DetectionOptions(diameter_um=10.0).estimate_scale(known).diameter_px == 20.0
    with pytest.raises(SpacingError, match="µm per pixel"):
        DetectionOptions(diameter_um=10.0).estimate_scale(
            Video.of(Stack(pixels, "tyx"), contrast=Contrast(0, 9))
        )


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: DetectionOptions(diameter_px=3, diameter_um=3), PlanError, "one of them"),
        (lambda: DetectionOptions(diameter_px=-1), PlanError, "above 0"),
        (GridDetector, PlanError, "needs a model"),
        (LabelImageDetector, LabelsError, "without labels"),
        (lambda: ExemplarDetector(DetectionOptions(model=ToyModel())), PromptError, "click some"),
        (lambda: open_detector("magic"), PlanError, "expected one of .*classical"),
    ],
    ids=[
        "two sizes",
        "negative size",
        "grid without model",
        "labels without labels",
        "no examples",
        "unknown name",
    ],
)
def test_impossible_options_are_an_error(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_all_detectors_are_known_by_name():
    assert list(DETECTORS) == [
        "blobs",
        "classical",
        "everything",
        "examples",
        "grid",
        "labels",
        "learned",
        "peaks",
    ]


def test_the_former_name_of_the_classical_detector_is_accepted():
    assert isinstance(open_detector("bodies"), ClassicalDetector)


def test_examples_leave_out_what_looks_different():
    scene = make_drifting_scene(count=4, frames=2, shape=(128, 128))
    data = scene.stack.data.copy()
    y, x = np.mgrid[:128, :128]
    data[:, (y - 64) ** 2 + (x - 64) ** 2 <= 16] = 50_000  # a speck of the same grey
    video = Video.of(Stack(data, "tyx", scene.stack.spacing))
    prompts = ExemplarDetector(
        DetectionOptions(model=ToyModel(), examples=(scene.make_click(1, 0),), kind="mask")
    ).detect(video, 0)
    assert len(prompts) == 4
    assert not any(prompt.mask[64, 64] for prompt in prompts)


def test_lattice_covers_the_frame_evenly():
    places = make_lattice((40, 60), 20.0)
    assert places.tolist() == [
        [9.5, 9.5],
        [9.5, 29.5],
        [9.5, 49.5],
        [29.5, 9.5],
        [29.5, 29.5],
        [29.5, 49.5],
    ]


def test_the_better_of_two_duplicates_stays():
    square, part = np.ones((10, 10), bool), np.ones((4, 4), bool)
    good, worse = (
        CandidateMask(square, (5, 5), 0.95, (9, 9)),
        CandidateMask(square, (6, 5), 0.9, (9, 9)),
    )
    inside, elsewhere = (
        CandidateMask(part, (7, 7), 0.85, (9, 9)),
        CandidateMask(part, (30, 30), 0.5, (31, 31)),
    )
    assert remove_duplicates([elsewhere, inside, worse, good], (50, 50)) == [good, elsewhere]


def test_stability_is_the_iou_of_the_mask_with_its_edge_moved():
    logits = np.full((10, 10), -5.0)
    logits[2:8, 2:8] = 0.5
    logits[4:6, 4:6] = 5.0
    assert compute_stability(logits) == 4 / 36
    assert compute_stability(np.full((4, 4), -9.0)) == 0.0


@pytest.mark.parametrize("detector", ["grid", "examples"])
def test_the_embedded_model_detects_nuclei_in_place(detector: str) -> None:
    """Each prompt has a window of its own, and its mask lies there, not in the whole frame."""
    sample = SAMPLES[1]
    video, truth = (
        open_stack(sample.image).as_video("t"),
        open_labels(sample.truth).read_plane({"t": 10}),
    )
    nuclei = [truth == label for label in np.unique(truth) if label]
    example = MaskPrompt(10, 1, nuclei[0])
    hints = DetectionOptions(
        model=load_model("nano", device="cpu"),
        examples=(example,) if detector == "examples" else (),
    )
    found = [
        prompt.mask
        for prompt in open_detector(detector, hints).detect(video, 10)
        if isinstance(prompt, MaskPrompt)
    ]
    ious = [
        max((mask & nucleus).sum() / (mask | nucleus).sum() for mask in found) for nucleus in nuclei
    ]
    assert np.mean(np.array(ious) > 0.5) > 0.6, ious
