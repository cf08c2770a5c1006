"""Job: one headless run, from a file to labels, tables and pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from napari_sam2.api.fields import ValidatedModel
from napari_sam2.api.results import JobResult, LabelFormat, save_results, summarize_results
from napari_sam2.api.resume import (
    OutputRun,
    UnfinishedRun,
    load_named_model,
    make_evidence,
    make_other_job_error,
    read_provenance,
)
from napari_sam2.api.tables import open_labels_for
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import LabelsError, PromptError
from napari_sam2.core.inference_options import (
    DEFAULT_ATTENTION,
    Attention,
    InferenceOptions,
    Precision,
    Windows,
    check_evidence,
    rename_attention,
)
from napari_sam2.core.plan import Direction, Propagation
from napari_sam2.core.prompt import PromptLog, fit_log
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.io.open import open_stack
from napari_sam2.io.prompts import make_mask_prompts, read_prompts
from napari_sam2.models.device import describe_device
from napari_sam2.propagation.run_state import Progress
from napari_sam2.propagation.session import Run, Session, SessionSettings, describe_evidence

log = logging.getLogger(__name__)

_FIELDS_WITHOUT_EFFECT = {"resume", "device", "well"}  # fields that do not change the results


class Job(ValidatedModel):
    """One headless run. Unknown fields are errors.

    Parameters
    ----------
    input
        File, folder or glob of the image stack; see `io.open.open_stack`.
    out
        Folder for the results; created if needed.
    prompts
        CSV or JSON of prompts.
    masks, frame
        Label image whose labels are mask prompts on that frame, instead of `prompts`.
    along, channel, at, contrast
        Part of the stack that is tracked; see `Stack.as_video`. `at` fixes the other axes, e.g.
        ``{"t": 3}``; `contrast` are the intensities that the model sees as black and white, e.g.
        (-160, 240) for soft tissue in CT.
    axes, spacing, interval
        Override the file: letters, µm per pixel (z, y, x or y, x), seconds per frame.
    level, series
        Level of a pyramid, and number of the image in a file of several; both from 0.
    model, device
        A name from ``napari-sam2 models list`` or a file; "auto", "cpu", "cuda", "mps".
    attention
        Whether the model reads the part of the frame around each propagated track ("local"), the
        whole frame ("global"), or chooses for each track ("auto"): see `InferenceOptions`.
    precision
        "bfloat16" or "float16" is faster on devices that have it: see `InferenceOptions`.
    windows
        "tiles" shows the model small objects on a large frame enlarged: see `InferenceOptions`.
    evidence
        What the learned detector is used for: "all", "none", or some of "click", "presence",
        "mask" and "review" with commas; see `core.inference_options.EVIDENCE_PARTS`.
    direction, frames
        Direction of the propagation, and its frames: the first, and the one after the last.
    patience
        Frames in a row on which a track may be absent before it ends; None: it never ends.
    format
        "tiff" for ``labels.ome.tif``, "zarr" for ``labels.ome.zarr``.
    well
        Well of a plate that the stack is from, for the tables of a batch; read from `input` if it
        has one.
    resume
        Continue an interrupted run of the same job.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Path
    out: Path
    prompts: Path | None = None
    masks: Path | None = None
    frame: int = Field(default=0, ge=0)
    along: Literal["z", "t"] | None = None
    channel: int | None = None
    at: dict[str, int] = Field(default_factory=dict)
    contrast: tuple[float, float] | None = None
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    interval: float | None = None
    level: int | None = Field(default=None, ge=0)
    series: int | None = Field(default=None, ge=0)
    model: str = "nano"
    device: str = "auto"
    attention: Annotated[Attention, BeforeValidator(partial(rename_attention, warn=True))] = (
        DEFAULT_ATTENTION
    )
    precision: Precision = "float32"
    windows: Windows = "whole"
    evidence: Annotated[str, AfterValidator(check_evidence)] = "none"
    direction: Direction = "both"
    frames: tuple[int, int] | None = None
    patience: int | None = Field(default=8, ge=1)
    format: LabelFormat = "tiff"
    well: str = ""
    resume: bool = False

    @property
    def inference_options(self) -> InferenceOptions:
        """The options its model is loaded with."""
        return InferenceOptions(self.device, self.attention, self.precision, self.windows)

    def open_input(self) -> Stack:
        """The stack of this job."""
        return open_stack(
            self.input,
            axes=self.axes,
            spacing=self.spacing,
            interval=self.interval,
            level=self.level or 0,
            series=self.series,
        )

    def open_video(self) -> Video:
        """The video that this job tracks."""
        stack = self.open_input()
        contrast = None if self.contrast is None else Contrast(*self.contrast)
        return Video.of(
            stack, along=self.along, channel=self.channel, contrast=contrast, at=self.at
        )

    def load_prompts(self, video: Video) -> PromptLog:
        """Prompts of the job.

        Raises
        ------
        PromptError
            Neither prompts nor masks are given, or both; or one lies outside the video.
        PlanError
            `frames` lie outside the video.
        """
        Propagation.outward({}, length=len(video), direction=self.direction, frames=self.frames)
        return fit_log(self._read_prompts(video), video.shape)

    def _read_prompts(self, video: Video) -> PromptLog:
        if (self.prompts is None) == (self.masks is None):
            raise PromptError(
                "give exactly one of prompts (a CSV or JSON file) and masks (a label image)"
            )
        if self.prompts is not None:
            return read_prompts(self.prompts)
        labels = open_labels_for(self.masks, video)
        if self.frame >= len(video):
            raise PromptError(
                f"masks on frame {self.frame}: the video has frames 0 to {len(video) - 1}"
            )
        at = {
            axis: self.frame if axis == video.along else 0 for axis in labels.axes[:-2]
        }  # one plane, or one for each frame
        if any(index >= labels.sizes[axis] for axis, index in at.items()):
            raise LabelsError(
                f"{self.masks} has axes {labels.axes!r} {labels.data.shape!r}: expected one "
                "plane, or one for each frame"
            )
        return make_mask_prompts(labels.read_plane(at), self.frame)


