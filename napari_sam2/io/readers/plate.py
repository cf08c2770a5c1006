"""Plates: the fields of an OME-Zarr HCS plate, and the well that a path names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

from napari_sam2.core.errors import FileError
from napari_sam2.io.readers.files import convert_read_errors

_ROWS = "ABCDEFGHIJKLMNOP"  # of 384 wells, the largest plate whose rows have one letter
_COLUMNS = 24
_WORD = r"(?<![A-Za-z0-9]){}(?![A-Za-z0-9])"
_WELL_PATTERNS = (
    re.compile(_WORD.format(r"([A-P])([0-2][0-9])")),  # plate_B03_s1.tif
    # B3.tif, B3_s1.tif: one digit only at the beginning, because later it may be a channel
    re.compile(r"^([A-P])([1-9])(?![A-Za-z0-9])"),
)
# r02c03f01p01 (Opera, Operetta)
_ROW_COLUMN_PATTERN = re.compile(r"(?<![A-Za-z0-9])r([0-9]{2})c([0-9]{2})(?=f[0-9]|[^A-Za-z0-9]|$)")


def list_fields(path: Path) -> list[Path]:
    """The images of a plate or a well, in the order of the metadata; empty for other stores.

    Raises FileError if the metadata list a well or a field that does not exist.
    """
    with convert_read_errors(f"{path}: cannot be read as zarr", "an OME-Zarr group"):
        ome = _read_ome_metadata(path)
    if "plate" in ome:
        return [
            field
            for well in ome["plate"]["wells"]
            for field in list_fields(_check_inside_plate(path / well["path"], path))
        ]
    if "well" in ome:
        return [_check_inside_plate(path / image["path"], path) for image in ome["well"]["images"]]
    return []


def is_plate(path: Path) -> bool:
    """Whether a store is a plate or a well: a folder of images, not an image."""
    try:
        return bool({"plate", "well"} & set(_read_ome_metadata(path)))
    except (OSError, ValueError, KeyError):
        return False


def _read_ome_metadata(path: Path) -> Mapping[str, Any]:
    node = zarr.open(path, mode="r")
    attributes: Mapping[str, Any] = node.attrs.asdict() if isinstance(node, zarr.Group) else {}
    ome: Mapping[str, Any] = attributes.get("ome", attributes)
    return ome


def _check_inside_plate(path: Path, plate: Path) -> Path:
    """The path, if it is a folder in the plate; metadata of others may contain any path."""
    if not path.is_dir() or not path.resolve().is_relative_to(plate.resolve()):
        raise FileError(
            f"{plate}: lists {path.relative_to(plate)}, which is not in it: copy the plate again"
        )
    return path


def find_well(path: Path | str) -> str:
    """The well that a path names, as a letter and two digits ("B03"); "" if it names none.

    A field of an OME-Zarr plate is in the folders of its row and its column. Otherwise the name of
    the file counts, then that of its folder.

    Examples
    --------
    >>> find_well("plate_B03_s1.tif")
    'B03'
    """
    path = Path(path)
    stores = [number for number, part in enumerate(path.parts) if Path(part).suffix == ".zarr"]
    inside = path.parts[stores[-1] + 1 :] if stores else ()
    if len(inside) >= 2 and (well := _format_well(inside[0], inside[1])):
        return well
    return _find_well_in_name(path.name) or _find_well_in_name(path.parent.name)


def _find_well_in_name(name: str) -> str:
    for pattern in _WELL_PATTERNS:
        if (match := pattern.search(name)) and (well := _format_well(*match.groups())):
            return well
    if match := _ROW_COLUMN_PATTERN.search(name):
        row, column = (int(number) for number in match.groups())
        return _format_well(_ROWS[row - 1], str(column)) if 1 <= row <= len(_ROWS) else ""
    return ""


def _format_well(row: str, column: str) -> str:
    """The name of a well; "" if there is no such well."""
    exists = len(row) == 1 and row in _ROWS and column.isdigit() and 1 <= int(column) <= _COLUMNS
    return f"{row}{int(column):02d}" if exists else ""
