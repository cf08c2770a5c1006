"""Grids: prompt the model everywhere and keep confident, stable masks, as SAM's generator does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.errors import PlanError
from napari_sam2.core.prompt import BoxPrompt, FramePrompts, PointPrompt, Prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.stack import Video
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.detection.prompts import make_prompt
from napari_sam2.detection.sized import ScaleEstimator

MIN_PREDICTED_IOU = 0.7
MIN_STABILITY = 0.75
# logits up and down: how far the mask's edge is moved to see whether it is stable (SAM's own)
_STABILITY_OFFSET = 1.0
_DUPLICATE_IOU = 0.5  # two masks with this IoU are one object
_CONTAINED_FRACTION = 0.8  # of the smaller mask's pixels: then it is part of the other
_MAX_FRAME_FRACTION = 0.4  # a mask that covers more of the frame is background
_POINTS_PER_SIDE = 32  # along the longer side, if no size is known (SAM's own)
_BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class CandidateMask:
    """A mask of the model: its crop and corner on the frame, its score, and the prompted point."""

    mask: np.ndarray
    corner: tuple[int, int]
    score: float
    point: tuple[float, float]

    @classmethod
    def of(
        cls,
        segment: Segment,
        shape: tuple[int, ...],
        score: float,
        point: tuple[float, float] = (0.0, 0.0),
    ) -> CandidateMask | None:
        """Mask of a segment on a frame of `shape` (H, W); None if it is empty."""
        if not segment.present:
            return None
        rows, columns = segment.window.find_positive_region(segment.logits, (shape[0], shape[1]))
        mask = segment.window.paste(segment.logits, rows, columns) > 0
        return cls(mask, (rows.start, columns.start), score, point) if mask.any() else None

    @property
    def area_px(self) -> int:
        """Pixels of the mask."""
        return int(np.count_nonzero(self.mask))

    def to_plane(self, shape: tuple[int, ...]) -> np.ndarray:
        """(H, W) bool mask of the whole frame."""
        plane = np.zeros(shape, dtype=bool)
        plane[
            tuple(
                slice(low, low + side)
                for low, side in zip(self.corner, self.mask.shape, strict=True)
            )
        ] = self.mask
        return plane


class GridDetector(ScaleEstimator):
    """Masks of the model for points about half a diameter apart."""

    name = "grid"

    def __init__(self, options: DetectionOptions | None = None) -> None:
        super().__init__(options)
        if self.options.model is None:
            raise PlanError(f"the detector {self.name!r} needs a model: give one")
        self.model: VideoModel = self.options.model

    def make_points(self, video: Video, frame: int) -> np.ndarray:
        """(n, 2) positions (y, x) to prompt."""
        scale = self.get_scale(video)
        step = (
            max(4.0, 0.5 * scale.diameter_px) if scale else max(video.shape[1:]) / _POINTS_PER_SIDE
        )
        return make_lattice(video.shape[1:], step)

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `Detector`.

        The masks become masks, boxes or the prompted clicks; see `DetectionOptions.kind`.
        """
        places = self.make_points(video, frame)
        if occupied is not None:
            places = places[~occupied[tuple(places.round().astype(int).T)]]
        kept = remove_duplicates(self.find_candidates(video, frame, places), video.shape[1:])
        free = [each for each in kept if occupied is None or _is_free(each, occupied)]
        return [
            self._make_prompt(each, video, frame, first_track + number)
            for number, each in enumerate(free)
        ]

    def find_candidates(self, video: Video, frame: int, points: np.ndarray) -> list[CandidateMask]:
        """Confident and stable masks at these points, from all alternatives of the model."""
        if not len(points):
            return []
        window = self.model.card.make_frame_window(video.shape[1:])
        embedding = self.model.embed([(video.read_frame(frame), window)])[0]
        queries = [
            Query(number + 1, FramePrompts(((float(y), float(x)),), (True,)))
            for number, (y, x) in enumerate(points)
        ]
        found = []
        for start in range(0, len(queries), _BATCH_SIZE):
            for segment, place in zip(
                self.model.segment(embedding, queries[start : start + _BATCH_SIZE]),
                points[start:],
                strict=False,
            ):
                found += _select_stable_masks(
                    segment, (float(place[0]), float(place[1])), video.shape[1:]
                )
        return found

    def _make_prompt(
        self, candidate: CandidateMask, video: Video, frame: int, track: int
    ) -> Prompt:
        if self.options.kind == "point":
            return PointPrompt(frame, track, [candidate.point], [True])
        return make_prompt(
            candidate.mask, candidate.corner, video.shape[1:], frame, track, self.options.kind
        )


