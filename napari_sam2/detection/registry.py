"""Detectors by name."""

from __future__ import annotations

from napari_sam2.core.errors import PlanError
from napari_sam2.core.protocols import Detector
from napari_sam2.core.registry import Registry
from napari_sam2.detection.classical import BlobDetector, ClassicalDetector, PeakDetector
from napari_sam2.detection.exemplars import ExemplarDetector
from napari_sam2.detection.grid import EverythingDetector, GridDetector
from napari_sam2.detection.label_images import LabelImageDetector
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.options import DetectionOptions

DETECTORS: Registry[Detector] = Registry(
    "detectors", PlanError, old_kind="sources", old_names={"bodies": "classical"}
)
"""Known detectors, each made from `DetectionOptions`.

Other packages add theirs in the entry point group ``napari_sam2.detectors``.
"""

AUTO = "auto"
DEFAULT = LearnedDetector.name
"""The detector that "auto" stands for; docs/accuracy.md has the figures that chose it."""

for _detector in (
    LearnedDetector,
    ClassicalDetector,
    BlobDetector,
    PeakDetector,
    GridDetector,
    EverythingDetector,
    LabelImageDetector,
    ExemplarDetector,
):
    DETECTORS.register(_detector.name, _detector)


def resolve_detector(name: str) -> str:
    """The name of a detector; that of the default one for "auto"."""
    return DEFAULT if name == AUTO else name


def open_detector(name: str, options: DetectionOptions | None = None) -> Detector:
    """Detector of that name. Raises PlanError, which lists the known ones, if there is none."""
    return DETECTORS.get(resolve_detector(name))(options or DetectionOptions())
