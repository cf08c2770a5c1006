"""Export labels into the formats of other programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sam2.core.errors import OutputError
from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.stack import Stack
from napari_sam2.core.track import Track
from napari_sam2.io.open import open_labels
from napari_sam2.io.writers.coco import write_coco
from napari_sam2.io.writers.dicom_seg import write_dicom_seg
from napari_sam2.io.writers.nifti import write_nifti
from napari_sam2.io.writers.nrrd import write_nrrd
from napari_sam2.io.writers.rois import write_rois

__all__ = ["FORMATS", "ExportFormat", "export_labels"]

LabelWriter = Callable[[np.ndarray, Path, Path, Sequence[Track]], None]
"""Called with the labels (frames, H, W), the path, the path of the image, and the tracks."""


@dataclass(frozen=True)
class ExportFormat:
    """A format of other programs.

    `needs_image`: it copies orientation and spacing from the image that the labels were made on.
    """

    suffixes: tuple[str, ...]
    write: LabelWriter
    needs_image: bool = False


FORMATS = {
    "nifti": ExportFormat(
        (".nii.gz", ".nii"),
        lambda labels, path, like, _: write_nifti(labels, path, like),
        needs_image=True,
    ),
    "nrrd": ExportFormat(
        (".nrrd",), lambda labels, path, like, _: write_nrrd(labels, path, like), needs_image=True
    ),
    "dicom-seg": ExportFormat((".dcm",), write_dicom_seg, needs_image=True),
    "imagej": ExportFormat(
        (".zip",), lambda labels, path, _, tracks: write_rois(labels, path, tracks)
    ),
    "coco": ExportFormat(
        (".json",), lambda labels, path, like, tracks: write_coco(labels, path, like.name, tracks)
    ),
}
"""Formats by name. For labels in an OME-Zarr image see `zarr_labels.write_zarr_labels`."""


def export_labels(
    labels: Stack | np.ndarray | str | Path,
    path: Path | str,
    *,
    format: str,
    like: Path | str = "",
    tracks: Sequence[Track] = (),
) -> Path:
    """Write a label stack, (frames, H, W), in another format, and return the path.

    Parameters
    ----------
    labels
        A path (such as ``labels.ome.tif`` of a run), an array or a Stack.
    path
        The file to write; its ending must fit the format.
    format
        "nifti", "nrrd" and "dicom-seg" copy orientation and spacing from `like`, so that the labels
        overlay that image voxel by voxel. "imagej" is a zip of ROIs for the ROI manager, "coco" a
        JSON file with run-length encoded masks.
    like
        The image that the labels were made on.
    tracks
        Names and categories (``PromptLog.tracks``).

    Raises
    ------
    OutputError
        If the format is unknown, needs `like`, or `path` does not fit or cannot be written.
    LabelsError
        If the labels do not have the shape of `like`.
    MissingPackageError
        If the extra of the format is not installed.
    """
    if format not in FORMATS:
        raise OutputError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    chosen, final = FORMATS[format], Path(path)
    suffix = next((each for each in chosen.suffixes if final.name.lower().endswith(each)), None)
    if suffix is None:
        raise OutputError(
            f"{final}: expected a name ending in {' or '.join(chosen.suffixes)} for {format}"
        )
    if chosen.needs_image and not like:
        raise OutputError(
            f"{format} copies the orientation of the image that the labels were made on: give "
            "like=PATH"
        )
    planes = _read_planes(labels)
    with write_atomically(final) as part:
        named = part.with_name(part.name + suffix)  # the writers choose by the ending
        try:
            chosen.write(planes, named, Path(like), tracks)
            named.replace(part)
        finally:
            named.unlink(missing_ok=True)
    return final


def _read_planes(labels: Stack | np.ndarray | str | Path) -> np.ndarray:
    if isinstance(labels, str | Path):
        labels = open_labels(labels)
    return np.asarray(labels.data if isinstance(labels, Stack) else labels)
