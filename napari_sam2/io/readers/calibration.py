"""Calibration: the spacing, interval and channel names that TIFF metadata gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any
from xml.etree import ElementTree

from tifffile import TiffPage

from napari_sam2.core.stack import Spacing
from napari_sam2.io.units import convert_to_seconds, convert_to_um

_MAX_PIXEL_SIZE_UM = 10.0
"""A resolution coarser than this (2540 dpi) in a file that says nothing else is for a printer, not of a microscope."""

_RESOLUTION_UNITS = {2: "inch", 3: "cm"}  # TIFF 6.0, tag 296


def read_ome_calibration(xml: str) -> tuple[Spacing, tuple[str, ...]]:
    """Spacing and channel names of the first image of an OME-XML block.

    Units default as in the OME schema: µm and s.
    """
    pixels = ElementTree.fromstring(xml).find("{*}Image/{*}Pixels")
    if pixels is None:
        return Spacing(), ()
    lengths = {
        axis: convert_to_um(
            pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        )
        for axis in "ZYX"
    }
    interval = convert_to_seconds(
        pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")
    ) or _compute_plane_interval(pixels)
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    return Spacing(lengths["Z"], lengths["Y"], lengths["X"], interval), tuple(
        name for name in names if name
    ) if all(names) else ()


def _compute_plane_interval(pixels: ElementTree.Element) -> float | None:
    """The median time between frames, from the planes' own times (Bio-Formats writes these and no TimeIncrement)."""
    times = {}
    for plane in pixels.findall("{*}Plane"):
        delta = plane.get("DeltaT")
        if plane.get("TheZ") == "0" and plane.get("TheC") == "0" and delta is not None:
            times[int(plane.get("TheT", 0))] = float(delta) * (
                convert_to_seconds(1.0, plane.get("DeltaTUnit", "s")) or 0.0
            )
    steps = [
        (times[late] - times[early]) / (late - early) for early, late in pairwise(sorted(times))
    ]
    between = median(steps) if steps else 0.0
    return between if between > 0 else None


def read_imagej_spacing(metadata: Mapping[str, Any], page: TiffPage) -> Spacing:
    """Spacing of an ImageJ file (or of one that tifffile wrote with ImageJ's words): `unit`, `spacing`, `finterval`."""
    unit = metadata.get("unit")
    if unit is None or convert_to_um(1.0, unit) is None:
        flat = Spacing()
    else:
        x, y = _read_pixels_per_unit(page)
        y_um = convert_to_um(1 / y if y else None, metadata.get("yunit", unit))
        z_um = convert_to_um(metadata.get("spacing"), metadata.get("zunit", unit))
        flat = Spacing(z_um, y_um, convert_to_um(1 / x if x else None, unit))
    return replace(
        flat, t_s=convert_to_seconds(metadata.get("finterval"), metadata.get("tunit", "s"))
    )


def read_page_spacing(page: TiffPage) -> Spacing:
    """Spacing from the resolution tags alone; a printer's resolution (see `_MAX_PIXEL_SIZE_UM`) is not taken for one."""
    unit = _RESOLUTION_UNITS.get(int(page.resolutionunit))
    x, y = (convert_to_um(1 / n if n else None, unit) for n in _read_pixels_per_unit(page))
    return Spacing(y_um=y, x_um=x) if x and y and max(x, y) <= _MAX_PIXEL_SIZE_UM else Spacing()


def _read_pixels_per_unit(page: TiffPage) -> tuple[float, float]:
    if "XResolution" not in page.tags or "YResolution" not in page.tags:
        return 0.0, 0.0
    x, y = page.resolution
    return float(x), float(y)
