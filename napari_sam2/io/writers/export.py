"""Export: labels in the form other programs ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from napari_sam2.core.errors import LabelsError, OutputError
from napari_sam2.core.stack import Stack
from napari_sam2.core.track import Track
from napari_sam2.io.atomic import write_atomically
from napari_sam2.io.open import open_labels
from napari_sam2.io.readers import nifti, nrrd
from napari_sam2.io.writers import coco, dicom_seg, rois

__all__ = ["FORMATS", "export_labels"]

Writer = Callable[[np.ndarray, Path, Path, Sequence[Track]], None]

FORMATS: dict[str, tuple[str, Writer]] = {
    "nifti": (".nii.gz", lambda labels, path, like, _: nifti.write_nifti(labels, path, like)),
    "nrrd": (".nrrd", lambda labels, path, like, _: nrrd.write_nrrd(labels, path, like)),
    "dicom-seg": (".dcm", dicom_seg.write_dicom_seg),
    "imagej": (".zip", lambda labels, path, _, tracks: rois.write_rois(labels, path, tracks)),
    "coco": (
        ".json",
        lambda labels, path, like, tracks: coco.write_coco(labels, path, like.name, tracks),
    ),
}
"""Suffix and writer by name. Labels into an OME-Zarr image: `zarr_labels.write_zarr_labels`."""


def export_labels(
    labels: Stack | np.ndarray | str | Path,
    path: Path | str,
    *,
    format: str,
    like: Path | str = "",
    tracks: Sequence[Track] = (),
) -> Path:
    """Write a label stack, (frames, H, W), in another format, and give the path.

    Parameters
    ----------
    labels
        A path (``labels.ome.tif`` of a run), an array or a Stack.
    format
        "nifti", "nrrd" and "dicom-seg" take orientation and spacing from `like`, the image the
        labels were made on, and lie over it voxel by voxel; "imagej" is a zip of ROIs for the ROI
        manager, "coco" a JSON with run-length masks.
    tracks
        Names and categories (``PromptLog.tracks``).

    Raises
    ------
    OutputError
        An unknown format, or a place that cannot be written to.
    LabelsError, FileError
        Labels that do not fit `like`; an extra that is not installed.
    """
    if format not in FORMATS:
        raise OutputError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    suffix, write = FORMATS[format]
    final = Path(path)
    if not final.name.lower().endswith(suffix) and (format, final.suffix.lower()) != (
        "nifti",
        ".nii",
    ):
        raise OutputError(f"{final}: expected a name ending in {suffix} for {format}")
    if format in ("nifti", "nrrd", "dicom-seg") and not like:
        raise LabelsError(
            f"{format} needs the image the labels were made on, for its orientation: give like=…"
        )
    stack = (
        labels
        if isinstance(labels, Stack)
        else open_labels(labels)
        if isinstance(labels, str | Path)
        else None
    )
    planes = np.asarray(labels if stack is None else stack.data)
    with write_atomically(final) as part:
        named = part.with_name(
            part.name + (".nii" if final.suffix.lower() == ".nii" else suffix)
        )  # writers look at the name
        try:
            write(planes, named, Path(like), tracks)
            named.replace(part)
        finally:
            named.unlink(missing_ok=True)
    return final
