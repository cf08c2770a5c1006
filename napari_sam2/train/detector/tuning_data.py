"""Annotated frames as a detector learns from them, and its score on frames that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.protocols import ObjectMapModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.models.weights.files import get_embedded_folder
from napari_sam2.train.data.batches import Dataset
from napari_sam2.train.data.clip_sources import PairSource, SourceMixture
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack
from napari_sam2.train.detector.images import AnnotatedImage, ImageCrops
from napari_sam2.train.detector.pool import DrawSample, Sample
from napari_sam2.train.detector.scenes import draw_scene
from napari_sam2.train.detector.validation import count_matches

_MAX_TRAINING_FRAMES, _MAX_HELD_OUT_FRAMES = 40, 4
_SYNTHETIC_SHARE = 0.4  # of what is rehearsed, as for the promptable parts
_OWN, _REHEARSED = "own", "rehearsed"
_MIN_SURENESS = 0.8  # a detected object above it is an object, labelled or not
_T = TypeVar("_T")
_MIN_LABELLED = 0.1  # share of its pixels from which a detected object counts as labelled


@dataclass(frozen=True)
class DetectorScore:
    """What a detector finds on held-out frames without a click.

    Parameters
    ----------
    step
        Step of the tuning; 0 is the detector before it.
    f1
        F1 of objects at an IoU of 0.5, all frames together.
    count_error
        Objects too many or too few on a frame, as a share of the true number; the mean.
    """

    step: int
    f1: float
    count_error: float

    @property
    def score(self) -> float:
        """What the best detector maximises."""
        return self.f1 - 0.1 * min(self.count_error, 1.0)

    def as_dict(self) -> dict[str, float]:
        """The fields by name, and the score."""
        return {**asdict(self), "score": self.score}


@dataclass(frozen=True, eq=False)
class DetectorFrames:
    """Annotated planes for training, and lists of planes of one stack each that are held out."""

    train: Sequence[AnnotatedPlane]
    held_out: Sequence[Sequence[AnnotatedPlane]]

    @classmethod
    def of(cls, dataset: Dataset) -> DetectorFrames | None:
        """Those of a dataset, rehearsal left out; None if it has no annotated stacks."""
        source = dataset.source
        if isinstance(source, SourceMixture):
            source = source.sources[0]
        if not isinstance(source, PairSource):
            return None
        pairs = source.pairs
        train = [pairs[item] for item in dataset.train if item < len(pairs)]
        held_out = [pairs[item] for item in dataset.held_out][:_MAX_HELD_OUT_FRAMES]
        per_stack = max(1, _MAX_HELD_OUT_FRAMES // len(held_out))
        shown = [
            (pair, frame)
            for pair in train
            for frame in _choose_evenly(pair.annotated, max(1, _MAX_TRAINING_FRAMES // len(train)))
        ]
        return cls(
            [pair.read(frame) for pair, frame in _choose_evenly(shown, _MAX_TRAINING_FRAMES)],
            [
                [pair.read(frame) for frame in _choose_evenly(pair.annotated, per_stack)]
                for pair in held_out
            ],
        )

    def make_draw(self, side: int, rehearsal: float) -> DrawSample:
        """Draws crops of `side` px of the training planes, and `rehearsal` of other images."""
        crops = ImageCrops([_make_image(*plane, _OWN) for plane in self.train], side)
        others = (
            ImageCrops(
                [_make_image(*_read_first(pair), _REHEARSED) for pair in _open_rehearsal()], side
            )
            if rehearsal
            else crops
        )

        def draw(rng: np.random.Generator) -> Sample:
            if rng.random() >= rehearsal:
                return crops.draw(rng)
            return draw_scene(side, rng) if rng.random() < _SYNTHETIC_SHARE else others.draw(rng)

        return draw

    def measure(self, maps: ObjectMapModel, step: int) -> DetectorScore:
        """The score of a detector on the held-out frames; it finds the size of objects itself."""
        counts, errors = np.zeros(3, int), []
        for planes in self.held_out:
            for (_, truth), found in zip(planes, _detect(maps, planes), strict=True):
                matched, present, number = count_matches(truth, found)
                counts += (matched, present, number)
                errors.append(abs(number - present) / max(1, present))
        f1 = 2 * counts[0] / max(1, counts[1] + counts[2])
        return DetectorScore(step, float(f1), float(np.mean(errors)))

    def count_unlabelled(self, maps: ObjectMapModel) -> tuple[int, int]:
        """Sure detections on the held-out frames that have no label, and labelled objects."""
        unlabelled = labelled = 0
        for planes in self.held_out:
            for (_, truth), found in zip(planes, _detect(maps, planes, sure=True), strict=True):
                labelled += len(np.unique(truth[truth > 0]))
                sizes = np.bincount(found.ravel())
                covered = np.bincount(found.ravel(), truth.ravel() > 0, len(sizes))
                unlabelled += int(((covered < _MIN_LABELLED * sizes) & (sizes > 0))[1:].sum())
        return unlabelled, labelled


def _detect(
    maps: ObjectMapModel, planes: Sequence[AnnotatedPlane], *, sure: bool = False
) -> list[np.ndarray]:
    """(H, W) labels of what is detected on planes of one stack, or of what is surely there."""
    stack = Stack(np.stack([np.asarray(pixels, np.float32) for pixels, _ in planes]), "tyx")
    video = Video.of(stack, contrast=Contrast(0.0, 1.0))
    detector = LearnedDetector(DetectionOptions(maps=maps))
    labels = []
    for frame in range(len(planes)):
        found = detector.get_frame(video, frame)
        kept = np.concatenate(
            [[0], found.sureness >= _MIN_SURENESS if sure else found.sureness >= 0]
        )
        labels.append(found.labels * kept[found.labels].astype(np.int32))
    return labels


def _make_image(pixels: np.ndarray, labels: np.ndarray, kind: str) -> AnnotatedImage:
    """A plane in 0..1 as bytes, with labels numbered from 1."""
    grey = np.rint(255 * np.clip(np.asarray(pixels, np.float32), 0, 1)).astype(np.uint8)
    numbers = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    if labels.min() > 0:
        numbers = numbers + 1
    return AnnotatedImage(grey, numbers.astype(np.uint16), kind, kind)


def _open_rehearsal() -> list[AnnotatedStack]:
    return open_pack(get_embedded_folder() / "rehearsal")


def _read_first(pair: AnnotatedStack) -> AnnotatedPlane:
    return pair.read(pair.annotated[0])


def _choose_evenly(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many items, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]
