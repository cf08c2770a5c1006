"""Counting: from a stack without any prompt to tracks, labels and tables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.api.counting_options import CountingOptions, get_object_scale
from napari_sam2.api.exports import ExportData, check_exports, write_exports
from napari_sam2.api.results import JobResult, LabelFormat, format_count, save_results
from napari_sam2.api.resume import (
    OutputRun,
    UnfinishedRun,
    load_named_model,
    make_evidence,
    make_other_job_error,
    read_provenance,
)
from napari_sam2.api.tables import Tables
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import IntensityError
from napari_sam2.core.inference_options import InferenceOptions, check_evidence
from napari_sam2.core.plan import Propagation
from napari_sam2.core.protocols import (
    Detector,
    ExplainingDetector,
    ObjectEvidence,
    VideoModel,
)
from napari_sam2.core.stack import Stack, Video
from napari_sam2.detection.label_images import LabelImageDetector
from napari_sam2.detection.registry import AUTO
from napari_sam2.detection.sized import SizedDetector
from napari_sam2.io.open import open_stack
from napari_sam2.io.output_folder import check_output
from napari_sam2.measurement.counts import count_objects
from napari_sam2.measurement.features.classes import (
    CategoryRule,
    classify_by_rules,
    set_categories,
)
from napari_sam2.measurement.label_faults import LabelFaults
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.models.device import describe_device
from napari_sam2.propagation.run_state import RunState
from napari_sam2.propagation.session import Run, Session, SessionSettings, describe_evidence
from napari_sam2.tracking.model_association import ModelAssociation
from napari_sam2.tracking.pipeline import TrackingPipeline
from napari_sam2.tracking.predictor import make_detection_policy
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage
from napari_sam2.tracking.saved_work import SavedWork
from napari_sam2.tracking.seed_association import SeedAssociation

__all__ = ["CountResult", "CountingOptions", "count", "count_video"]

log = logging.getLogger(__name__)

CountProgress = Callable[[TrackingProgress], None]
"""Called after each step of a count."""

_PATIENCE = 8


@dataclass(frozen=True, eq=False)
class CountResult:
    """A finished count: labels and tables in `run`, and the session, in which it can be corrected.

    `notes` are decisions that were taken for the user.
    """

    run: Run
    notes: tuple[str, ...]

    @property
    def session(self) -> Session:
        """The session; its prompts can be edited like those of a person."""
        return self.run.session


@dataclass(frozen=True)
class VideoSelection:
    """The part of a stack that is counted; see `Stack.as_video`."""

    along: str | None = None
    channel: int | None = None
    at: Mapping[str, int] | None = None
    contrast: tuple[float, float] | None = None

    def open_video(self, stack: Stack) -> Video:
        """A video of the stack. A constant stack is no error: it just has no objects."""
        contrast = None if self.contrast is None else Contrast(*self.contrast)
        try:
            return self._select(stack, contrast)
        except IntensityError:
            video = self._select(stack, Contrast(0.0, 1.0))
            value = float(video.read_raw_plane(0).flat[0])
            if any(np.any(video.read_raw_plane(frame) != value) for frame in range(len(video))):
                raise
            return self._select(stack, Contrast(value, value + 1.0))

    def _select(self, stack: Stack, contrast: Contrast | None) -> Video:
        return Video.of(
            stack, along=self.along, channel=self.channel, at=self.at, contrast=contrast
        )


@dataclass(frozen=True)
class CountOutput:
    """Where and how the results of a count are written.

    Parameters
    ----------
    out
        Output folder.
    also
        Exports; see `exports.EXPORTS`.
    format
        Format of the labels.
    settings
        Recorded in the provenance.
    patience, evidence
        See `SessionSettings`.
    """

    out: Path
    also: Sequence[str] = ("report",)
    format: LabelFormat = "tiff"
    settings: Mapping[str, Any] | None = None
    patience: int | None = _PATIENCE
    evidence: str = "none"


def count_video(
    video: Video,
    model: VideoModel,
    options: CountingOptions | None = None,
    *,
    settings: SessionSettings | None = None,
    evidence: ObjectEvidence | None = None,
    progress: CountProgress | None = None,
    report: Callable[[str], None] = log.info,
) -> CountResult:
    """Detect, link and propagate every object of a video.

    The caller closes the session (``result.session.close()``). See `Session` for `evidence`.
    """
    chosen = settings or SessionSettings(patience=_PATIENCE)
    session = make_counting_session(video, model, chosen, evidence)
    return count_in_session(session, options or CountingOptions(), progress=progress, report=report)


def make_counting_session(
    video: Video,
    model: VideoModel,
    settings: SessionSettings,
    evidence: ObjectEvidence | None = None,
) -> Session:
    """An empty session with a policy for objects that are prompted on every frame."""
    policy = make_detection_policy(model.card)
    return Session(video, model, policy=policy, settings=settings, evidence=evidence)


def count_in_session(
    session: Session,
    options: CountingOptions,
    *,
    saved: SavedWork | None = None,
    progress: CountProgress | None = None,
    report: Callable[[str], None] = log.info,
) -> CountResult:
    """Count in an empty session; see `TrackingPipeline` for `saved`.

    Raises LabelsError, before the work begins, for rules on a feature that the tables do not have.
    """
    video = session.video
    rules = options.parse_rules(video)
    detector = options.open_detector(video, session.model)
    pipeline = TrackingPipeline(
        session,
        detector,
        association=SeedAssociation() if options.association == "seeds" else ModelAssociation(),
        linking=options.make_linking_options(detector, video),
        category=options.category,
        saved=saved,
    )
    for step in _report_stages(pipeline.run(), report):
        if progress is not None:
            progress(step)
    run = session.run(Propagation(())).finish()
    if rules:
        _assign_categories(run, rules)
    return CountResult(run, collect_notes(pipeline, options))


def _report_stages(
    steps: Iterable[TrackingProgress], report: Callable[[str], None]
) -> Iterable[TrackingProgress]:
    """The steps; one line for each stage that begins."""
    stage: TrackingStage | None = None
    for step in steps:
        if step.stage != stage and step.stage in _STAGE_LINES:
            report(_STAGE_LINES[step.stage])
        stage = step.stage
        if step.doubt:
            report(step.doubt)
        yield step


_STAGE_LINES = {
    TrackingStage.DETECT: "detecting objects",
    TrackingStage.LINK: "linking detections",
}


def _assign_categories(run: Run, rules: list[CategoryRule]) -> None:
    """Give each track the category of its features, in the log and in the tables."""
    categories = classify_by_rules(run.objects, rules)
    run.session.describe(
        *(
            replace(run.session.log.get_track(track), category=category)
            for track, category in categories.items()
        )
    )
    objects, tracks = (set_categories(rows, categories) for rows in (run.objects, run.tracks))
    run.results.tables = Tables(objects, tracks, count_objects(objects, len(run.session.video)))


def count(
    input: Any,
    *,
    out: str | Path | None = None,
    model: str | VideoModel = "nano",
    also: Sequence[str] = (),
    evidence: str = "none",
    resume: bool = False,
    progress: CountProgress | None = None,
    report: Callable[[str], None] = log.info,
    **options: Any,
) -> CountResult | JobResult:
    """Count every object of a stack, without any prompt.

    Parameters
    ----------
    input
        A path, an array or a Stack.
    out
        Folder for labels, tables, picture, prompts, report and provenance; then a `JobResult` is
        returned, else a `CountResult`.
    model
        A model or its name.
    also
        What else is written to `out`: some of "ctc", "geff", "parquet", "h5ad"; see
        `exports.EXPORTS`. The report always is.
    evidence
        What the learned detector is used for where the model propagates: "all", "none", or some of
        "click", "presence", "mask" and "review" with commas.
    resume
        Continue an interrupted count in `out`.
    progress, report
        Called after each step, and with one line before each part of the work.
    options
        The fields of `VideoSelection` (``along``, ``channel``, ``at``, ``contrast``), of
        `InferenceOptions` (``device``, ``attention``, ``precision``, ``windows``) and of
        `CountingOptions`.

    Raises
    ------
    Sam2Error
        Any of `core.errors`.
    """
    selection = VideoSelection(**_take_fields(options, VideoSelection))
    inference = InferenceOptions(**_take_fields(options, InferenceOptions))
    counting = CountingOptions.from_fields(options)
    check_counting_options(counting, also)
    check_evidence(evidence)
    stack = input if isinstance(input, Stack) else open_stack(input)
    video = selection.open_video(stack)

    @cache
    def load_model() -> VideoModel:
        report(f"input: {stack.source or stack.name}: {video.description}")
        loaded = load_named_model(model, inference) if isinstance(model, str) else model
        report(f"model: {loaded.card.name} on {describe_device(loaded.device)}")
        return loaded

    found = make_evidence(video, evidence, inference)
    if out is None:
        chosen = SessionSettings(patience=_PATIENCE, evidence=evidence)
        return count_video(
            video,
            load_model(),
            counting,
            settings=chosen,
            evidence=found,
            progress=progress,
            report=report,
        )
    settings = counting.model_dump(mode="json")
    used = describe_evidence(found, evidence)
    output = CountOutput(Path(out), ("report", *also), settings=settings, evidence=evidence)
    run = make_count_run(
        output,
        video,
        counting,
        resume=resume,
        is_finished=lambda: _is_finished(Path(out), video, load_model(), settings, used),
        load_model=load_model,
        used_evidence=used,
    )
    return run.execute(make_count_work(output, video, counting, found, progress, report))


def _take_fields(options: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Take the fields of a dataclass out of `options`."""
    return {each.name: options.pop(each.name) for each in fields(kind) if each.name in options}


