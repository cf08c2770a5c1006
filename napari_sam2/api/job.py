"""Job: one headless run, from a file on disk to labels, tables and pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BeforeValidator, ConfigDict, Field

from napari_sam2.api.fields import ValidatedModel
from napari_sam2.api.resume import RESUME_FOLDER, UnfinishedRun
from napari_sam2.api.tables import open_labels_for
from napari_sam2.core.card import ModelCard
from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import LabelsError, PlanError, PromptError
from napari_sam2.core.inference_options import (
    DEFAULT_ATTENTION,
    Attention,
    InferenceOptions,
    Precision,
    Windows,
    rename_attention,
)
from napari_sam2.core.plan import Direction, Propagation
from napari_sam2.core.prompt import PromptLog, check_prompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.io.open import open_stack
from napari_sam2.io.output_folder import check_output, lock_folder, remove_leftovers
from napari_sam2.io.prompts import make_mask_prompts, read_prompts, write_prompts
from napari_sam2.io.tables import write_provenance, write_tables
from napari_sam2.io.writers.sinks import LabelSpec, open_sink
from napari_sam2.measurement.report.overview import draw_overview
from napari_sam2.models.device import describe_device
from napari_sam2.propagation.results import SessionResults
from napari_sam2.propagation.run_state import Progress, RunState
from napari_sam2.propagation.session import Run, Session, SessionSettings

log = logging.getLogger(__name__)

LabelFormat = Literal["tiff", "zarr"]

_FIELDS_WITHOUT_EFFECT = {"resume", "device", "well"}  # fields of a Job that make no other result


class Job(ValidatedModel):
    """One headless run. Unknown fields are errors.

    Parameters
    ----------
    input
        File, folder or glob of the image stack; see `io.open.open_stack`.
    out
        Folder for the results; made where it is not there.
    prompts
        CSV or JSON of prompts; `masks` and `frame` instead take every label of a label image as a
        mask prompt there.
    along, channel, at, contrast
        How the stack is walked; see `Stack.as_video`. `at` fixes the other axes, e.g. ``{"t": 3}``;
        `contrast` is the intensities the model sees as black and white, e.g. (-160, 240) for soft
        tissue in CT.
    axes, spacing, interval
        Take the place of what the file says: letters, µm per pixel (z, y, x or y, x), seconds per
        frame.
    model, device
        A name from ``napari-sam2 models list`` or a file; "auto", "cpu", "cuda", "mps".
    attention
        Whether the model reads the part of the frame around each propagated track ("local"), the
        whole frame ("global"), or chooses for each track ("auto"): see `InferenceOptions`.
    precision
        "bfloat16" or "float16" is faster on devices that have it: see `InferenceOptions`.
    windows
        "tiles" looks at objects that are small on a large frame by a part of it that shows them
        larger: see `InferenceOptions`.
    direction, frames
        Which way, and between which frames (first, and the one after the last), tracks are carried.
    patience
        Frames in a row a track may be absent before it ends; None: it is looked for to the end.
    format
        "tiff" for ``labels.ome.tif``, "zarr" for ``labels.ome.zarr``.
    well
        The well of a plate the stack is from, for the tables of a batch; read from `input` where it
        says so.
    resume
        Go on where an interrupted run of the same job stopped.
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
    model: str = "nano"
    device: str = "auto"
    attention: Annotated[Attention, BeforeValidator(partial(rename_attention, warn=True))] = (
        DEFAULT_ATTENTION
    )
    precision: Precision = "float32"
    windows: Windows = "whole"
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

    def open_video(self) -> Video:
        """The stack this job walks."""
        stack = open_stack(self.input, axes=self.axes, spacing=self.spacing, interval=self.interval)
        contrast = None if self.contrast is None else Contrast(*self.contrast)
        return Video.of(
            stack, along=self.along, channel=self.channel, contrast=contrast, at=self.at
        )

    def load_prompts(self, video: Video) -> PromptLog:
        """What is said before the run.

        Raises PromptError unless there are either prompts or masks, and all of them lie in the
        video; PlanError where `frames` do not.
        """
        Propagation.outward({}, length=len(video), direction=self.direction, frames=self.frames)
        log = self._read_prompts(video)
        for prompt in log.prompts:
            check_prompt(prompt, video.shape)
        return log

    def _read_prompts(self, video: Video) -> PromptLog:
        if (self.prompts is None) == (self.masks is None):
            raise PromptError(
                "give either prompts (a CSV or JSON file) or masks (a label image), not both and "
                "not neither"
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


@dataclass(frozen=True)
class JobResult:
    """What a Job came to: its folder, how the run ended, one line about it, and what was decided for the user."""

    folder: Path
    state: RunState
    summary: str
    notes: tuple[str, ...] = ()

    @property
    def objects(self) -> pd.DataFrame:
        """``objects.csv``: one row per track and frame."""
        return pd.read_csv(self.folder / "objects.csv")

    @property
    def tracks(self) -> pd.DataFrame:
        """``tracks.csv``: one row per track."""
        return pd.read_csv(self.folder / "tracks.csv")

    @property
    def counts(self) -> pd.DataFrame:
        """``counts.csv``: objects per frame and category."""
        return pd.read_csv(self.folder / "counts.csv")


def run_job(
    job: Job,
    *,
    model: VideoModel | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] = log.info,
) -> JobResult:
    """Carry a Job out: labels, tables, picture, prompts and provenance in ``job.out``.

    `model` is one that is loaded already (``job.model`` is read where not given). `progress` is
    called after each frame, `report` with one line before each part of the work. What was finished
    before an interruption is kept in ``job.out`` and taken up by the same job with ``resume=True``.
    Raises the errors of `core.errors`; nothing appears under a final name before it is complete,
    and ``provenance.json`` comes last.
    """
    video = job.open_video()
    prompts = job.load_prompts(video)
    with prepare_job(job, video, model, report) as ready:
        return (
            make_finished_result(job.out)
            if ready is None
            else _run_prepared_job(job, video, prompts, ready, _Callbacks(progress, report))
        )


