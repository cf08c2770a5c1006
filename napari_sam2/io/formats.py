"""Formats that need an extra, by what a file's name ends in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_sam2.io.readers import dicom, microscopes, movie, nifti, nrrd
from napari_sam2.io.readers.opened import OpenedImage

_OPENERS: dict[str, Callable[[Path], OpenedImage]] = {
    **dict.fromkeys(nifti.SUFFIXES, nifti.open_nifti),
    **dict.fromkeys(nrrd.SUFFIXES, nrrd.open_nrrd),
    **dict.fromkeys(movie.SUFFIXES, movie.open_movie),
    **dict.fromkeys(microscopes.SUFFIXES, microscopes.open_microscope),
}

EXTRA_SUFFIXES = (*_OPENERS, *dicom.SUFFIXES)
"""Endings of files that are read with an extra."""


def open_with_extra(path: Path) -> OpenedImage | None:
    """What such a file holds; None where it is none of these.

    Raises FileError where the extra is not installed.
    """
    for suffix, reader in _OPENERS.items():
        if path.name.lower().endswith(suffix):
            return reader(path)
    return dicom.open_dicom(path) if dicom.is_dicom(path) else None
