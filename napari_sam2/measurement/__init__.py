"""Numbers from labels: objects, tracks, counts, intensities, agreement with ground truth.

`draw_overview` stays in `measurement.overview`, so that matplotlib is loaded only where a picture
is drawn.
"""

from napari_sam2.measurement.counts import counts
from napari_sam2.measurement.evaluation.agreement import Agreement, evaluate
from napari_sam2.measurement.features.objects import frame_objects, objects
from napari_sam2.measurement.features.options import Puncta, Scope
from napari_sam2.measurement.features.track_spots import track_spots
from napari_sam2.measurement.features.tracks import tracks
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.measurement.track_status import Fact, Facts

__all__ = [
    "Agreement",
    "Fact",
    "Facts",
    "LabelPlanes",
    "Puncta",
    "Scope",
    "counts",
    "evaluate",
    "frame_objects",
    "objects",
    "track_spots",
    "tracks",
]
