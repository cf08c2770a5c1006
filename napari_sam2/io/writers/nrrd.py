"""NRRD labels with the orientation of the image they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.io.readers.nrrd import read_nrrd_header
from napari_sam2.io.writers.label_spec import check_label_shape

_GEOMETRY_FIELDS = (
    "space",
    "space dimension",
    "space units",
    "space directions",
    "space origin",
    "spacings",
    "units",
    "kinds",
    "measurement frame",
)


def write_nrrd(labels: np.ndarray, path: Path, like: Path) -> None:
    """Write labels (z, y, x) with the space, directions and origin of the image `like`.

    Raises LabelsError if the labels do not have its shape.
    """
    nrrd = import_extra("nrrd", MEDICAL, "NRRD")
    header = read_nrrd_header(like)
    check_label_shape(labels, tuple(int(n) for n in header["sizes"])[::-1], like)
    geometry = {name: header[name] for name in _GEOMETRY_FIELDS if name in header}
    nrrd.write(str(path), labels, geometry, index_order="C")
