"""NIfTI labels with the orientation of the image they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.io.readers.files import convert_read_errors
from napari_sam2.io.writers.label_spec import check_label_shape


def write_nifti(labels: np.ndarray, path: Path, like: Path) -> None:
    """Write labels (…, z, y, x) with the affine, units and codes of the image `like`.

    Raises LabelsError if the labels do not have its shape; trailing dimensions of the file, such as
    time, may be missing.
    """
    nibabel = import_extra("nibabel", MEDICAL, "NIfTI")
    with convert_read_errors(
        f"{like}: cannot be read as NIfTI", "the image that the labels belong to"
    ):
        image = nibabel.load(like)
    check_label_shape(labels, image.shape[: labels.ndim][::-1], like)
    voxels = np.ascontiguousarray(labels.T)
    header = image.header.copy()
    header.set_data_dtype(voxels.dtype)
    header["scl_slope"], header["scl_inter"], header["cal_min"], header["cal_max"] = 1, 0, 0, 0
    kind = nibabel.Nifti2Image if isinstance(image, nibabel.Nifti2Image) else nibabel.Nifti1Image
    nibabel.save(kind(voxels, None, header), path)
