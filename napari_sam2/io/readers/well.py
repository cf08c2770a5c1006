"""Wells: which well of a plate a stack is from, as its path says."""

from __future__ import annotations

import re
from pathlib import Path

_ROWS = "ABCDEFGHIJKLMNOP"  # of the largest plate in use with one letter: 384 wells
_COLUMNS = 24
_WORD = r"(?<![A-Za-z0-9]){}(?![A-Za-z0-9])"
_WELL_PATTERNS = (
    re.compile(_WORD.format(r"([A-P])([0-2][0-9])")),  # plate_B03_s1.tif
    re.compile(
        r"^([A-P])([1-9])(?![A-Za-z0-9])"
    ),  # B3.tif, B3_s1.tif: one digit only where the name begins so, else it may be a channel
)
_ROW_COLUMN_PATTERN = re.compile(
    r"(?<![A-Za-z0-9])r([0-9]{2})c([0-9]{2})(?=f[0-9]|[^A-Za-z0-9]|$)"
)  # r02c03f01p01 (Opera, Operetta)


def find_well(path: Path | str) -> str:
    """The well in a path, a letter and two digits ("B03"); "" where it names none.

    A field of an OME-Zarr plate lies in the folders of its row and its column; else the file's name
    is looked at, then its folder's.
    """
    place = Path(path)
    plates = [
        number
        for number, part in enumerate(place.parts)
        if Path(part).suffix in (".zarr", ".ome.zarr")
    ]
    inside = place.parts[plates[-1] + 1 :] if plates else ()
    if len(inside) >= 2 and (well := _format_well(inside[0], inside[1])):
        return well
    return _find_well_in_name(place.name) or _find_well_in_name(place.parent.name)


def _find_well_in_name(name: str) -> str:
    for pattern in _WELL_PATTERNS:
        if (found := pattern.search(name)) and (well := _format_well(*found.groups())):
            return well
    if found := _ROW_COLUMN_PATTERN.search(name):
        row, column = (int(number) for number in found.groups())
        return _format_well(_ROWS[row - 1], str(column)) if 1 <= row <= len(_ROWS) else ""
    return ""


def _format_well(row: str, column: str) -> str:
    good = len(row) == 1 and row in _ROWS and column.isdigit() and 1 <= int(column) <= _COLUMNS
    return f"{row}{int(column):02d}" if good else ""
