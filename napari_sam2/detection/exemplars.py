"""By example: a few objects that a person clicked, and everything on a frame that resembles them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.errors import PromptError
from napari_sam2.core.prompt import MaskPrompt, Prompt
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.video import Video
from napari_sam2.detection.classical import outline
from napari_sam2.detection.grid import Grid, said
from napari_sam2.detection.object_scale import is_dark
from napari_sam2.detection.options import Hints, Kind
from napari_sam2.detection.seeds import label_prompts, mask_prompt

ALIKE = 0.75
"""Least similarity: the product of cosine of pointers and ratio of areas, 1 for the example itself."""


@dataclass(frozen=True, eq=False)
class _Look:
    """What an object looks like to the model: its (C,) pointer, of length 1; and its pixels."""

    pointer: np.ndarray
    area: float


class Examples(Grid):
    """Objects that resemble one of `Hints.examples`, by the pointers the model makes of them and by their size.

    What is compared are bodies found by classical means at the size of the examples.
    """

    name = "examples"

    def __init__(self, hints: Hints | None = None) -> None:
        super().__init__(hints)
        if not self.hints.examples:
            raise PromptError("the source 'examples' without examples: click some objects first")

    def prompts(
        self, video: Video, frame: int, *, first: int = 1, taken: np.ndarray | None = None
    ) -> list[Prompt]:
        """See `PromptSource`."""
        examples = [look for look in self._looks(video, self.hints.examples) if look]
        if not examples:
            return []
        diameter = float(np.sqrt(np.median([each.area for each in examples]) * 4 / np.pi))
        pixels = video.frame(frame).pixels
        dark = is_dark(pixels) if self.hints.dark is None else self.hints.dark
        bodies = outline(1.0 - pixels if dark else pixels, (diameter, diameter))
        candidates = label_prompts(bodies, frame, "mask", 1, taken)
        alike = [
            candidate
            for candidate, look in zip(candidates, self._looks(video, candidates), strict=True)
            if look and max(_similar(look, each) for each in examples) >= ALIKE
        ]
        return [
            _as(self.hints.kind, candidate, first + number)
            for number, candidate in enumerate(alike)
        ]

    def _looks(self, video: Video, prompts: Sequence[Prompt]) -> list[_Look | None]:
        """How the object each of these points at looks; None where the model sees none."""
        window = self.model.card.window(video.shape[1:])
        found: dict[int, _Look | None] = {}
        for frame in sorted({prompt.frame for prompt in prompts}):
            here = [index for index, prompt in enumerate(prompts) if prompt.frame == frame]
            embedding = self.model.embed([(video.frame(frame), window)])[0]
            segments = self.model.segment(
                embedding, [Query(index + 1, said(prompts[index])) for index in here]
            )
            found |= {index: _look(segment) for index, segment in zip(here, segments, strict=True)}
        return [found[index] for index in range(len(prompts))]


def _look(segment: Segment) -> _Look | None:
    mask, window = segment.logits > 0, segment.window
    if not segment.present or not mask.any():
        return None
    cell_px = (window.height / mask.shape[0]) * (window.width / mask.shape[1])
    return _Look(
        segment.pointer / max(1e-9, float(np.linalg.norm(segment.pointer))),
        float(np.count_nonzero(mask)) * cell_px,
    )


def _as(kind: Kind, candidate: Prompt, track: int) -> Prompt:
    assert isinstance(candidate, MaskPrompt)
    y, x, y2, x2 = candidate.rectangle
    return mask_prompt(
        candidate.mask[y:y2, x:x2], (y, x), candidate.shape, candidate.frame, track, kind
    )


def _similar(look: _Look, example: _Look) -> float:
    cosine = float(look.pointer @ example.pointer)
    return max(0.0, cosine) * min(look.area, example.area) / max(look.area, example.area, 1e-9)
