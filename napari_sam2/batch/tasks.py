"""The task of a worker: runs one job with the model that the worker has loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from time import monotonic, perf_counter
from typing import Any

import dask
from distributed import get_worker

from napari_sam2.api.count_job import CountJob, make_job, run_count_job
from napari_sam2.api.job import Job, is_finished, run_job
from napari_sam2.api.results import JobResult
from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.core.protocols import VideoModel
from napari_sam2.measurement.counts import ALL
from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.tracking.progress import TrackingProgress

TOPIC = "napari-sam2"
"""Topic of dask events by which workers report progress."""

_REPORT_INTERVAL_S = 0.5
_load_lock = Lock()
_run_lock = Lock()  # one stack at a time, whatever threads a worker has: memory is planned for one


@dataclass(frozen=True)
class TaskResult:
    """The result of one job as a row of the summary; small, because it is sent to the client."""

    number: int
    objects: dict[str, int]
    masks: int
    seconds: float
    skipped: bool
    worker: str


def run_task(number: int, fields: dict[str, Any]) -> TaskResult | Sam2Error:
    """Run job `number` of a batch, or resume it from what an earlier try left in its folder.

    Errors of this package are returned, not raised, because dask would print a traceback.
    """
    try:
        with (
            _run_lock,
            dask.config.set(
                scheduler="synchronous"
            ),  # else each plane that is read becomes a task of the cluster
        ):
            return _run_task(number, fields)
    except Sam2Error as error:
        return error


def _run_task(number: int, fields: dict[str, Any]) -> TaskResult:
    started = perf_counter()
    get_worker().log_event(TOPIC, {"number": number, "position": 0, "total": 1})
    job = make_job({**fields, "resume": True})
    skipped = is_finished(job)
    outcome = _dispatch_job(
        job,
        None if skipped else get_model(job.model, job.inference_options),
        _make_reporter(number),
    )
    return TaskResult(
        number,
        _count_by_category(outcome),
        len(outcome.objects),
        perf_counter() - started,
        skipped,
        str(get_worker().name),
    )


def _dispatch_job(job: Job, model: VideoModel | None, progress: _Reporter) -> JobResult:
    if isinstance(job, CountJob):
        return run_count_job(job, model=model, progress=progress, report=_ignore_report)
    return run_job(job, model=model, progress=progress, report=_ignore_report)


def _ignore_report(_: str) -> None:
    """Workers do not print messages."""


def get_model(name: str, options: InferenceOptions) -> VideoModel:
    """The model of this worker; it is loaded once for all stacks."""
    with _load_lock:
        return load_cached_model(name, options)


@lru_cache(maxsize=1)
def load_cached_model(name: str, options: InferenceOptions) -> VideoModel:
    """Load a model, or take the one that was loaded last; call `get_model` in threads."""
    from napari_sam2.models.load import load_model  # torch is loaded in workers only

    return load_model(name, options=options)


def _count_by_category(result: JobResult) -> dict[str, int]:
    """Number of tracks by category ("" for none) and in total (``all``), as in `counts.csv`."""
    objects = result.objects
    category = (
        objects["category"].astype(object).where(objects["category"].notna(), "")
    )  # an empty column is read back as numbers
    found = objects.groupby(category)["track"].nunique()
    return {
        **dict(zip(found.index.astype(str), found.tolist(), strict=True)),
        ALL: int(objects["track"].nunique()),
    }


_Reporter = Callable[[PropagationStep | TrackingProgress], None]


def _make_reporter(number: int) -> _Reporter:
    worker = get_worker()
    last = 0.0

    def report(stepped: PropagationStep | TrackingProgress) -> None:
        nonlocal last
        if monotonic() - last >= _REPORT_INTERVAL_S or stepped.position == stepped.total:
            last = monotonic()
            worker.log_event(
                TOPIC, {"number": number, "position": stepped.position, "total": stepped.total}
            )

    return report
