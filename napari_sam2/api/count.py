"""Counting: from an image stack and not one click to tracks, labels and tables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import AliasChoices, ConfigDict, Field

from napari_sam2.api.exports import ExportData, check_exports, write_exports
from napari_sam2.api.fields import ValidatedModel
from napari_sam2.api.job import JobResult, LabelFormat, load_named_model, save_results
from napari_sam2.api.tables import Tables, open_labels_for
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import IntensityError, PlanError
from napari_sam2.core.inference_options import (
    DEFAULT_ATTENTION,
    Attention,
    InferenceOptions,
    Precision,
    Windows,
)
from napari_sam2.core.plan import Propagation
from napari_sam2.core.protocols import Detector, VideoModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.detection.options import DetectionOptions, PromptKind
from napari_sam2.detection.registry import AUTO, DETECTORS, open_detector
from napari_sam2.detection.sized import SizedDetector
from napari_sam2.io.open import open_stack
from napari_sam2.io.output_folder import check_output, lock_folder
from napari_sam2.measurement.columns import get_object_columns, make_table
from napari_sam2.measurement.counts import count_objects
from napari_sam2.measurement.features.classes import (
    CategoryRule,
    classify_by_rules,
    compute_track_features,
    set_categories,
)
from napari_sam2.measurement.features.objects import count_channels
from napari_sam2.models.device import describe_device
from napari_sam2.propagation.memory_policies import Sam2Policy
from napari_sam2.propagation.run_state import Progress, RunState
from napari_sam2.propagation.session import Run, Session, SessionSettings
from napari_sam2.tracking.linker import LinkingOptions
from napari_sam2.tracking.pipeline import commit_tracks, detect_tracks, detect_unexplained

log = logging.getLogger(__name__)

Association = Literal["seeds", "model"]
_MAX_STEP_DIAMETERS = 2.0  # of a diameter: as far as an object goes from one frame to the next
_MAX_CONDITIONING_FRAMES = (
    2  # prompted frames shown at once: every frame is one here, and the nearest tell most
)


class CountingOptions(ValidatedModel):
    """How objects that nobody clicked are found and joined. Unknown fields are errors.

    Parameters
    ----------
    seeds
        A source by name (see `sources.registry.SOURCES`), "auto" for the one that measured best, or
        a label image of another tool.
    kind
        What a seed is said as: its outline ("mask"), its "box", or a click ("point"). The model
        answers the last two.
    association
        "seeds": objects are found on every frame and joined, the model tells who is who where masks
        do not, and fills gaps. "model": found on the first frame and carried by the model, then
        again what it does not explain, to the end.
    diameter_px, diameter_um, dark
        See `DetectionOptions`; guessed where not given.
    patience
        Frames an object may be missed on and still be the same.
    min_frames
        Frames it must be found on, unless the video begins or ends there; 2 along t, and along z a
        third of a diameter.
    category
        What all objects are called.
    rules
        Condition by category, e.g. ``{"large": "area_px > 500"}``: the first that holds for a track
        is its category.
    """

    model_config = ConfigDict(serialize_by_alias=True, extra="forbid", frozen=True)

    seeds: str = AUTO
    kind: PromptKind = "mask"
    association: Association = Field(
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
        """The source of seeds for a video.

        Raises PlanError for one that nobody knows, LabelsError for labels that do not fit.
        """
        labels, name = None, self.seeds
        if name != AUTO and name not in DETECTORS and Path(name).exists():
            labels, name = open_labels_for(Path(name), video), "labels"
        elif name != AUTO and name not in DETECTORS:
            raise PlanError(
                f"seeds {name!r}: expected {AUTO}, one of {', '.join(DETECTORS)}, or a label image "
                "that exists"
            )
        hints = DetectionOptions(
            self.diameter_px, self.diameter_um, self.dark, self.kind, model, labels
        )
        return open_detector(name, hints)

    def make_linking_options(self, detector: Detector, video: Video) -> LinkingOptions:
        """How objects become tracks, by their size."""
        guess = detector.get_scale(video) if isinstance(detector, SizedDetector) else None
        diameter = guess.diameter_px if guess else 20.0
        thick = (
            diameter
            * (video.spacing.y_um or 1.0)
            / (video.spacing.z_um or video.spacing.y_um or 1.0)
        )
        least = self.min_frames or (
            max(1, min(len(video) // 4, round(thick / 3))) if video.along == "z" else 2
        )
        return LinkingOptions(
            self.patience,
            least,
            reach_px=_MAX_STEP_DIAMETERS * diameter,
            divisions=video.along == "t",
        )


@dataclass(frozen=True, eq=False)
class CountResult:
    """What counting came to: the Run, with labels and tables, and its session, in which everything can be corrected."""

    run: Run
    notes: tuple[str, ...]

    @property
    def session(self) -> Session:
        """All prompts as if they had been clicked."""
        return self.run.session


def count_video(
    video: Video,
    model: VideoModel,
    options: CountingOptions | None = None,
    *,
    settings: SessionSettings | None = None,
    report: Callable[[str], None] = log.info,
) -> CountResult:
    """Find, join and carry every object of a video.

    The caller closes the session (``found.session.close()``).
    """
    options = options or CountingOptions()
    session = make_counting_session(video, model, settings or SessionSettings(patience=8))
    source = options.open_detector(video, model)
    run = prepare_counting_run(session, options, source, report)
    return finish_counting_run(run, options, source)


def make_counting_session(video: Video, model: VideoModel, settings: SessionSettings) -> Session:
    """An empty session whose policy suits objects that are prompted on every frame."""
    policy = Sam2Policy(
        recent=model.card.memory_slots - 1,
        pointers=model.card.pointers,
        max_conditioning=_MAX_CONDITIONING_FRAMES,
    )
    return Session(video, model, policy=policy, settings=settings)


def prepare_counting_run(
    session: Session, options: CountingOptions, detector: Detector, report: Callable[[str], None]
) -> Run:
    """Say every object to an empty session: the Run, not begun, over the frames that objects were missed on.

    Raises LabelsError before the work begins for rules on a feature that nothing has.
    """
    _parse_rules(options, session.video)
    joining = options.make_linking_options(detector, session.video)
    if options.association == "model":
        detect_unexplained(session, detector, report, min_frames=joining.min_frames)
        return session.run(Propagation(()))
    return session.run(
        commit_tracks(
            session, detect_tracks(session, detector, joining, report), category=options.category
        )
    )


def finish_counting_run(
    run: Run, options: CountingOptions, detector: Detector, progress: Progress | None = None
) -> CountResult:
    """Carry such a Run out, and give its tracks the categories that rules ask for."""
    run.finish(progress)
    if options.rules:
        _assign_categories(run, _parse_rules(options, run.session.video))
    video = run.session.video
    return CountResult(
        run, collect_notes(detector, video, options, options.make_linking_options(detector, video))
    )


def _parse_rules(options: CountingOptions, video: Video) -> list[CategoryRule]:
    """The rules, each tried on an empty table: raises LabelsError for a feature that nothing has."""
    nothing = compute_track_features(make_table(get_object_columns(count_channels(video)), []))
    rules = [CategoryRule.of(category, text) for category, text in options.rules.items()]
    for rule in rules:
        rule.matches(nothing)
    return rules


def _assign_categories(run: Run, rules: list[CategoryRule]) -> None:
    """Give each track the category its features ask for: in the log and in the tables, which are measured once."""
    categories = classify_by_rules(run.objects, rules)
    run.session.describe(
        *(
            replace(run.session.log.track(track), category=category)
            for track, category in categories.items()
        )
    )
    objects, tracks = (set_categories(rows, categories) for rows in (run.objects, run.tracks))
    run.results.tables = Tables(objects, tracks, count_objects(objects, len(run.session.video)))


def count(
    input: Any,
    *,
    out: str | Path | None = None,
    along: str | None = None,
    channel: int | None = None,
    at: Mapping[str, int] | None = None,
    contrast: tuple[float, float] | None = None,
    model: str | VideoModel = "nano",
    device: str = "auto",
    attention: Attention = DEFAULT_ATTENTION,
    precision: Precision = "float32",
    windows: Windows = "whole",
    also: Sequence[str] = (),
    report: Callable[[str], None] = log.info,
    **options: Any,
) -> CountResult | JobResult:
    """Count every object of a stack nobody clicked in.

    Parameters
    ----------
    input
        A path, an array or a Stack.
    out
        Folder for labels, tables, picture, prompts, report and provenance; then an Outcome is
        returned, else `CountResult`.
    along, channel, at, contrast
        How the stack is walked; see `Stack.as_video`.
    model, device, attention, precision, windows
        A model or its name; where a named one runs, how it looks at tracks and what it computes in:
        see `models.load.load_model`.
    also
        What else is written to `out`: some of "ctc", "geff", "parquet", "h5ad"; see
        `exports.EXPORTS`. The report always is.
    options
        The fields of `CountingOptions`.
    """
    counting = CountingOptions.from_fields(options)
    check_counting_options(counting, also)
    stack = input if isinstance(input, Stack) else open_stack(input)
    video = make_video(stack, along=along, channel=channel, at=at, contrast=contrast)
    if out is not None:
        check_output(Path(out))
    report(f"input: {stack.source or stack.name}: {video.description}")
    loaded = (
        load_named_model(model, InferenceOptions(device, attention, precision, windows))
        if isinstance(model, str)
        else model
    )
    report(f"model: {loaded.card.name} on {describe_device(loaded.device)}")
    if out is None:
        return count_video(video, loaded, counting, report=report)
    with lock_folder(out):
        found = count_video(video, loaded, counting, report=report)
        with found.session:
            report(f"writing: labels, tables and picture to {out}")
            return save_count_result(
                found, Path(out), ["report", *also], settings=counting.model_dump(mode="json")
            )


def check_counting_options(options: CountingOptions, exports: Sequence[str]) -> None:
    """Raise PlanError or OutputError for rules or exports that cannot be: before the work begins."""
    check_exports(exports)
    for category, text in options.rules.items():
        CategoryRule.of(category, text)


def make_video(
    stack: Stack,
    *,
    along: str | None = None,
    channel: int | None = None,
    at: Mapping[str, int] | None = None,
    contrast: tuple[float, float] | None = None,
) -> Video:
    """A Video, also of a stack that is the same everywhere: there it shows nothing, and nothing is counted."""
    given = None if contrast is None else Contrast(*contrast)
    try:
        return Video.of(stack, along=along, channel=channel, at=at, contrast=given)
    except IntensityError:
        video = Video.of(stack, along=along, channel=channel, at=at, contrast=Contrast(0.0, 1.0))
        value = float(video.read_raw_plane(0).flat[0])
        if any(np.any(video.read_raw_plane(frame) != value) for frame in range(len(video))):
            raise
        return Video.of(
            stack, along=along, channel=channel, at=at, contrast=Contrast(value, value + 1.0)
        )


def save_count_result(
    result: CountResult,
    out: Path,
    also: Sequence[str] = ("report",),
    *,
    settings: Any,
    format: LabelFormat = "tiff",
) -> JobResult:
    """Write all results, `also` the exports that are named; `settings` go into the provenance.

    Raises OutputError where the folder cannot be written to.
    """
    check_output(out)
    write_exports(ExportData.of(result.run.results, result.notes), out, also)
    save_results(result.run.results, out, format=format, notes=result.notes, settings=settings)
    tracks, frames = len(result.run.tracks), len(result.session.video)
    divisions = result.run.tracks["parent"].dropna().nunique()
    divided = f", {divisions} of them divided" if divisions else ""
    where = f"on {frames} frames" if frames > 1 else "on one frame"
    return JobResult(
        out,
        RunState.DONE,
        f"{tracks} object{'' if tracks == 1 else 's'} {where}{divided}",
        result.notes,
    )


def collect_notes(
    detector: Detector, video: Video, options: CountingOptions, linking: LinkingOptions
) -> tuple[str, ...]:
    """Decisions that were taken for the user."""
    notes = [f"seeds from {detector.name}" + (" (auto)" if options.seeds == AUTO else "")]
    sized = isinstance(detector, SizedDetector)
    guess = detector.get_scale(video) if isinstance(detector, SizedDetector) else None
    if sized and options.diameter_px is None and options.diameter_um is None:
        notes.append(
            f"diameter of {guess.diameter_px:.1f} px guessed"
            if guess
            else "no objects to guess a size from"
        )
    if guess and options.dark is None:
        notes.append(
            f"objects taken for {'darker' if guess.dark else 'brighter'} than the background"
        )
    if video.spacing.pixel_um2 is None:
        notes.append("no spacing known: sizes are in pixels, columns in µm are empty")
    if video.along == "z" and video.spacing.z_um is None:
        notes.append(
            "no z spacing known: slices are taken to be a pixel apart, volumes in µm³ are empty"
        )
    return (
        *notes,
        (
            f"objects on fewer than {linking.min_frames} frames dropped, unless the stack begins or ends "
            "there"
        ),
    )
