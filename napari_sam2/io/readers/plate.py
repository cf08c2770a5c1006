"""Plates: the fields of an OME-Zarr HCS plate, each of them an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

from napari_sam2.core.errors import FileError
from napari_sam2.io.readers.lazy import convert_read_errors


def list_fields(path: Path) -> list[Path]:
    """The images of a plate or a well, in the order their metadata give; empty where the store is neither.

    Raises FileError where the metadata name wells or fields that are not there.
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
    """Whether a store is a plate or a well of one: no image itself, but a folder of images."""
    try:
        return bool({"plate", "well"} & set(_read_ome_metadata(path)))
    except (OSError, ValueError, KeyError):
        return False


def _read_ome_metadata(path: Path) -> Mapping[str, Any]:
    node = zarr.open(path, mode="r")
    attributes: Mapping[str, Any] = node.attrs.asdict() if isinstance(node, zarr.Group) else {}
    found: Mapping[str, Any] = attributes.get("ome", attributes)
    return found


def _check_inside_plate(path: Path, plate: Path) -> Path:
    """A place the metadata name: there, and inside the plate, for metadata may say anything."""
    if not path.is_dir() or not path.resolve().is_relative_to(plate.resolve()):
        raise FileError(
            f"{plate}: names {path.relative_to(plate)}, which is not in it: copy the plate again"
        )
    return path
