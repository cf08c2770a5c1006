"""The detector's score on crops kept aside: F1 of instances, by kind of image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam2.core.protocols import WORKING_DIAMETER
from napari_sam2.detection.maps.instances import segment_maps
from napari_sam2.detection.maps.sizes import measure_sizes
from napari_sam2.measurement.label_overlap import MATCHED_IOU, LabelOverlap
from napari_sam2.models.network.detector import DetectorNetwork
from napari_sam2.train.detector.loss import compute_losses
from napari_sam2.train.detector.mix import TrainingMix
from napari_sam2.train.detector.pool import Sample, pack_samples, unpack_batch

_CROPS_A_KIND, _SCENES = 10, 60
_SIDE = 160
_LEAST, _MOST = WORKING_DIAMETER / 1.6, WORKING_DIAMETER * 1.6  # pixels of crops that are scored


class DetectorValidation:
    """The same crops every time: of images kept aside, and of scenes painted for it."""

    def __init__(self, mix: TrainingMix, seed: int = 7) -> None:
        rng = np.random.default_rng(seed)
        self._samples: dict[str, list[Sample]] = {}
        for name, draw in mix.list_validation_sources(_SIDE):
            count = _SCENES if name.startswith("scene") else _CROPS_A_KIND
            drawn = (draw(rng) for _ in range(6 * count))
            self._samples[name] = [s for s in drawn if _is_in_range(s[1])][:count]

    @torch.inference_mode()
    def measure(self, network: DetectorNetwork) -> dict[str, float]:
        """F1 at IoU 0.5 by kind, their mean, the loss, and objects invented in empty crops."""
        scores: dict[str, float] = {}
        losses = []
        for name, samples in self._samples.items():
            batch = unpack_batch(pack_samples(samples))
            logits = network(batch.grey)
            losses.append(float(compute_losses(logits, batch)["loss"]))
            maps = logits.sigmoid().numpy()
            counts = np.zeros(3, int)
            for index, (_, labels) in enumerate(samples):
                counts += count_matches(labels, segment_maps(maps[index], least=12))
            scores[name] = 2 * counts[0] / max(1, counts[1] + counts[2])
        mean = float(np.mean(list(scores.values())))
        return {"mean": mean, "loss": float(np.mean(losses)), **scores}


def count_matches(truth: NDArray[np.integer], found: NDArray[np.integer]) -> NDArray[np.int_]:
    """Matches above an IoU of 0.5 (one to one by themselves), true objects, found objects."""
    overlap = LabelOverlap.of(truth, found)
    return np.array(
        [np.count_nonzero(overlap.iou > MATCHED_IOU), overlap.first.size, overlap.second.size]
    )


def _is_in_range(labels: NDArray[np.int32]) -> bool:
    sizes = measure_sizes(labels)
    if not sizes.size:
        return False
    return bool(_LEAST <= np.median(sizes) <= _MOST)