@contextmanager
def prepare_job(
    job: Job, video: Video, model: VideoModel | None, report: Callable[[str], None]
) -> Iterator[VideoModel | None]:
    """The model of a job, `model` where that is given, while its folder is its own; None where the job is finished already."""
    check_output(job.out)
    with lock_folder(job.out):
        if job.resume and is_finished(job):
            yield None
            return
        remove_leftovers(job.out)
        report(f"input: {job.input}: {video.description}")
        model = model or load_named_model(job.model, job.inference_options)
        report(f"model: {model.card.name} on {describe_device(model.device)}")
        yield model


def load_named_model(name: str, options: InferenceOptions) -> VideoModel:
    """A model by name; see `load_model`."""
    from napari_sam2.models.load import (
        load_model,
    )  # torch: seconds that those who only describe jobs need not wait

    return load_model(name, options=options)


def is_finished(job: Job) -> bool:
    """Whether ``job.out`` holds the results of this very job.

    Raises PlanError where it holds those of another.
    """
    path = job.out / "provenance.json"
    if (job.out / RESUME_FOLDER).is_dir() or not path.exists():
        return False
    made = (json.loads(path.read_text(encoding="utf-8")).get("settings") or {}).get("job") or {}
    made = {**made, "attention": rename_attention(made.get("attention"))}
    same = json.loads(job.model_dump_json(exclude=_FIELDS_WITHOUT_EFFECT))
    if {name: made.get(name) for name in same} != same:
        raise make_other_job_error(job.out)
    return True


def make_other_job_error(folder: Path) -> PlanError:
    """What is raised where a run is to be resumed in a folder of others' results."""
    return PlanError(
        f"{folder} holds the results of another job: choose another folder, or leave out "
        "--resume to replace them"
    )


@dataclass(frozen=True)
class _Callbacks:
    """Whom a run tells how far it is."""

    progress: Progress | None
    report: Callable[[str], None]


def _run_prepared_job(
    job: Job, video: Video, prompts: PromptLog, model: VideoModel, callbacks: _Callbacks
) -> JobResult:
    """A job that is checked, in a folder that is its own."""
    work = UnfinishedRun.open(
        job.out, _make_run_identity(job, video, model.card), resume=job.resume
    )
    if work is None:
        return make_finished_result(job.out)
    with Session(
        video,
        model,
        settings=SessionSettings(patience=job.patience, folder=work.folder),
        on_log_change=work.save_log,
    ) as session:
        run = _propagate_prompts(job, session, prompts, work, callbacks.progress)
        callbacks.report(f"writing: labels, tables and picture to {job.out}")
        save_results(
            run.results,
            job.out,
            format=job.format,
            notes=_collect_notes(job, video, model.device),
            settings=job.model_dump(mode="json"),
        )
        summary = summarize_results(run.results)
    work.remove()
    return JobResult(job.out, run.state, summary)


def track(input: str | Path, *, prompts: str | Path, out: str | Path, **options: Any) -> JobResult:
    """Carry prompted objects through a stack on disk and write labels, tables and pictures to `out`.

    `options` are the other fields of `Job`, e.g. ``along="z"``.
    """
    return run_job(Job(input=Path(input), prompts=Path(prompts), out=Path(out), **options))


def save_results(
    results: SessionResults,
    folder: Path,
    *,
    format: LabelFormat = "tiff",
    notes: tuple[str, ...] = (),
    settings: Any = None,
) -> None:
    """Write all results of a Run into a folder: labels, tables, picture, prompts, and last of all the provenance."""
    session = results.session
    check_output(folder)
    with open_sink(
        folder, LabelSpec.of(session.video, max(session.log.track_ids, default=0)), format=format
    ) as sink:
        for frame in range(len(session.video)):
            sink.put(frame, session.label_plane(frame))
    write_tables(folder, results.objects, results.tracks, results.counts)
    draw_overview(
        session.video, session.label_plane, results.objects, results.counts, folder / "overview.png"
    )
    write_prompts(session.log, folder / "prompts.json")
    made = session.provenance(notes=notes)
    write_provenance(
        replace(made, settings={**made.settings, "job": settings}), folder / "provenance.json"
    )


def make_finished_result(folder: Path) -> JobResult:
    """What resuming a finished run comes to."""
    return JobResult(folder, RunState.DONE, f"{folder} is finished already: nothing to resume")


def _make_run_identity(job: Job, video: Video, card: ModelCard) -> dict[str, Any]:
    """What a run that is resumed must have in common with the one that was interrupted."""
    return {
        "video": video.identity,
        **card.inference_identity,
        "patience": job.patience,
        "direction": job.direction,
        "frames": job.frames,
    }


def _propagate_prompts(
    job: Job,
    session: Session,
    prompts: PromptLog,
    unfinished: UnfinishedRun,
    progress: Progress | None,
) -> Run:
    """Prompt and carry; what is in the work folder already is not done again."""
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
    """Decisions that were taken for the user."""
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
    return tuple(note for note in notes if note)


def summarize_results(results: SessionResults) -> str:
    """One line about the results."""
    objects = results.objects
    found = _format_count(objects["track"].nunique(), "object")
    frames = _format_count(len(results.session.video), "frame")
    return f"{found} propagated through {frames}, {_format_count(len(objects), 'mask')}"


def _format_count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
