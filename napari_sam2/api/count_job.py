"""CountJob: a Job whose objects nobody prompts, and that goes on where it was killed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import model_validator

from napari_sam2.api.count import (
    Counting,
    Found,
    check_counting,
    counted_session,
    finish,
    found_in,
    save_counted,
    video_of,
)
from napari_sam2.api.job import Job, Outcome, begun, finished_already
from napari_sam2.api.resume import Work
from napari_sam2.api.session import Session
from napari_sam2.core.card import ModelCard
from napari_sam2.core.plan import Propagation
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.video import Video
from napari_sam2.io.open import open_stack
from napari_sam2.propagation.run import Progress
from napari_sam2.propagation.session import Settings

log = logging.getLogger(__name__)

_OF_PROMPTS = ("prompts", "masks", "frame", "direction", "frames")


class CountJob(Job):
    """A Job that finds its objects itself; see `Job` for the other fields.

    Those that speak of prompts are errors.

    Parameters
    ----------
    counting
        How objects are found and joined; see `count.Counting`.
    also
        What else is written: some of "report", "ctc", "geff", "parquet", "h5ad".
    """

    counting: Counting
    also: tuple[str, ...] = ("report",)

    @model_validator(mode="after")
    def _no_prompts(self) -> Self:
        said = [
            name
            for name in _OF_PROMPTS
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if said:
            raise ValueError(f"{said[0]} does not go with counting: give either prompts or seeds")
        return self

    def video(self) -> Video:
        """The stack that is walked; also one that shows nothing, where nothing is counted."""
        stack = open_stack(self.input, axes=self.axes, spacing=self.spacing, interval=self.interval)
        return video_of(
            stack, along=self.along, channel=self.channel, at=self.at, contrast=self.contrast
        )


def job_of(fields: Mapping[str, Any]) -> Job:
    """The Job these fields describe: one that counts where they say how.

    Raises PlanError where one of them cannot be.
    """
    kind = CountJob if fields.get("counting") is not None else Job
    return kind.checked(fields)


def run_count(
    job: CountJob,
    *,
    model: VideoModel | None = None,
    progress: Progress | None = None,
    stage: Callable[[str], None] = log.info,
) -> Outcome:
    """Find, join, carry and count: what `job.run_job` is for prompts, with the same folder, errors and `resume`.

    A job that was killed while it carried goes on from there; one that was killed while it looked
    for objects looks again.
    """
    check_counting(job.counting, job.also)
    video = job.video()
    with begun(job, video, model, stage) as ready:
        work = (
            None
            if ready is None
            else Work.of(job.out, _same(job, video, ready.card), resume=job.resume)
        )
        if ready is None or work is None:
            return finished_already(job.out)
        with counted_session(
            video, ready, Settings(patience=job.patience, folder=work.folder)
        ) as session:
            found = _found(job, session, work, (progress, stage))
            stage(f"writing: labels, tables and picture to {job.out}")
            outcome = save_counted(
                found, job.out, job.also, settings=job.model_dump(mode="json"), format=job.format
            )
        work.remove()
        return outcome


def _same(job: CountJob, video: Video, card: ModelCard) -> dict[str, Any]:
    """What a run that is resumed must have in common with the one that was interrupted."""
    counting = job.counting.model_dump(mode="json")
    return {"video": video.identity, **card.answers, "patience": job.patience, "counting": counting}


def _found(
    job: CountJob, session: Session, work: Work, tell: tuple[Progress | None, Callable[[str], None]]
) -> Found:
    """The log is kept once all objects are said and before they are carried: a log that is there holds all of them."""
    progress, stage = tell
    source, kept = job.counting.source(session.video, session.model), work.kept()
    session.resume(kept)
    if len(kept):
        run = session.run(None if session.unfinished else Propagation(()))
    else:
        run = found_in(session, job.counting, source, stage)
        work.keep(session.log)
    return finish(run, job.counting, source, progress)
