"""CountJob: one headless count, from a file on disk to labels, tables and the report."""

from __future__ import annotations

import logging
from collections.abc import Callable

from napari_sam2.api.count import Counting, check_counting, count_into, video_of
from napari_sam2.api.headless import Headless
from napari_sam2.api.job import Outcome, finished, finished_already
from napari_sam2.core.protocols import VideoModel
from napari_sam2.io.place import alone, check_output, sweep
from napari_sam2.models.device import describe

log = logging.getLogger(__name__)


class CountJob(Headless, Counting):
    """One headless count: the fields of `Headless` and of `Counting`. Unknown fields are errors.

    Parameters
    ----------
    also
        What else is written beside labels, tables and report; see `exports.EXPORTS`.
    """

    also: tuple[str, ...] = ()


def run_count(job: CountJob, *, model: VideoModel | None = None, stage: Callable[[str], None] = log.info) -> Outcome:
    """Carry a CountJob out; with ``resume=True`` what is finished is not done again.

    `model` is one that is loaded already (``job.model`` is read where not given). Raises what `napari_sam2.count` does, and
    OutputError where another run is at the folder.
    """
    check_counting(job, job.also)
    video = video_of(job.stack(), along=job.along, channel=job.channel, at=job.at)
    check_output(job.out)
    with alone(job.out):
        if job.resume and finished(job):
            return finished_already(job.out)
        sweep(job.out)
        stage(f"input: {job.input}: {video.description}")
        model = model or _loaded(job)
        stage(f"model: {model.card.name} on {describe(model.device)}")
        return count_into(job.out, video, model, job, also=job.also, settings=job.model_dump(mode="json"), stage=stage)


def _loaded(job: CountJob) -> VideoModel:
    from napari_sam2.models.load import load_model  # torch: seconds that those who only describe jobs need not wait

    return load_model(job.model, device=job.device)
