"""Sources by name."""

from __future__ import annotations

from napari_sam2.core.errors import PlanError
from napari_sam2.core.protocols import Detector
from napari_sam2.core.registry import Registry
from napari_sam2.detection.exemplars import ExemplarDetector
from napari_sam2.detection.grid import EverythingDetector, GridDetector
from napari_sam2.detection.label_images import LabelImageDetector
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.detection.seeds import BlobDetector, ClassicalDetector, PeakDetector

DETECTORS: Registry[Detector] = Registry("sources", PlanError)
"""Known sources, each made from `DetectionOptions`; other packages add theirs under the entry point group ``napari_sam2.detection``."""

AUTO = "auto"
DEFAULT = "bodies"
"""What "auto" is: see docs/accuracy.md for the figures that chose it."""

for _source in (
    ClassicalDetector,
    BlobDetector,
    PeakDetector,
    GridDetector,
    EverythingDetector,
    LabelImageDetector,
    ExemplarDetector,
):
    DETECTORS.register(_source.name, _source)


def open_detector(name: str, options: DetectionOptions | None = None) -> Detector:
    """The source of that name. Raises PlanError, listing the known ones, where there is none."""
    return DETECTORS.get(DEFAULT if name == AUTO else name)(options or DetectionOptions())
