"""OME-XML: the image that belongs to a series, its calibration, and the files it names."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from statistics import median
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.calibration.calibration import Calibration
from napari_sam2.io.readers.files import check_inside_folder
from napari_sam2.io.readers.lazy import MAX_PLANES
from napari_sam2.io.units import convert_to_seconds, convert_to_um


def find_pixels(xml: str, path: Path, n_series: int) -> list[Element | None]:
    """The ``Pixels`` of the images that a reader of this file finds, in order.

    The XML of a set of files speaks of all its images; those whose files are missing are not read.
    Returns None for each of the `n_series` if it is not known which images they are.
    """
    root = ElementTree.fromstring(xml)
    images = root.findall("{*}Image/{*}Pixels")
    if len(images) == n_series:
        return list(images)
    readable = [pixels for pixels in images if has_data(pixels, root.get("UUID"), path)]
    return list(readable) if len(readable) == n_series else [None] * n_series


def has_data(pixels: Element, uuid_of_file: str | None, path: Path) -> bool:
    """Whether a plane of an image is in this file or in one beside it."""
    for data in pixels.findall("{*}TiffData"):
        uuid = data.find("{*}UUID")
        if uuid is None or uuid.text == uuid_of_file:
            return True
        name = uuid.get("FileName", "")
        if name.lower() == path.name.lower() or (path.parent / name).is_file():
            return True
    return False


def check_ome(xml: str, path: Path, n_pages: int) -> None:
    """Check what OME-XML declares, before a reader takes memory for it or opens other files.

    Raises FileError if it declares impossible sizes, or names a file outside of its folder.
    """
    root = ElementTree.fromstring(xml)
    for uuid in root.findall(".//{*}UUID"):
        check_inside_folder(path, uuid.get("FileName", ""))
    for pixels in root.findall("{*}Image/{*}Pixels"):
        sizes = [int(pixels.get(f"Size{axis}") or 1) for axis in "TCZYX"]
        if min(sizes) < 1:
            raise FileError(f"{path}: declares the sizes TCZYX {sizes}: expected numbers above 0")
        numbers = [
            int(data.get(name) or 0)
            for data in pixels.findall("{*}TiffData")
            for name in ("FirstT", "FirstC", "FirstZ", "IFD", "PlaneCount", "NumPlanes")
        ]
        n_planes = max([math.prod(sizes[:3]), *numbers])
        if n_planes > max(MAX_PLANES, n_pages):
            raise FileError(
                f"{path}: declares {n_planes} planes and has {n_pages}: its metadata are damaged; "
                "export it again"
            )


def read_ome_calibration(pixels: Element) -> Calibration:
    """The calibration of an image in OME-XML, from its ``Pixels``.

    The default units are those of the OME schema: µm and s.
    """
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
    bits = pixels.get("SignificantBits", "")
    return Calibration(
        Spacing(z_um, y_um, x_um, interval_s),
        channels if len(channels) == len(names) else (),
        _read_times(pixels),
        int(bits) if bits.isdecimal() and int(bits) else None,
    )


def _read_times(pixels: Element) -> tuple[float, ...]:
    """The time in s of each frame of an image; empty unless all are given."""
    times = _read_plane_times(pixels)
    n_frames = int(pixels.get("SizeT", 1))
    return tuple(times[frame] for frame in range(n_frames)) if len(times) == n_frames > 1 else ()


def _compute_plane_interval(pixels: Element) -> float | None:
    """The median time in s between frames, from the times of the planes; None if unknown.

    Bio-Formats writes these times and no TimeIncrement.
    """
    times = _read_plane_times(pixels)
    steps = [
        (times[late] - times[early]) / (late - early) for early, late in pairwise(sorted(times))
    ]
    interval_s = median(steps) if steps else 0.0
    return interval_s if interval_s > 0 else None


def _read_plane_times(pixels: Element) -> dict[int, float]:
    """The time in s by frame, of the first channel and the first slice."""
    times = {}
    for plane in pixels.findall("{*}Plane"):
        delta = plane.get("DeltaT")
        if plane.get("TheZ") == "0" and plane.get("TheC") == "0" and delta is not None:
            times[int(plane.get("TheT", 0))] = float(delta) * (
                convert_to_seconds(1.0, plane.get("DeltaTUnit", "s")) or 0.0
            )
    return times
