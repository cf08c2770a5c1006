"""Calibration of TIFF dialects of microscopes, in tags of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tifffile import TiffFile

from napari_sam2.core.stack import Spacing
from napari_sam2.io.units import convert_to_seconds, convert_to_um


def read_dialect(tiff: TiffFile) -> tuple[Spacing, tuple[str, ...]] | None:
    """Spacing and channel names by the metadata of a microscope; None if there are none."""
    for name, read in _READERS.items():
        metadata = getattr(tiff, f"{name}_metadata", None)
        if isinstance(metadata, Mapping):
            return read(metadata)
    return None


def _read_stk(metadata: Mapping[str, Any]) -> tuple[Spacing, tuple[str, ...]]:
    """MetaMorph stacks: UIC tags."""
    unit = str(metadata.get("CalibrationUnits") or "um")
    calibrated = bool(metadata.get("SpatialCalibration", True))
    y, x = (metadata.get(f"{axis}Calibration") if calibrated else None for axis in "YX")
    distances = np.atleast_1d(np.asarray(metadata.get("ZDistance", ()), dtype=float))
    z_um = float(distances[0]) if distances.size and np.ptp(distances) == 0 else None
    return Spacing(
        convert_to_um(z_um, "um"),
        convert_to_um(_to_number(y), unit),
        convert_to_um(_to_number(x), unit),
        _compute_interval(metadata.get("DatetimeCreated")),
    ), ()


def _compute_interval(times: Any) -> float | None:
    """Seconds between frames; None if they do not come evenly."""
    if times is None or len(times) < 2:
        return None
    steps = np.diff(np.asarray(times, "datetime64[ms]")).astype(float) / 1e3
    return float(steps[0]) if steps[0] > 0 and np.ptp(steps) == 0 else None


def _read_lsm(metadata: Mapping[str, Any]) -> tuple[Spacing, tuple[str, ...]]:
    """Zeiss LSM: voxel sizes in m, interval in s."""
    z_um, y_um, x_um = (
        convert_to_um(_to_number(metadata.get(f"VoxelSize{axis}")), "m") for axis in "ZYX"
    )
    interval_s = convert_to_seconds(_to_number(metadata.get("TimeIntervall")), "s")
    colours = metadata.get("ChannelColors")
    names = colours.get("ColorNames") if isinstance(colours, Mapping) else None
    channels = tuple(str(name) for name in names or ())
    return Spacing(z_um, y_um, x_um, interval_s), channels if all(channels) else ()


def _read_metaseries(metadata: Mapping[str, Any]) -> tuple[Spacing, tuple[str, ...]]:
    """MetaMorph and MetaXpress single planes: XML in the description."""
    plane = metadata.get("PlaneInfo", {})
    if not plane.get("spatial-calibration-state", True):
        return Spacing(), ()
    unit = str(plane.get("spatial-calibration-units") or "um")
    y_um, x_um = (
        convert_to_um(_to_number(plane.get(f"spatial-calibration-{axis}")), unit) for axis in "yx"
    )
    return Spacing(y_um=y_um, x_um=x_um), ()


def _read_micromanager(metadata: Mapping[str, Any]) -> tuple[Spacing, tuple[str, ...]]:
    """Micro-Manager: the summary of the acquisition."""
    summary = metadata.get("Summary") or {}
    pixel_um = convert_to_um(_to_number(summary.get("PixelSize_um")), "um")
    names = tuple(str(name) for name in summary.get("ChNames") or ())
    return Spacing(
        convert_to_um(_to_number(summary.get("z-step_um")), "um"),
        pixel_um,
        pixel_um,
        convert_to_seconds(_to_number(summary.get("Interval_ms")), "ms"),
    ), names


def _read_fei(metadata: Mapping[str, Any]) -> tuple[Spacing, tuple[str, ...]]:
    """FEI and Thermo Fisher electron microscopes: sizes in m."""
    scan = metadata.get("Scan") or metadata.get("EScan") or {}
    y_um, x_um = (
        convert_to_um(_to_number(scan.get(name)), "m") for name in ("PixelHeight", "PixelWidth")
    )
    return Spacing(y_um=y_um, x_um=x_um), ()


def _read_sis(metadata: Mapping[str, Any]) -> tuple[Spacing, tuple[str, ...]]:
    """Olympus SIS: sizes in m."""
    y_um, x_um = (
        convert_to_um(_to_number(metadata.get(name)), "m") for name in ("pixelsizey", "pixelsizex")
    )
    return Spacing(y_um=y_um, x_um=x_um), ()


def _read_fluoview(metadata: Mapping[str, Any]) -> tuple[Spacing, tuple[str, ...]]:
    """Olympus FluoView: name, length, origin, resolution and unit of each dimension."""
    values: dict[str, float | None] = {}
    for name, _, _, step, unit in metadata.get("Dimensions") or ():
        letter = str(name).strip().lower()[:1]
        if letter in "xyz" and letter:
            values[f"{letter}_um"] = convert_to_um(_to_number(step), str(unit))
        elif letter == "t":
            values["t_s"] = convert_to_seconds(_to_number(step), str(unit))
    return Spacing(**values), ()


def _to_number(value: Any) -> float | None:
    """A float; None for what is not a number."""
    try:
        return float(np.asarray(value, dtype=float))
    except (TypeError, ValueError):
        return None


_Reader = Callable[[Mapping[str, Any]], tuple[Spacing, tuple[str, ...]]]
_READERS: Mapping[str, _Reader] = {
    "stk": _read_stk,
    "lsm": _read_lsm,
    "micromanager": _read_micromanager,
    "metaseries": _read_metaseries,
    "fluoview": _read_fluoview,
    "sis": _read_sis,
    "fei": _read_fei,
}
"""Readers by the names of tifffile's metadata."""