def make_count_run(
    output: CountOutput,
    video: Video,
    options: CountingOptions,
    *,
    resume: bool,
    is_finished: Callable[[], bool],
    load_model: Callable[[], VideoModel],
    used_evidence: Mapping[str, str],
) -> OutputRun:
    """The run of a count that can be resumed."""
    return OutputRun(
        output.out,
        resume,
        is_finished,
        load_model,
        lambda card: {
            "video": video.identity,
            **card.inference_identity,
            "patience": output.patience,
            "counting": options.identify(load_model()),
            **used_evidence,
        },
    )


def make_count_work(
    output: CountOutput,
    video: Video,
    options: CountingOptions,
    evidence: ObjectEvidence | None,
    progress: CountProgress | None,
    report: Callable[[str], None],
) -> Callable[[VideoModel, UnfinishedRun], JobResult]:
    """The work of a count, for `OutputRun.execute`."""

    def work(model: VideoModel, unfinished: UnfinishedRun) -> JobResult:
        settings = SessionSettings(
            patience=output.patience, folder=unfinished.folder, evidence=output.evidence
        )
        with make_counting_session(video, model, settings, evidence) as session:
            result = count_in_session(
                session,
                options,
                saved=SavedWork(unfinished.folder),
                progress=progress,
                report=report,
            )
            report(f"writing: labels, tables and picture to {output.out}")
            return save_count_result(result, output)

    return work


