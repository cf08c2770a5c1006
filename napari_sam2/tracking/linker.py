"""Linker: detections of single frames become tracklets, one per object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.prompt import MaskPrompt, Prompt
from napari_sam2.tracking.divisions import find_divisions
from napari_sam2.tracking.linking import find_ambiguous_tracks, link_frames
from napari_sam2.tracking.merged_objects import find_merged_objects, split_merged_object
from napari_sam2.tracking.predictor import TrackPredictor
from napari_sam2.tracking.tracklets import MIN_DAUGHTER_FRAMES, Tracklet


@dataclass(frozen=True)
class LinkingOptions:
    """How objects of single frames become tracks.

    Parameters
    ----------
    patience
        Frames in a row on which an object may be missed; the model propagates it over them.
    min_frames
        Frames on which an object must be detected, unless the video begins or ends on it.
    reach_px
        How far an object may move between frames if it overlaps nothing; about twice its diameter.
    divisions
        Whether objects may divide (along t).
    """

    patience: int = 2
    min_frames: int = 2
    reach_px: float = 20.0
    divisions: bool = True


class Linker:
    """Tracklets that grow frame by frame.

    Parameters
    ----------
    predictor
        Answers what masks alone do not decide.
    options
        How objects become tracks.
    """

    def __init__(self, predictor: TrackPredictor, options: LinkingOptions) -> None:
        self.tracklets: dict[int, Tracklet] = {}
        self._predictor = predictor
        self._options = options
        self._length, self._shape = len(predictor.video), predictor.video.shape[1:]
        self._last_masks: dict[int, MaskPrompt] = {}
        # by tracklet and frame: the tracklet with whose object it was merged there
        self._merged_frames: dict[int, dict[int, int]] = defaultdict(dict)

    def add_frame(self, frame: int, prompts: Sequence[Prompt]) -> int:
        """Add the detections of a frame; return how many tracklets begin there."""
        detections = _FrameDetections.of(prompts, self._predictor.segment(prompts), self._shape)
        previous = self._draw_last_masks(frame)
        predicted = self._predict_ambiguous(frame, previous, detections.plane)
        links = link_frames(
            previous,
            detections.plane,
            predicted=predicted,
            max_distance_px=self._options.reach_px,
        )
        for plane in (previous,) if predicted is None else (predicted, previous):
            self._split_merged(frame, plane, detections, links)
        parents = self._find_parents(frame, previous, detections, links)
        tracklet_of = {label: number for number, label in links.items()}
        born = [label for label in detections.labels if label not in tracklet_of]
        for label in born:
            number = max(self.tracklets, default=0) + 1
            tracklet_of[label] = number
            self.tracklets[number] = Tracklet(number, parent=parents.get(label))
        for label, number in tracklet_of.items():
            self.tracklets[number].prompts[frame] = detections.prompts[label]
            self._last_masks[number] = detections.masks[label]
        return len(born)

    def resolve_tracklets(self) -> list[Tracklet]:
        """All tracklets.

        A tracklet that merged with another object and was never seen apart again was a part of it:
        its pixels go to that object.
        """
        for number, owners in self._merged_frames.items():
            tracklet = self.tracklets[number]
            last_apart = max(frame for frame in tracklet.prompts if frame not in owners)
            if tracklet.last == self._length - 1:
                continue
            for frame in [frame for frame in owners if frame > last_apart]:
                part, owner = tracklet.prompts.pop(frame), owners[frame]
                while frame not in self.tracklets[owner].prompts:  # it was a part itself
                    owner = self._merged_frames[owner][frame]
                prompts = self.tracklets[owner].prompts
                prompts[frame] = _merge_masks(prompts[frame], part)
        return list(self.tracklets.values())

    def _draw_last_masks(self, frame: int) -> np.ndarray:
        """(H, W) labels of tracklets where they were last seen; newer ones are in front."""
        oldest = frame - 1 - self._options.patience
        self._last_masks = {
            number: mask for number, mask in self._last_masks.items() if mask.frame >= oldest
        }
        by_age = sorted(self._last_masks.items(), key=lambda each: (each[1].frame, each[0]))
        return _draw_masks(by_age, self._shape)

    def _split_merged(
        self, frame: int, previous: np.ndarray, detections: _FrameDetections, links: dict[int, int]
    ) -> None:
        """Split detections that hold several tracklets, and link each to its part.

        A tracklet is looked for in another one's object no longer than it was seen apart.
        """
        confirmed = {
            number
            for number in self._last_masks
            if max(MIN_DAUGHTER_FRAMES, 2 * len(self._merged_frames[number]) + 1)
            <= len(self.tracklets[number].prompts)
        }
        merged = find_merged_objects(previous, detections.plane, links, confirmed)
        for label, numbers in merged.items():
            pieces = split_merged_object(detections.plane == label, previous, numbers)
            if not all((pieces == number).any() for number in numbers):
                continue
            links.update(detections.split(label, pieces, numbers))
            for number in numbers[1:]:
                self._merged_frames[number] = {**self._merged_frames[number], frame: numbers[0]}

    def _find_parents(
        self, frame: int, previous: np.ndarray, detections: _FrameDetections, links: dict[int, int]
    ) -> dict[int, int]:
        """Parents by daughter; until both are confirmed, the parent goes on as the other one."""
        if not (self._options.divisions and frame):
            return {}
        divisions = find_divisions(
            previous,
            detections.plane,
            links,
            sorted(set(detections.labels) - set(links.values())),
            max_distance_px=self._options.reach_px,
        )
        links.update({each.parent: each.continued for each in divisions})
        return {each.born: each.parent for each in divisions}

    def _predict_ambiguous(
        self, frame: int, previous: np.ndarray, detected: np.ndarray
    ) -> np.ndarray | None:
        """(H, W) labels of ambiguous tracklets where the model predicts them; None if none is."""
        ambiguous = {
            number: self._last_masks[number]
            for number in find_ambiguous_tracks(previous, detected)
            if self._last_masks[number].frame == frame - 1
        }
        if not ambiguous or not detected.any():
            return None
        return self._predictor.predict(ambiguous, frame)


@dataclass(frozen=True, eq=False)
class _FrameDetections:
    """Detections of one frame: (H, W) label plane; masks and prompts by label, from 1."""

    plane: np.ndarray
    masks: dict[int, MaskPrompt]
    prompts: dict[int, Prompt]

    @classmethod
    def of(
        cls,
        prompts: Sequence[Prompt],
        masks: Sequence[MaskPrompt | None],
        shape: tuple[int, ...],
    ) -> _FrameDetections:
        by_label = {label: mask for label, mask in enumerate(masks, start=1) if mask}
        plane = _draw_masks(by_label.items(), shape)
        return cls(plane, by_label, {label: prompts[label - 1] for label in by_label})

    @property
    def labels(self) -> list[int]:
        """Labels with pixels; an object that lies wholly behind others has none."""
        return [int(label) for label in np.unique(self.plane[self.plane > 0])]

    def split(self, label: int, pieces: np.ndarray, numbers: Sequence[int]) -> dict[int, int]:
        """Replace an object by its pieces; return their labels by number in `pieces`.

        The first one keeps the label.
        """
        first_new = max(self.masks) + 1
        new = range(first_new, first_new + len(numbers) - 1)
        labels = dict(zip(numbers, (label, *new), strict=True))
        frame = self.masks[label].frame
        for number, own in labels.items():
            self.plane[pieces == number] = own
            self.masks[own] = self.prompts[own] = MaskPrompt(frame, own, pieces == number)
        return labels


def _merge_masks(first: Prompt, second: Prompt) -> MaskPrompt:
    assert isinstance(first, MaskPrompt) and isinstance(second, MaskPrompt)
    return MaskPrompt(first.frame, first.track, first.mask | second.mask)


def _draw_masks(masks: Iterable[tuple[int, MaskPrompt]], shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) int32 labels of masks by number; later ones are in front."""
    plane = np.zeros(shape, dtype=np.int32)
    for number, mask in masks:
        y, x, y2, x2 = mask.rectangle
        plane[y:y2, x:x2][mask.crop] = number
    return plane
