"""DICOM-SEG: labels as a segmentation object that refers to the slices it was made on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.track import Track
from napari_sam2.io.extras import MEDICAL, import_extra
from napari_sam2.io.readers.dicom import read_source_slices


def write_dicom_seg(
    labels: np.ndarray, path: Path, like: Path, tracks: Sequence[Track] = ()
) -> None:
    """Labels (slices, H, W) of the series in the folder `like`, one segment an object.

    A segment is called after its track, and `TrackingID` is the label. Segments are numbered from 1
    without gaps, as the standard wants them, in the order of the labels. Raises LabelsError where
    there are no objects, or not as many planes as slices.
    """
    seg = import_extra("highdicom.seg", MEDICAL, "DICOM-SEG")
    slices = read_source_slices(like)
    shape = (len(slices), int(slices[0].Rows), int(slices[0].Columns))
    if labels.shape != shape:
        raise LabelsError(
            f"labels of shape {labels.shape!r}: expected {shape!r}, the slices of {like}"
        )
    ids = [int(label) for label in np.unique(labels) if label]
    if not ids:
        raise LabelsError("no objects in the labels: a segmentation needs at least one")
    numbers = np.searchsorted(ids, labels) + 1
    names = {track.id: track.name or track.category for track in tracks}
    uid = import_extra("pydicom.uid", MEDICAL, "DICOM").generate_uid
    made = seg.Segmentation(
        source_images=slices,
        pixel_array=np.where(labels > 0, numbers, 0).astype(
            np.uint16 if len(ids) > 255 else np.uint8
        ),
        segmentation_type="BINARY",
        segment_descriptions=[
            _describe_segment(number, label, names.get(label, ""))
            for number, label in enumerate(ids, start=1)
        ],
        series_instance_uid=uid(),
        series_number=int(slices[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=uid(),
        instance_number=1,
        manufacturer="napari-sam2",
        manufacturer_model_name="napari-sam2",
        software_versions=version("napari-sam2"),
        device_serial_number="none",
        content_description="Objects carried by SAM 2",
    )
    made.save_as(path)


def _describe_segment(number: int, label: int, name: str) -> object:
    codes = import_extra("pydicom.sr.codedict", MEDICAL, "DICOM").codes
    seg, content = (
        import_extra("highdicom.seg", MEDICAL, "DICOM-SEG"),
        import_extra("highdicom", MEDICAL, "DICOM-SEG"),
    )
    algorithm = content.AlgorithmIdentificationSequence(
        name="SAM 2", version=version("napari-sam2"), family=codes.cid7162.ArtificialIntelligence
    )
    return seg.SegmentDescription(
        segment_number=number,
        segment_label=(name or f"object {label}")[:64],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=algorithm,
        tracking_id=str(label),
        tracking_uid=import_extra("pydicom.uid", MEDICAL, "DICOM").generate_uid(),
    )
