"""Sources by name."""

from __future__ import annotations

from napari_sam2.core.errors import PlanError
from napari_sam2.core.protocols import PromptSource
from napari_sam2.core.registry import Registry
from napari_sam2.detection.exemplars import Examples
from napari_sam2.detection.grid import Everything, Grid
from napari_sam2.detection.label_images import Labels
from napari_sam2.detection.options import Hints
from napari_sam2.detection.seeds import Blobs, Bodies, Peaks

SOURCES: Registry[PromptSource] = Registry("sources", PlanError)
"""Known sources, each made from `Hints`; other packages add theirs under the entry point group ``napari_sam2.detection``."""

AUTO = "auto"
DEFAULT = "bodies"
"""What "auto" is: see docs/accuracy.md for the figures that chose it."""

for _source in (Bodies, Blobs, Peaks, Grid, Everything, Labels, Examples):
    SOURCES.register(_source.name, _source)


def open_source(name: str, hints: Hints | None = None) -> PromptSource:
    """The source of that name. Raises PlanError, listing the known ones, where there is none."""
    return SOURCES.get(DEFAULT if name == AUTO else name)(hints or Hints())
