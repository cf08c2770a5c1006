"""CountJob: a job that detects its objects."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import model_validator

from napari_sam2.api.count import (
    CountOutput,
    CountProgress,
    VideoSelection,
    check_counting_options,
    make_count_work,
)
from napari_sam2.api.counting_options import CountingOptions
from napari_sam2.api.job import Job, make_output_run
from napari_sam2.api.results import JobResult
from napari_sam2.api.resume import make_evidence
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Video
from napari_sam2.propagation.session import describe_evidence

log = logging.getLogger(__name__)

_PROMPT_FIELDS = ("prompts", "masks", "frame", "direction", "frames")


class CountJob(Job):
    """A job that detects its objects; see `Job` for the other fields.

    Fields about prompts are errors.

    Parameters
    ----------
    counting
        How objects are detected and linked; see `CountingOptions`.
    also
        What else is written: some of "report", "ctc", "geff", "parquet", "h5ad".
    """

    counting: CountingOptions
    also: tuple[str, ...] = ("report",)

    @model_validator(mode="after")
    def _reject_prompt_fields(self) -> Self:
        given = [
            name
            for name in _PROMPT_FIELDS
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if given:
            raise ValueError(f"{given[0]} does not go with counting: give either prompts or seeds")
        return self

    def open_video(self) -> Video:
        """The video to count; a constant one is no error, and has no objects."""
        selection = VideoSelection(self.along, self.channel, self.at, self.contrast)
        return selection.open_video(self.open_input())


def make_job(fields: Mapping[str, Any]) -> Job:
    """The job that these fields describe: a `CountJob` if they have ``counting``.

    Raises PlanError for an impossible field.
    """
    kind = CountJob if fields.get("counting") is not None else Job
    return kind.from_fields(fields)


def run_count_job(
    job: CountJob,
    *,
    model: VideoModel | None = None,
    progress: CountProgress | None = None,
    report: Callable[[str], None] = log.info,
) -> JobResult:
    """Count, and write the results; as `run_job`, but `progress` is called in all stages."""
    check_counting_options(job.counting, job.also)
    video = job.open_video()
    settings = job.model_dump(mode="json")
    output = CountOutput(job.out, job.also, job.format, settings, job.patience, job.evidence)
    evidence = make_evidence(video, job.evidence, job.inference_options)
    identity = {
        "counting": job.counting.identify(model or job.model),
        **describe_evidence(evidence, job.evidence),
    }
    return make_output_run(job, video, model, report, identity).execute(
        make_count_work(output, video, job.counting, evidence, progress, report)
    )