def _is_finished(
    out: Path,
    video: Video,
    model: VideoModel,
    settings: Mapping[str, Any],
    used_evidence: Mapping[str, str],
) -> bool:
    """Whether `out` holds this very count. Raises PlanError if it holds another one."""
    provenance = read_provenance(out)
    if provenance is None:
        return False
    source, made = provenance["input"], provenance["model"]
    identity = {"model": made["sha256"], **{name: made.get(name) for name in made}}
    expected = model.card.inference_identity
    same = (
        source["identity"] == video.stack.identity
        and (source["along"], source["channel"]) == (video.along, video.channel)
        and (source["at"], source["contrast"]) == (dict(video.at), asdict(video.contrast))
        and {name: identity.get(name) for name in expected} == expected
        and provenance["settings"].get("job") == settings
        and provenance["settings"].get("evidence") == used_evidence.get("evidence")
    )
    if not same:
        raise make_other_job_error(out)
    return True


def check_counting_options(options: CountingOptions, exports: Sequence[str]) -> None:
    """Raise PlanError or OutputError for impossible rules or exports, before the work begins."""
    check_exports(exports)
    for category, text in options.rules.items():
        CategoryRule.of(category, text)


def save_count_result(result: CountResult, output: CountOutput) -> JobResult:
    """Write all results and exports. Raises OutputError if the folder cannot be written."""
    results, out = result.run.results, output.out
    check_output(out)
    write_exports(ExportData.of(results, result.notes), out, output.also)
    save_results(results, out, format=output.format, notes=result.notes, settings=output.settings)
    frames = len(result.session.video)
    divisions = result.run.tracks["parent"].dropna().nunique()
    summary = " ".join(
        [
            format_count(len(result.run.tracks), "object"),
            f"on {frames} frames" if frames > 1 else "on one frame",
        ]
    )
    if divisions:
        summary += f", {divisions} of them divided"
    return JobResult(out, RunState.DONE, summary, result.notes)


def collect_notes(pipeline: TrackingPipeline, options: CountingOptions) -> tuple[str, ...]:
    """Decisions that were taken for the user."""
    video, detector = pipeline.session.video, pipeline.detector
    notes = [
        *video.stack.notes,
        f"seeds from {detector.name}" + (" (auto)" if options.seeds == AUTO else ""),
        *_collect_scale_notes(detector, video, options),
        *_collect_label_notes(detector, video),
        *(detector.get_notes(video) if isinstance(detector, ExplainingDetector) else ()),
    ]
    if video.spacing.pixel_um2 is None:
        notes.append("no spacing known: sizes are in pixels, columns in µm are empty")
    if video.along == "z" and video.spacing.z_um is None:
        notes.append(
            "no z spacing known: slices are taken to be a pixel apart, volumes in µm³ are empty"
        )
    notes.append(
        f"objects on fewer than {pipeline.linking.min_frames} frames dropped, unless the stack "
        "begins or ends there"
    )
    return tuple(notes)


def _collect_label_notes(detector: Detector, video: Video) -> tuple[str, ...]:
    """Whether the labels of another tool are a mask; numbers of each frame are linked anyway."""
    if not isinstance(detector, LabelImageDetector):
        return ()
    planes = LabelPlanes.of(detector.options.labels, video.shape)
    return LabelFaults.of(planes).describe_pieces()


def _collect_scale_notes(detector: Detector, video: Video, options: CountingOptions) -> list[str]:
    notes = []
    scale = get_object_scale(detector, video)
    if isinstance(detector, SizedDetector) and not (options.diameter_px or options.diameter_um):
        notes.append(
            f"diameter of {scale.diameter_px:.1f} px estimated"
            if scale
            else "no objects to estimate a size from"
        )
    if scale and options.dark is None and not isinstance(detector, ExplainingDetector):
        notes.append(
            f"objects taken for {'darker' if scale.dark else 'brighter'} than the background"
        )
    return notes
