"""CountingOptions: how objects are detected and linked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import AliasChoices, ConfigDict, Field

from napari_sam2.api.fields import ValidatedModel
from napari_sam2.api.tables import open_labels_for
from napari_sam2.core.errors import PlanError
from napari_sam2.core.prompt import Prompt
from napari_sam2.core.protocols import Detector, ObjectMapModel, VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.detection.options import DetectionOptions, PromptKind
from napari_sam2.detection.registry import AUTO, DETECTORS, open_detector, resolve_detector
from napari_sam2.detection.sized import SizedDetector
from napari_sam2.measurement.columns import get_object_columns, make_table
from napari_sam2.measurement.features.classes import CategoryRule, compute_track_features
from napari_sam2.measurement.features.objects import count_channels
from napari_sam2.tracking.association import AssociationName
from napari_sam2.tracking.linker import LinkingOptions

_DEFAULT_DIAMETER_PX = 20.0  # if the detector does not know the size of objects
_MAX_STEP_DIAMETERS = 2.0  # how far an object moves between frames at most


class CountingOptions(ValidatedModel):
    """How objects are detected and linked. Unknown fields are errors.

    Parameters
    ----------
    seeds
        Detector: one of `detection.registry.DETECTORS`, "auto" for the most accurate one, or the
        path of a label image.
    kind
        Prompt that a detection becomes: its outline ("mask"), its "box" or a click ("point"). The
        model segments boxes and clicks.
    association
        "seeds": detect on every frame and link; the model decides what overlap does not, and fills
        gaps. "model": detect on the first frame and propagate; then detect on the others what is
        not tracked yet.
    diameter_px, diameter_um, dark
        See `DetectionOptions`; estimated if not given.
    patience
        Frames in a row on which an object may be missed.
    min_frames
        Frames on which it must be detected, unless the video begins or ends on it. Default: 2 along
        t; a third of a diameter along z.
    category
        Category of all objects.
    rules
        Condition by category, e.g. ``{"large": "area_px > 500"}``. The first one that holds for a
        track gives its category.
    """

    model_config = ConfigDict(serialize_by_alias=True, extra="forbid", frozen=True)

    seeds: str = AUTO
    kind: PromptKind = "mask"
    association: AssociationName = Field(
        default="seeds",
        validation_alias=AliasChoices("association", "trust"),
        serialization_alias="trust",
    )
    diameter_px: float | None = Field(default=None, gt=0)
    diameter_um: float | None = Field(default=None, gt=0)
    dark: bool | None = None
    patience: int = Field(default=2, ge=0)
    min_frames: int | None = Field(
        default=None,
        ge=1,
        validation_alias=AliasChoices("min_frames", "least"),
        serialization_alias="least",
    )
    category: str = ""
    rules: dict[str, str] = Field(default_factory=dict)

    def open_detector(self, video: Video, model: VideoModel) -> Detector:
        """Detector for a video.

        Raises PlanError for an unknown one, LabelsError for labels that do not fit the video.
        """
        labels, name = None, self.seeds
        if name != AUTO and name not in DETECTORS and Path(name).exists():
            labels, name = open_labels_for(Path(name), video), "labels"
        elif name != AUTO and name not in DETECTORS:
            raise PlanError(
                f"seeds {name!r}: expected {AUTO}, one of {', '.join(DETECTORS)}, or a label image "
                "that exists"
            )
        return self.make_detector(name, model, labels=labels)

    def make_detector(
        self, name: str, model: VideoModel, *, labels: Any = None, examples: tuple[Prompt, ...] = ()
    ) -> Detector:
        """A detector by name; labels and examples for those that need them."""
        maps = _load_maps(model) if resolve_detector(name) == LearnedDetector.name else None
        options = DetectionOptions(
            self.diameter_px,
            self.diameter_um,
            self.dark,
            self.kind,
            model,
            labels,
            examples,
            maps,
        )
        return open_detector(name, options)

    def identify(self, model: VideoModel | str | Path) -> dict[str, Any]:
        """What two counts share if they detect the same: these options, and a network's weights."""
        options = self.model_dump(mode="json")
        if resolve_detector(self.seeds) != LearnedDetector.name:
            return options
        return {**options, "detector_sha256": _load_maps(model).sha256}

    def make_linking_options(self, detector: Detector, video: Video) -> LinkingOptions:
        """Linking options that suit the size of the objects."""
        scale = get_object_scale(detector, video)
        diameter = scale.diameter_px if scale else _DEFAULT_DIAMETER_PX
        y_um = video.spacing.y_um or 1.0
        slices = diameter * y_um / (video.spacing.z_um or y_um)
        if self.min_frames is not None:
            min_frames = self.min_frames
        elif video.along == "z":
            min_frames = max(1, min(len(video) // 4, round(slices / 3)))
        else:
            min_frames = 2
        return LinkingOptions(
            self.patience,
            min_frames,
            reach_px=_MAX_STEP_DIAMETERS * diameter,
            divisions=video.along == "t",
        )

    def parse_rules(self, video: Video) -> list[CategoryRule]:
        """The rules. Raises LabelsError for a feature that the tables of `video` do not have."""
        empty = compute_track_features(make_table(get_object_columns(count_channels(video)), []))
        rules = [CategoryRule.of(category, text) for category, text in self.rules.items()]
        for rule in rules:
            rule.matches(empty)
        return rules


def get_object_scale(detector: Detector, video: Video) -> ObjectScale | None:
    """Size of the objects of a video; None if the detector does not know it."""
    return detector.get_scale(video) if isinstance(detector, SizedDetector) else None


def _load_maps(model: VideoModel | str | Path) -> ObjectMapModel:
    from napari_sam2.models.load import load_detector  # torch takes seconds to import

    return load_detector(model)
