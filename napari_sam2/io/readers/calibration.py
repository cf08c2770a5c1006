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
from napari_sam2.io.units import length_um, time_s

_PRINT_UM = 10.0
"""A resolution coarser than this (2540 dpi) in a file that says nothing else is for a printer, not of a microscope."""

_RESOLUTION_UNITS = {2: "inch", 3: "cm"}  # TIFF 6.0, tag 296


def of_ome(xml: str) -> tuple[Spacing, tuple[str, ...]]:
    """Spacing and channel names of the first image of an OME-XML block.

    Units default as in the OME schema: µm and s.
    """
    pixels = ElementTree.fromstring(xml).find("{*}Image/{*}Pixels")
    if pixels is None:
        return Spacing(), ()
    lengths = {
        axis: length_um(
            pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        )
        for axis in "ZYX"
    }
    interval = time_s(
        pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")
    ) or _interval_of_planes(pixels)
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    return Spacing(lengths["Z"], lengths["Y"], lengths["X"], interval), tuple(
        name for name in names if name
    ) if all(names) else ()


def _interval_of_planes(pixels: ElementTree.Element) -> float | None:
    """The median time between frames, from the planes' own times (Bio-Formats writes these and no TimeIncrement)."""
    times = {}
    for plane in pixels.findall("{*}Plane"):
        delta = plane.get("DeltaT")
        if plane.get("TheZ") == "0" and plane.get("TheC") == "0" and delta is not None:
            times[int(plane.get("TheT", 0))] = float(delta) * (
                time_s(1.0, plane.get("DeltaTUnit", "s")) or 0.0
            )
    steps = [
        (times[late] - times[early]) / (late - early) for early, late in pairwise(sorted(times))
    ]
    between = median(steps) if steps else 0.0
    return between if between > 0 else None


def of_imagej(metadata: Mapping[str, Any], page: TiffPage) -> Spacing:
    """Spacing of an ImageJ file (or of one that tifffile wrote with ImageJ's words): `unit`, `spacing`, `finterval`."""
    unit = metadata.get("unit")
    if unit is None or length_um(1.0, unit) is None:
        flat = Spacing()
    else:
        x, y = _pixels_per_unit(page)
        y_um = length_um(1 / y if y else None, metadata.get("yunit", unit))
        z_um = length_um(metadata.get("spacing"), metadata.get("zunit", unit))
        flat = Spacing(z_um, y_um, length_um(1 / x if x else None, unit))
    return replace(flat, t_s=time_s(metadata.get("finterval"), metadata.get("tunit", "s")))


def of_page(page: TiffPage) -> Spacing:
    """Spacing from the resolution tags alone; a printer's resolution (see `_PRINT_UM`) is not taken for one."""
    unit = _RESOLUTION_UNITS.get(int(page.resolutionunit))
    x, y = (length_um(1 / n if n else None, unit) for n in _pixels_per_unit(page))
    return Spacing(y_um=y, x_um=x) if x and y and max(x, y) <= _PRINT_UM else Spacing()


def _pixels_per_unit(page: TiffPage) -> tuple[float, float]:
    if "XResolution" not in page.tags or "YResolution" not in page.tags:
        return 0.0, 0.0
    x, y = page.resolution
    return float(x), float(y)
