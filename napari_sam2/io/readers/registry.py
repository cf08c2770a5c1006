"""Registry of image readers: which reader opens which file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_sam2.core.errors import AxesError
from napari_sam2.io.readers import (
    image_files,
    microscopes,
    movie,
    nifti,
    nrrd,
    opened,
    tiff,
)
from napari_sam2.io.readers.dicom import headers
from napari_sam2.io.readers.dicom.series import open_dicom
from napari_sam2.io.readers.lazy import PlaneReader
from napari_sam2.io.readers.opened import OpenedImage, ReadRequest


@dataclass(frozen=True)
class ImageReader:
    """A reader of one family of file formats.

    Parameters
    ----------
    suffixes
        Endings of file names, in lower case.
    open_image
        Opens a file at full resolution.
    open_part
        Opens the level and the series of a request; None if the format has neither.
    open_planes
        Opens the planes of a file; files of a reader that has it can form a stack together.
    recognises
        Recognises a file whose name has another ending.
    """

    suffixes: tuple[str, ...]
    open_image: Callable[[Path], OpenedImage]
    open_part: Callable[[Path, ReadRequest], OpenedImage] | None = None
    open_planes: Callable[[Path, ReadRequest], PlaneReader] | None = None
    recognises: Callable[[Path], bool] | None = None

    def open(self, path: Path, request: ReadRequest) -> OpenedImage:
        """Open what is requested; raises AxesError if the format has only one image and level."""
        if self.open_part is not None:
            return self.open_part(path, request)
        check_single_image(path, request)
        return self.open_image(path)


READERS = (
    ImageReader(
        tiff.SUFFIXES,
        tiff.open_tiff,
        open_part=tiff.open_tiff,
        open_planes=tiff.open_tiff_planes,
    ),
    ImageReader(
        image_files.SUFFIXES,
        image_files.open_image_file,
        open_part=image_files.open_image_file,
        open_planes=image_files.open_image_file_planes,
    ),
    ImageReader((".npy",), opened.open_npy),
    ImageReader(nifti.SUFFIXES, nifti.open_nifti),
    ImageReader(nrrd.SUFFIXES, nrrd.open_nrrd),
    ImageReader(movie.SUFFIXES, movie.open_movie),
    ImageReader(microscopes.SUFFIXES, microscopes.open_microscope),
    ImageReader(headers.SUFFIXES, open_dicom, recognises=headers.is_dicom),
)
"""All readers of single files; zarr stores are folders, see `io.readers.zarr`."""

SUFFIXES = tuple(suffix for reader in READERS for suffix in reader.suffixes)
"""The endings of all files that can be opened."""

PLANE_FILE_SUFFIXES = tuple(
    suffix for reader in READERS if reader.open_planes for suffix in reader.suffixes
)
"""The endings of the files that can form a stack together, in a folder or a glob."""


def find_reader(path: Path) -> ImageReader | None:
    """The reader of a file, by the ending of its name, else by its content; None if unknown."""
    name = path.name.lower()
    for reader in READERS:
        if name.endswith(reader.suffixes):
            return reader
    for reader in READERS:
        if reader.recognises is not None and reader.recognises(path):
            return reader
    return None


def check_single_image(source: Path | str, request: ReadRequest) -> None:
    """Raise AxesError if a level or a series is requested of an image that has only one."""
    if request.level:
        raise AxesError(f"level {request.level!r}: {source} has only level 0")
    if request.series:
        raise AxesError(f"series {request.series!r}: {source} has only series 0")
