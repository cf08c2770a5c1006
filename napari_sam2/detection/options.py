"""Hints: what a source is told beforehand about the objects it looks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from napari_sam2.core.errors import PlanError, SpacingError
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.detection.object_scale import ObjectScale, estimate_scale

PromptKind = Literal["point", "box", "mask"]
_SAMPLED_FRAMES = 5  # frames from which a size is guessed for a whole video


@dataclass(frozen=True, eq=False)
class DetectionOptions:
    """What is known beforehand; all of it may be left out.

    Parameters
    ----------
    diameter_px, diameter_um
        Of a typical object; guessed from the image where neither is given. Not both.
    dark
        Whether objects are darker than the background; guessed where None.
    kind
        What a seed becomes: a click in the middle, a box around, or the outline that was found.
        Sources that only know places give clicks.
    model
        The model that sources ask which segment objects themselves.
    labels
        Label planes of another tool, for the source "labels".
    examples
        Prompts of objects that a person clicked, for the source "examples".

    Raises PlanError or SpacingError for a diameter that is none.
    """

    diameter_px: float | None = None
    diameter_um: float | None = None
    dark: bool | None = None
    kind: PromptKind = "mask"
    model: VideoModel | None = None
    labels: Any = None
    examples: tuple[Prompt, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.diameter_px is not None and self.diameter_um is not None:
            raise PlanError("a diameter in pixels and one in µm: give one of them")
        for name in ("diameter_px", "diameter_um"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise PlanError(
                    f"{name} is {value!r}: expected a length above 0, or nothing where it is not "
                    "known"
                )

    def estimate_scale(self, video: Video) -> ObjectScale | None:
        """The size of objects in this video; None where nothing is to be seen.

        One for all frames, so that counts compare.

        Raises SpacingError for a diameter in µm where nobody knows how large a pixel is.
        """
        planes = [video.read_frame(index).pixels for index in _sample_frames(len(video))]
        guesses = [guess for plane in planes if (guess := estimate_scale(plane, dark=self.dark))]
        diameter = self._compute_diameter_px(video)
        if not guesses:
            return None if diameter is None else ObjectScale(diameter, bool(self.dark))
        dark = sum(guess.dark for guess in guesses) * 2 > len(guesses)
        alike = [guess.diameter_px for guess in guesses if guess.dark == dark]
        return ObjectScale(float(np.median(alike)) if diameter is None else diameter, dark)

    def _compute_diameter_px(self, video: Video) -> float | None:
        if self.diameter_um is None:
            return self.diameter_px
        if video.spacing.pixel_um2 is None:
            raise SpacingError(
                f"a diameter of {self.diameter_um} µm, and the image does not say its µm per "
                "pixel: give it, or a diameter in pixels"
            )
        return self.diameter_um / math.sqrt(video.spacing.pixel_um2)


def _sample_frames(length: int) -> list[int]:
    """Frames looked at: evenly over the inner part, since the ends of a z-stack hold little."""
    margin = length // 6
    return [
        int(index)
        for index in np.unique(np.linspace(margin, length - 1 - margin, _SAMPLED_FRAMES).round())
    ]
