"""Detection by example: objects that resemble those that a person prompted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import MaskPrompt, Prompt
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.stack import Video
from napari_sam2.detection.grid import GridDetector, make_frame_prompts
from napari_sam2.detection.object_scale import is_dark
from napari_sam2.detection.options import DetectionOptions, PromptKind
from napari_sam2.detection.prompts import make_label_prompts, make_prompt
from napari_sam2.detection.watershed import segment_objects

MIN_SIMILARITY = 0.75
"""Smallest product of pointer cosine and area ratio; 1 for the example itself."""


@dataclass(frozen=True, eq=False)
class _Appearance:
    """How an object looks to the model: its (C,) object pointer, of length 1, and its area."""

    pointer: np.ndarray
    area_px: float


class ExemplarDetector(GridDetector):
    """Objects that resemble one of `DetectionOptions.examples` by object pointer and size.

    The candidates are objects that the classical detector finds at the size of the examples.
    """

    name = "examples"

    def __init__(self, options: DetectionOptions | None = None) -> None:
        super().__init__(options)
        if not self.options.examples:
            raise PromptError("the detector 'examples' has no examples: click some objects first")

    def detect(
        self, video: Video, frame: int, *, first_track: int = 1, occupied: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `Detector`."""
        examples = [look for look in self._describe_objects(video, self.options.examples) if look]
        if not examples:
            return []
        diameter = float(np.sqrt(np.median([each.area_px for each in examples]) * 4 / np.pi))
        pixels = video.read_frame(frame).pixels
        dark = is_dark(pixels) if self.options.dark is None else self.options.dark
        labels = segment_objects(1.0 - pixels if dark else pixels, (diameter, diameter))
        candidates = make_label_prompts(labels, frame, "mask", 1, occupied)
        alike = [
            candidate
            for candidate, look in zip(
                candidates, self._describe_objects(video, candidates), strict=True
            )
            if look and max(_compute_similarity(look, each) for each in examples) >= MIN_SIMILARITY
        ]
        return [
            _convert_prompt(self.options.kind, candidate, first_track + number)
            for number, candidate in enumerate(alike)
        ]

    def _describe_objects(
        self, video: Video, prompts: Sequence[Prompt]
    ) -> list[_Appearance | None]:
        """Appearance of the object of each prompt; None where the model sees none."""
        window = self.model.card.make_frame_window(video.shape[1:])
        found: dict[int, _Appearance | None] = {}
        for frame in sorted({prompt.frame for prompt in prompts}):
            here = [index for index, prompt in enumerate(prompts) if prompt.frame == frame]
            embedding = self.model.embed([(video.read_frame(frame), window)])[0]
            segments = self.model.segment(
                embedding, [Query(index + 1, make_frame_prompts(prompts[index])) for index in here]
            )
            found |= {
                index: _describe_segment(segment)
                for index, segment in zip(here, segments, strict=True)
            }
        return [found[index] for index in range(len(prompts))]


def _describe_segment(segment: Segment) -> _Appearance | None:
    mask, window = segment.logits > 0, segment.window
    if not segment.present or not mask.any():
        return None
    cell_px = (window.height / mask.shape[0]) * (window.width / mask.shape[1])
    return _Appearance(
        segment.pointer / max(1e-9, float(np.linalg.norm(segment.pointer))),
        float(np.count_nonzero(mask)) * cell_px,
    )


def _convert_prompt(kind: PromptKind, candidate: Prompt, track: int) -> Prompt:
    assert isinstance(candidate, MaskPrompt)
    y, x, y2, x2 = candidate.rectangle
    return make_prompt(
        candidate.mask[y:y2, x:x2], (y, x), candidate.shape, candidate.frame, track, kind
    )


def _compute_similarity(appearance: _Appearance, exemplar: _Appearance) -> float:
    cosine = float(appearance.pointer @ exemplar.pointer)
    return (
        max(0.0, cosine)
        * min(appearance.area_px, exemplar.area_px)
        / max(appearance.area_px, exemplar.area_px, 1e-9)
    )
