"""DICOM-SEG: labels as a segmentation object that refers to the slices it was made on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.files.extras import MEDICAL, import_extra
from napari_sam2.core.track import Track
from napari_sam2.io.readers.dicom.series import read_source_slices
from napari_sam2.io.writers.label_spec import check_label_shape


def write_dicom_seg(
    labels: np.ndarray, path: Path, like: Path, tracks: Sequence[Track] = ()
) -> None:
    """Write labels (slices, H, W) of the series in the folder `like`, one segment an object.

    A segment has the name of its track, and its `TrackingID` is the label. As the standard demands,
    segments are numbered from 1 without gaps, in the order of the labels.

    Raises
    ------
    LabelsError
        If there are no objects, or the labels do not have the shape of the series.
    """
    slices = read_source_slices(like)
    check_label_shape(labels, (len(slices), int(slices[0].Rows), int(slices[0].Columns)), like)
    ids = [int(label) for label in np.unique(labels) if label]
    if not ids:
        raise LabelsError("the labels contain no objects: a segmentation needs at least one")
    names = {track.id: track.name or track.category for track in tracks}
    numbers = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0)
    segmentation = _import_medical("highdicom.seg").Segmentation(
        source_images=slices,
        pixel_array=numbers.astype(np.uint16 if len(ids) > 255 else np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[
            _describe_segment(number, label, names.get(label, ""))
            for number, label in enumerate(ids, start=1)
        ],
        series_instance_uid=_generate_uid(),
        series_number=int(slices[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=_generate_uid(),
        instance_number=1,
        manufacturer="napari-sam2",
        manufacturer_model_name="napari-sam2",
        software_versions=version("napari-sam2"),
        device_serial_number="none",
        content_description="Objects propagated by SAM 2",
    )
    segmentation.save_as(path)


def _describe_segment(number: int, label: int, name: str) -> object:
    codes = _import_medical("pydicom.sr.codedict").codes
    algorithm = _import_medical("highdicom").AlgorithmIdentificationSequence(
        name="SAM 2", version=version("napari-sam2"), family=codes.cid7162.ArtificialIntelligence
    )
    return _import_medical("highdicom.seg").SegmentDescription(
        segment_number=number,
        segment_label=(name or f"object {label}")[:64],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=algorithm,
        tracking_id=str(label),
        tracking_uid=_generate_uid(),
    )


def _generate_uid() -> Any:
    return _import_medical("pydicom.uid").generate_uid()


def _import_medical(module: str) -> Any:
    return import_extra(module, MEDICAL, "DICOM-SEG")
