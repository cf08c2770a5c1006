"""Sinks: where label planes go, by the name of the format."""

from __future__ import annotations

from pathlib import Path

from napari_sam2.core.errors import OutputError
from napari_sam2.core.protocols import Sink
from napari_sam2.core.registry import Registry
from napari_sam2.io.atomic import check_output
from napari_sam2.io.writers.label_spec import LabelSpec
from napari_sam2.io.writers.tiff_sink import OmeTiffSink
from napari_sam2.io.writers.zarr_sink import OmeZarrSink

__all__ = ["SINKS", "LabelSpec", "OmeTiffSink", "OmeZarrSink", "open_sink"]

SINKS: Registry[Sink] = Registry("sinks", OutputError)
"""Known formats; other packages add theirs under the entry point group ``napari_sam2.sinks``."""

SINKS.register("tiff", OmeTiffSink)
SINKS.register("zarr", OmeZarrSink)


def open_sink(folder: Path, spec: LabelSpec, *, format: str = "tiff") -> Sink:
    """A Sink in `folder`, which is made where it is not there; raises OutputError where nothing can be written."""
    sink = SINKS.get(format)(folder, spec)
    check_output(folder)
    return sink
