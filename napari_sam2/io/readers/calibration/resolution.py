"""The resolution tags of TIFF."""

from __future__ import annotations

from tifffile import TiffPage

from napari_sam2.core.stack import Spacing
from napari_sam2.io.units import convert_to_um

_MAX_PIXEL_SIZE_UM = 10.0
"""A coarser resolution than this (2540 dpi), without other metadata, is meant for printers."""

_RESOLUTION_UNITS = {2: "inch", 3: "cm"}  # TIFF 6.0, tag 296


def read_page_spacing(page: TiffPage) -> Spacing:
    """Spacing from the resolution tags; empty if they are meant for printers."""
    y, x = read_page_sizes(page)
    return Spacing(y_um=y, x_um=x) if x and y and max(x, y) <= _MAX_PIXEL_SIZE_UM else Spacing()


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
