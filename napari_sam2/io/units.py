"""Convert lengths to µm and times to s from the units that files name."""

from __future__ import annotations

import math
from dataclasses import replace

from napari_sam2.core.stack import Spacing

_UM_BY_NAMES = {
    "pm picometer picometre": 1e-6,
    "å angstrom ångström": 1e-4,
    "nm nanometer nanometre": 1e-3,
    "µm um micron micrometer micrometre": 1.0,
    "mm millimeter millimetre": 1e3,
    "cm centimeter centimetre": 1e4,
    "dm decimeter decimetre": 1e5,
    "m meter metre": 1e6,
    'in inch inches "': 25_400.0,
}
_SECONDS_BY_NAMES = {
    "ns nanosecond": 1e-9,
    "µs us microsecond": 1e-6,
    "ms msec millisecond": 1e-3,
    "s sec second": 1.0,
    "min minute": 60.0,
    "h hr hour": 3_600.0,
    "d day": 86_400.0,
}


# from the atoms of an electron microscope to a scanner's slices, and from a camera's line to a year
_PLAUSIBLE = {
    **dict.fromkeys(("z_um", "y_um", "x_um"), (1e-5, 1e5)),
    "t_s": (1e-9, 1e8),
}


def _index_by_name(table: dict[str, float]) -> dict[str, float]:
    return {name: factor for names, factor in table.items() for name in names.split()}


_UM_BY_UNIT = _index_by_name(_UM_BY_NAMES)
_SECONDS_BY_UNIT = _index_by_name(_SECONDS_BY_NAMES)


def convert_to_um(value: float | str | None, unit: str | None) -> float | None:
    """`value` in µm; None if `unit` is not a length ("pixel", "") or the value is 0.

    Examples
    --------
    >>> convert_to_um(0.5, "mm")
    500.0
    """
    return _convert(value, unit, _UM_BY_UNIT)


def convert_to_seconds(value: float | str | None, unit: str | None) -> float | None:
    """`value` in seconds; None if `unit` is not a time or the value is 0."""
    return _convert(value, unit, _SECONDS_BY_UNIT)


def doubt_spacing(spacing: Spacing, source: str) -> tuple[Spacing, tuple[str, ...]]:
    """The spacing without values that no microscope or scanner has, and notes about them."""
    doubted = {
        name: value
        for name, value in vars(spacing).items()
        if value is not None and not _PLAUSIBLE[name][0] <= value <= _PLAUSIBLE[name][1]
    }
    notes = tuple(
        f"{source}: says {name.split('_')[0]} = {value:.3g} {'s' if name == 't_s' else 'µm'}, "
        f"which is not plausible: not used; give {'--interval' if name == 't_s' else '--spacing'}"
        for name, value in doubted.items()
    )
    return replace(spacing, **dict.fromkeys(doubted)), notes


def _convert(
    value: float | str | None, unit: str | None, factors: dict[str, float]
) -> float | None:
    factor = _get_factor(unit, factors)
    if value is None or factor is None:
        return None
    try:
        # ImageJ writes a negative spacing for a stack that was scanned downwards
        number = abs(float(value)) * factor
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _get_factor(unit: str | None, factors: dict[str, float]) -> float | None:
    # ImageJ escapes the micro sign, and there are two of them in Unicode: U+00B5 and the Greek
    # letter U+03BC
    name = (unit or "").strip().lower().replace("\\u00b5", "µ").replace("\u03bc", "µ").rstrip(".")
    return factors.get(name, factors.get(name.removesuffix("s")))
