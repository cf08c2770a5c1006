"""The resolution tags of TIFF."""

from __future__ import annotations

from dataclasses import replace

from tifffile import TiffPage

from napari_sam2.core.stack import Spacing
from napari_sam2.io.units import convert_to_um

_MAX_PIXEL_SIZE_UM = 10.0
"""A coarser resolution than this (2540 dpi), without other metadata, is meant for printers."""

_PRINTER_DPI = (72, 96, 100, 150, 200, 300, 600)
_DPI_TOLERANCE = 1e-4  # relative
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}  # TIFF 6.0, tag 296


def read_page_spacing(page: TiffPage) -> Spacing:
    """Spacing from the resolution tags; empty if they are meant for printers."""
    y, x = read_page_sizes(page)
    return Spacing(y_um=y, x_um=x) if x and y and max(x, y) <= _MAX_PIXEL_SIZE_UM else Spacing()


def doubt_printer_size(spacing: Spacing) -> tuple[Spacing, tuple[str, ...]]:
    """The spacing without a pixel size that is a printer's resolution, and a note about it.

    Programs that convert images take the 72 dpi of a TIFF for its calibration.
    """
    for dpi in _PRINTER_DPI:
        size_um = 25_400 / dpi
        sizes = (spacing.y_um, spacing.x_um)
        if all(size is not None and abs(size / size_um - 1) < _DPI_TOLERANCE for size in sizes):
            note = f"says a pixel of {size_um:.4g} µm, {dpi} dpi of a printer: not used"
            return replace(spacing, y_um=None, x_um=None), (f"{note}; give --spacing",)
    return spacing, ()


def read_page_sizes(page: TiffPage) -> tuple[float | None, float | None]:
    """The (y, x) size of a pixel in µm by the tags; None if they name no unit."""
    unit = _RESOLUTION_UNITS.get(int(page.resolutionunit))
    x, y = (convert_to_um(1 / n if n else None, unit) for n in read_pixels_per_unit(page))
    return y, x


def read_pixels_per_unit(page: TiffPage) -> tuple[float, float]:
    """The (x, y) values of the tags; 0 if they are missing."""
    if "XResolution" not in page.tags or "YResolution" not in page.tags:
        return 0.0, 0.0
    x, y = page.resolution
    return float(x), float(y)
