"""Calibration: spacing, interval and channel names from TIFF metadata."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any
from xml.etree import ElementTree

from tifffile import TiffPage

from napari_sam2.core.stack import Spacing
from napari_sam2.io.units import convert_to_seconds, convert_to_um

_MAX_PIXEL_SIZE_UM = 10.0
"""A coarser resolution than this (2540 dpi), without other metadata, is meant for printers."""

_RESOLUTION_UNITS = {2: "inch", 3: "cm"}  # TIFF 6.0, tag 296


def read_ome_calibration(xml: str, number: int = 0) -> tuple[Spacing, tuple[str, ...]]:
    """Spacing and channel names of an image in OME-XML, by its number.

    The default units are those of the OME schema: µm and s.
    """
    images = ElementTree.fromstring(xml).findall("{*}Image/{*}Pixels")
    if number >= len(images):
        return Spacing(), ()
    pixels = images[number]
    z_um, y_um, x_um = (
        convert_to_um(
            pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        )
        for axis in "ZYX"
    )
    interval_s = convert_to_seconds(
        pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")
    ) or _compute_plane_interval(pixels)
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    channels = tuple(name for name in names if name)
    return Spacing(z_um, y_um, x_um, interval_s), channels if len(channels) == len(names) else ()


def read_ome_times(xml: str, number: int = 0) -> tuple[float, ...]:
    """The time in s of each frame of an image in OME-XML; empty unless all are given."""
    images = ElementTree.fromstring(xml).findall("{*}Image/{*}Pixels")
    if number >= len(images):
        return ()
    times = _read_plane_times(images[number])
    n_frames = int(images[number].get("SizeT", 1))
    return tuple(times[frame] for frame in range(n_frames)) if len(times) == n_frames > 1 else ()


def _compute_plane_interval(pixels: ElementTree.Element) -> float | None:
    """The median time in s between frames, from the times of the planes; None if unknown.

    Bio-Formats writes these times and no TimeIncrement.
    """
    times = _read_plane_times(pixels)
    steps = [
        (times[late] - times[early]) / (late - early) for early, late in pairwise(sorted(times))
    ]
    interval_s = median(steps) if steps else 0.0
    return interval_s if interval_s > 0 else None


def _read_plane_times(pixels: ElementTree.Element) -> dict[int, float]:
    """The time in s by frame, of the first channel and the first slice."""
    times = {}
    for plane in pixels.findall("{*}Plane"):
        delta = plane.get("DeltaT")
        if plane.get("TheZ") == "0" and plane.get("TheC") == "0" and delta is not None:
            times[int(plane.get("TheT", 0))] = float(delta) * (
                convert_to_seconds(1.0, plane.get("DeltaTUnit", "s")) or 0.0
            )
    return times


def read_imagej_spacing(metadata: Mapping[str, Any], page: TiffPage) -> Spacing:
    """Spacing from the keys of ImageJ's metadata: `unit`, `spacing` and `finterval`."""
    interval_s = convert_to_seconds(metadata.get("finterval"), metadata.get("tunit", "s"))
    unit = metadata.get("unit")
    if unit is None or convert_to_um(1.0, unit) is None:
        return Spacing(t_s=interval_s)
    x, y = _read_pixels_per_unit(page)
    return Spacing(
        convert_to_um(metadata.get("spacing"), metadata.get("zunit", unit)),
        convert_to_um(1 / y if y else None, metadata.get("yunit", unit)),
        convert_to_um(1 / x if x else None, unit),
        interval_s,
    )


def read_page_spacing(page: TiffPage) -> Spacing:
    """Spacing from the resolution tags; empty if they are meant for printers."""
    unit = _RESOLUTION_UNITS.get(int(page.resolutionunit))
    x, y = (convert_to_um(1 / n if n else None, unit) for n in _read_pixels_per_unit(page))
    return Spacing(y_um=y, x_um=x) if x and y and max(x, y) <= _MAX_PIXEL_SIZE_UM else Spacing()


def _read_pixels_per_unit(page: TiffPage) -> tuple[float, float]:
    if "XResolution" not in page.tags or "YResolution" not in page.tags:
        return 0.0, 0.0
    x, y = page.resolution
    return float(x), float(y)
