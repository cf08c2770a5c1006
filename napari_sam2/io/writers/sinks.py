"""Sinks: writers of label planes, by the name of the format."""

from __future__ import annotations

from pathlib import Path

from napari_sam2.core.errors import OutputError
from napari_sam2.core.protocols import Sink
from napari_sam2.core.registry import Registry
from napari_sam2.io.output_folder import check_output
from napari_sam2.io.writers.label_spec import LabelSpec
from napari_sam2.io.writers.tiff_sink import OmeTiffSink
from napari_sam2.io.writers.zarr_sink import OmeZarrSink

__all__ = ["SINKS", "LabelSpec", "OmeTiffSink", "OmeZarrSink", "open_sink"]

SINKS: Registry[Sink] = Registry("sinks", OutputError)
"""Sinks by format; other packages add theirs in the entry point group ``napari_sam2.sinks``."""

SINKS.register("tiff", OmeTiffSink)
SINKS.register("zarr", OmeZarrSink)


def open_sink(folder: Path, spec: LabelSpec, *, format: str = "tiff") -> Sink:
    """Open a sink in `folder`, which is created if it does not exist.

    Raises OutputError if the format is unknown or the folder is not writable.
    """
    sink = SINKS.get(format)(folder, spec)
    check_output(folder)
    return sink
