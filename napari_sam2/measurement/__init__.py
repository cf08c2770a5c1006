"""Measure labels: objects, tracks, counts, intensities, agreement with ground truth.

Figures are in `measurement.report`, so that importing this package does not load matplotlib.
"""

from napari_sam2.measurement.counts import count_objects
from napari_sam2.measurement.evaluation.agreement import Agreement, evaluate
from napari_sam2.measurement.features.objects import measure_frame_objects, measure_objects
from napari_sam2.measurement.features.options import MeasurementOptions, SpotOptions
from napari_sam2.measurement.features.track_spots import measure_track_spots
from napari_sam2.measurement.features.tracks import measure_tracks
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.measurement.track_status import TrackStatus, TrackStatuses

__all__ = [
    "Agreement",
    "LabelPlanes",
    "MeasurementOptions",
    "SpotOptions",
    "TrackStatus",
    "TrackStatuses",
    "count_objects",
    "evaluate",
    "measure_frame_objects",
    "measure_objects",
    "measure_track_spots",
    "measure_tracks",
]
