"""CountJob: a Job whose objects nobody prompts, and that goes on where it was killed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import model_validator

from napari_sam2.api.count import (
    CountingOptions,
    CountResult,
    check_counting_options,
    finish_counting_run,
    make_counting_session,
    make_video,
    prepare_counting_run,
    save_count_result,
)
from napari_sam2.api.job import Job, JobResult, make_finished_result, prepare_job
from napari_sam2.api.resume import UnfinishedRun
from napari_sam2.core.card import ModelCard
from napari_sam2.core.plan import Propagation
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.io.open import open_stack
from napari_sam2.propagation.run_state import Progress
from napari_sam2.propagation.session import Session, SessionSettings

log = logging.getLogger(__name__)

_PROMPT_FIELDS = ("prompts", "masks", "frame", "direction", "frames")


class CountJob(Job):
    """A Job that finds its objects itself; see `Job` for the other fields.

    Those that speak of prompts are errors.

    Parameters
    ----------
    counting
        How objects are found and joined; see `count.CountingOptions`.
    also
        What else is written: some of "report", "ctc", "geff", "parquet", "h5ad".
    """

    counting: CountingOptions
    also: tuple[str, ...] = ("report",)

    @model_validator(mode="after")
    def _reject_prompt_fields(self) -> Self:
        said = [
            name
            for name in _PROMPT_FIELDS
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if said:
            raise ValueError(f"{said[0]} does not go with counting: give either prompts or seeds")
        return self

    def open_video(self) -> Video:
        """The stack that is walked; also one that shows nothing, where nothing is counted."""
        stack = open_stack(self.input, axes=self.axes, spacing=self.spacing, interval=self.interval)
        return make_video(
            stack, along=self.along, channel=self.channel, at=self.at, contrast=self.contrast
        )


def make_job(fields: Mapping[str, Any]) -> Job:
    """The Job these fields describe: one that counts where they say how.

    Raises PlanError where one of them cannot be.
    """
    kind = CountJob if fields.get("counting") is not None else Job
    return kind.from_fields(fields)


def run_count_job(
    job: CountJob,
    *,
    model: VideoModel | None = None,
    progress: Progress | None = None,
    report: Callable[[str], None] = log.info,
) -> JobResult:
    """Find, join, carry and count: what `job.run_job` is for prompts, with the same folder, errors and `resume`.

    A job that was killed while it carried goes on from there; one that was killed while it looked
    for objects looks again.
    """
    check_counting_options(job.counting, job.also)
    video = job.open_video()
    with prepare_job(job, video, model, report) as ready:
        work = (
            None
            if ready is None
            else UnfinishedRun.open(
                job.out, _make_run_identity(job, video, ready.card), resume=job.resume
            )
        )
        if ready is None or work is None:
            return make_finished_result(job.out)
        with make_counting_session(
            video, ready, SessionSettings(patience=job.patience, folder=work.folder)
        ) as session:
            found = _detect_or_resume(job, session, work, (progress, report))
            report(f"writing: labels, tables and picture to {job.out}")
            outcome = save_count_result(
                found, job.out, job.also, settings=job.model_dump(mode="json"), format=job.format
            )
        work.remove()
        return outcome


def _make_run_identity(job: CountJob, video: Video, card: ModelCard) -> dict[str, Any]:
    """What a run that is resumed must have in common with the one that was interrupted."""
    counting = job.counting.model_dump(mode="json")
    return {
        "video": video.identity,
        **card.inference_identity,
        "patience": job.patience,
        "counting": counting,
    }


def _detect_or_resume(
    job: CountJob,
    session: Session,
    unfinished: UnfinishedRun,
    callbacks: tuple[Progress | None, Callable[[str], None]],
) -> CountResult:
    """The log is kept once all objects are said and before they are carried: a log that is there holds all of them."""
    progress, stage = callbacks
    source, kept = job.counting.open_detector(session.video, session.model), unfinished.load_log()
    session.resume(kept)
    if len(kept):
        run = session.run(None if session.unfinished else Propagation(()))
    else:
        run = prepare_counting_run(session, job.counting, source, stage)
        unfinished.save_log(session.log)
    return finish_counting_run(run, job.counting, source, progress)