def run_job(
    job: Job,
    *,
    model: VideoModel | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] = log.info,
) -> JobResult:
    """Propagate a job's prompts, and write labels, tables, picture and provenance to ``job.out``.

    What was finished before an interruption is kept in ``job.out``, and used by the same job with
    ``resume=True``. No file gets its final name before it is complete, and ``provenance.json``
    comes last.

    Parameters
    ----------
    model
        A loaded model; else ``job.model`` is loaded.
    progress
        Called after each frame.
    report
        Called with one line before each part of the work.

    Raises
    ------
    Sam2Error
        Any of `core.errors`.
    """
    video = job.open_video()
    prompts = job.load_prompts(video)
    evidence = make_evidence(video, job.evidence, job.inference_options)

    def execute(model: VideoModel, unfinished: UnfinishedRun) -> JobResult:
        with Session(
            video,
            model,
            settings=SessionSettings(
                patience=job.patience, folder=unfinished.folder, evidence=job.evidence
            ),
            on_log_change=unfinished.save_log,
            evidence=evidence,
        ) as session:
            run = _propagate_prompts(job, session, prompts, unfinished, progress)
            report(f"writing: labels, tables and picture to {job.out}")
            save_results(
                run.results,
                job.out,
                format=job.format,
                notes=_collect_notes(job, video, model.device),
                settings=job.model_dump(mode="json"),
            )
            notes = video.stack.notes
            return JobResult(job.out, run.state, summarize_results(run.results), notes)

    return make_output_run(
        job,
        video,
        model,
        report,
        {
            "direction": job.direction,
            "frames": job.frames,
            **describe_evidence(evidence, job.evidence),
        },
    ).execute(execute)


def make_output_run(
    job: Job,
    video: Video,
    model: VideoModel | None,
    report: Callable[[str], None],
    identity: Mapping[str, Any],
) -> OutputRun:
    """The run of a job; `identity` is what distinguishes it beyond video, model and patience."""

    def load_model() -> VideoModel:
        report(f"input: {job.input}: {video.description}")
        loaded = model or load_named_model(job.model, job.inference_options)
        report(f"model: {loaded.card.name} on {describe_device(loaded.device)}")
        return loaded

    return OutputRun(
        job.out,
        job.resume,
        lambda: is_finished(job),
        load_model,
        lambda card: {
            "video": video.identity,
            **card.inference_identity,
            "patience": job.patience,
            **identity,
        },
    )


def is_finished(job: Job) -> bool:
    """Whether ``job.out`` holds the results of this very job.

    Raises PlanError if it holds those of another.
    """
    provenance = read_provenance(job.out)
    if provenance is None:
        return False
    made = (provenance.get("settings") or {}).get("job") or {}
    made = {"evidence": "none", **made, "attention": rename_attention(made.get("attention"))}
    expected = json.loads(job.model_dump_json(exclude=_FIELDS_WITHOUT_EFFECT))
    if {name: made.get(name) for name in expected} != expected:
        raise make_other_job_error(job.out)
    return True


def track(input: str | Path, *, prompts: str | Path, out: str | Path, **options: Any) -> JobResult:
    """Propagate prompted objects through a stack, and write labels, tables and pictures to `out`.

    `options` are the other fields of `Job`, e.g. ``along="z"``.
    """
    return run_job(Job(input=Path(input), prompts=Path(prompts), out=Path(out), **options))


def _propagate_prompts(
    job: Job,
    session: Session,
    prompts: PromptLog,
    unfinished: UnfinishedRun,
    progress: Progress | None,
) -> Run:
    """Prompt and propagate; what is in the work folder already is not done again."""
    kept = unfinished.load_log()
    common = min(len(kept), len(prompts))
    if kept.entries[:common] != prompts.entries[:common]:
        raise PromptError(
            f"{job.out} holds an unfinished run of other prompts: give the same, or leave out "
            "--resume"
        )
    session.resume(kept)
    if len(kept) <= len(prompts):
        session.replay(prompts, progress=progress)
    run = session.run(
        None if session.unfinished else session.plan(direction=job.direction, frames=job.frames)
    )
    run.finish(progress)
    return run


def _collect_notes(job: Job, video: Video, device: str) -> tuple[str, ...]:
    """Decisions taken for the user."""
    notes = [
        f"device {device} chosen" if job.device == "auto" else "",
        f"along {video.along} chosen" if job.along is None else "",
    ]
    if job.channel is None and "c" in video.stack.axes:
        notes.append(
            "luminance of the colour image"
            if video.channel is None
            else f"channel {video.channel} of {len(video.stack.channels)} chosen"
        )
    notes += [f"{axis} {index} chosen" for axis, index in video.at if axis not in job.at]
    return tuple(note for note in (*video.stack.notes, *notes) if note)