class EverythingDetector(GridDetector):
    """32 points along the longer side, for objects of any size: SAM's "everything"."""

    name = "everything"

    def make_points(self, video: Video, frame: int) -> np.ndarray:
        """(n, 2) positions (y, x) to prompt."""
        return make_lattice(video.shape[1:], max(video.shape[1:]) / _POINTS_PER_SIDE)


def make_lattice(shape: tuple[int, ...], spacing_px: float) -> np.ndarray:
    """(n, 2) positions (y, x) about `spacing_px` pixels apart, half a step from the edges."""
    axes = [
        (np.arange(max(1, round(side / spacing_px))) + 0.5)
        * side
        / max(1, round(side / spacing_px))
        - 0.5
        for side in shape
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def remove_duplicates(
    candidates: Sequence[CandidateMask], shape: tuple[int, ...]
) -> list[CandidateMask]:
    """Candidates without duplicates and parts of better ones, best first."""
    taken = np.zeros(shape, dtype=np.int32)
    kept: list[CandidateMask] = []
    for answer in sorted(candidates, key=lambda each: (-each.score, each.corner)):
        place = tuple(
            slice(low, low + side)
            for low, side in zip(answer.corner, answer.mask.shape, strict=True)
        )
        under, pixels = np.unique(taken[place][answer.mask], return_counts=True)
        rivals = [
            (int(n), kept[int(code) - 1].area_px)
            for code, n in zip(under, pixels, strict=True)
            if code
        ]
        if any(
            n / (area + answer.area_px - n) >= _DUPLICATE_IOU
            or n >= _CONTAINED_FRACTION * min(area, answer.area_px)
            for n, area in rivals
        ):
            continue
        kept.append(answer)
        taken[place][answer.mask & (taken[place] == 0)] = len(kept)
    return kept


def make_frame_prompts(prompt: Prompt) -> FramePrompts:
    """The prompts of a frame that hold just this one."""
    if isinstance(prompt, PointPrompt):
        return FramePrompts(prompt.yx, prompt.positive)
    return (
        FramePrompts(box=prompt.box)
        if isinstance(prompt, BoxPrompt)
        else FramePrompts(mask=prompt.mask)
    )


def _select_stable_masks(
    segment: Segment, point: tuple[float, float], shape: tuple[int, ...]
) -> list[CandidateMask]:
    if not segment.present:
        return []
    offers = [(each.logits, each.iou) for each in segment.alternatives] or [
        (segment.logits, segment.iou)
    ]
    found = []
    for logits, iou in offers:
        stable = compute_stability(logits)
        if iou < MIN_PREDICTED_IOU or stable < MIN_STABILITY:
            continue
        rows, columns = segment.window.find_positive_region(logits, (shape[0], shape[1]))
        mask = segment.window.paste(logits, rows, columns) > 0
        if 0 < np.count_nonzero(mask) <= _MAX_FRAME_FRACTION * shape[0] * shape[1]:
            found.append(
                CandidateMask(mask, (rows.start, columns.start), float(iou * stable), point)
            )
    return found


def compute_stability(logits: np.ndarray) -> float:
    """IoU of the mask with its edge moved out and in: near 1 if the edge is sharp; 0 if empty."""
    wide = np.count_nonzero(logits > -_STABILITY_OFFSET)
    return np.count_nonzero(logits > _STABILITY_OFFSET) / wide if wide else 0.0


def _is_free(candidate: CandidateMask, occupied: np.ndarray) -> bool:
    place = tuple(
        slice(low, low + side)
        for low, side in zip(candidate.corner, candidate.mask.shape, strict=True)
    )
    return bool(np.count_nonzero(candidate.mask & occupied[place]) <= 0.5 * candidate.area_px)
