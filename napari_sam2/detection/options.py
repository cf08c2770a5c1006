"""DetectionOptions: what is known about the objects before they are detected."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from napari_sam2.core.errors import PlanError, SpacingError
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.protocols import ObjectMapModel, VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.detection.object_scale import ObjectScale, estimate_scale

PromptKind = Literal["point", "box", "mask"]
_SAMPLED_FRAMES = 5  # from which the size for the whole video is estimated


@dataclass(frozen=True, eq=False)
class DetectionOptions:
    """What is known about the objects; everything is optional.

    Parameters
    ----------
    diameter_px, diameter_um
        Of a typical object; estimated from the image if neither is given. Give at most one.
    dark
        Whether objects are darker than the background; None: estimated.
    kind
        What a detection becomes: a click in the middle, a box around it, or its mask. Detectors
        that only know positions give clicks.
    model
        Model, for the detectors that need one.
    labels
        Label planes of another tool, for the detector "labels".
    examples
        Prompts of objects, for the detector "examples".
    maps
        Network, for the detector "learned": `models.load.load_detector`.

    Raises
    ------
    PlanError
        Both diameters are given, or one is not above 0.
    """

    diameter_px: float | None = None
    diameter_um: float | None = None
    dark: bool | None = None
    kind: PromptKind = "mask"
    model: VideoModel | None = None
    labels: Any = None
    examples: tuple[Prompt, ...] = field(default=())
    maps: ObjectMapModel | None = None

    def __post_init__(self) -> None:
        if self.diameter_px is not None and self.diameter_um is not None:
            raise PlanError("diameter_px and diameter_um are both given: give one of them")
        for name in ("diameter_px", "diameter_um"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise PlanError(
                    f"{name} is {value!r}: expected a length above 0, or None if it is not known"
                )

    def estimate_scale(self, video: Video) -> ObjectScale | None:
        """Size of the objects in this video; None if nothing stands out.

        It is the same for all frames, so that their counts can be compared. Raises SpacingError for
        a diameter in µm if the video has no spacing, PlanError for one longer than the frame.
        """
        diameter = self.compute_diameter_px(video)
        planes = [video.read_frame(index).pixels for index in sample_frames(len(video))]
        guesses = [guess for plane in planes if (guess := estimate_scale(plane, dark=self.dark))]
        if not guesses:
            return None if diameter is None else ObjectScale(diameter, bool(self.dark))
        dark = sum(guess.dark for guess in guesses) * 2 > len(guesses)
        alike = [guess.diameter_px for guess in guesses if guess.dark == dark]
        return ObjectScale(float(np.median(alike)) if diameter is None else diameter, dark)

    def compute_diameter_px(self, video: Video) -> float | None:
        """The given diameter in pixels; None if none is given.

        Raises SpacingError for a diameter in µm if the video has no spacing, PlanError for one
        longer than the longer side of a frame.
        """
        diameter_px = self._convert_diameter(video)
        largest = max(video.shape[1:])
        if diameter_px is not None and diameter_px > largest:
            raise PlanError(
                f"a diameter of {diameter_px:.6g} px: expected at most {largest}, the longer side "
                "of a frame; give that of a typical object"
            )
        return diameter_px

    def _convert_diameter(self, video: Video) -> float | None:
        if self.diameter_um is None:
            return self.diameter_px
        if video.spacing.pixel_um2 is None:
            raise SpacingError(
                f"a diameter of {self.diameter_um} µm, and the image does not say its µm per "
                "pixel: give it, or a diameter in pixels"
            )
        return self.diameter_um / math.sqrt(video.spacing.pixel_um2)


def sample_frames(length: int) -> list[int]:
    """Frames at even distances in the inner part, because the ends of a z-stack hold little."""
    margin = length // 6
    return [
        int(index)
        for index in np.unique(np.linspace(margin, length - 1 - margin, _SAMPLED_FRAMES).round())
    ]
