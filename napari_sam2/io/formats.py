"""Formats that need an extra, by what a file's name ends in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_sam2.io.readers import dicom, microscopes, movie, nifti, nrrd
from napari_sam2.io.readers.opened import Content

_READERS: dict[str, Callable[[Path], Content]] = {
    **dict.fromkeys(nifti.SUFFIXES, nifti.open_nifti),
    **dict.fromkeys(nrrd.SUFFIXES, nrrd.open_nrrd),
    **dict.fromkeys(movie.SUFFIXES, movie.open_movie),
    **dict.fromkeys(microscopes.SUFFIXES, microscopes.open_microscope),
}

OTHER_SUFFIXES = (*_READERS, *dicom.SUFFIXES)
"""Endings of files that are read with an extra."""


def open_other(path: Path) -> Content | None:
    """What such a file holds; None where it is none of these.

    Raises FileError where the extra is not installed.
    """
    for suffix, reader in _READERS.items():
        if path.name.lower().endswith(suffix):
            return reader(path)
    return dicom.open_dicom(path) if dicom.is_dicom(path) else None
