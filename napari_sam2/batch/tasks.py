"""What a worker does: one job, with the model that it has already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from time import monotonic, perf_counter
from typing import Any

import dask
from distributed import get_worker

from napari_sam2.api.count_job import CountJob, job_of, run_count
from napari_sam2.api.job import Job, Outcome, finished, run_job
from napari_sam2.core.errors import Sam2Error
from napari_sam2.core.protocols import VideoModel
from napari_sam2.measurement.counts import ALL
from napari_sam2.propagation.propagate import Stepped
from napari_sam2.propagation.run import Progress

TOPIC = "napari-sam2"
"""The topic of dask's events under which workers say how far they are."""

_REPORT_S = 0.5
_loading = Lock()
_carrying = (
    Lock()
)  # one stack at a time, however many threads somebody's worker has: memory is reckoned so


@dataclass(frozen=True)
class Done:
    """What came of one job, small enough to travel: the row of the summary."""

    number: int
    objects: dict[str, int]
    masks: int
    seconds: float
    skipped: bool
    worker: str


def carry(number: int, fields: dict[str, Any]) -> Done | Sam2Error:
    """Carry out the job that is `number` of a batch; what an earlier try has left in its folder is gone on with.

    An error of ours is given back, not raised: dask would print a traceback of what one line
    explains.
    """
    try:
        with (
            _carrying,
            dask.config.set(scheduler="synchronous"),
        ):  # else each plane that is read would be a task of the cluster
            return _carried(number, fields)
    except Sam2Error as error:
        return error


def _carried(number: int, fields: dict[str, Any]) -> Done:
    started = perf_counter()
    get_worker().log_event(TOPIC, {"number": number, "position": 0, "total": 1})
    job = job_of({**fields, "resume": True})
    skipped = finished(job)
    outcome = _run(
        job, None if skipped else model_of(job.model, job.device, **job.how), _reporter(number)
    )
    return Done(
        number,
        _counted(outcome),
        len(outcome.objects),
        perf_counter() - started,
        skipped,
        str(get_worker().name),
    )


def _run(job: Job, model: VideoModel | None, report: Progress) -> Outcome:
    if isinstance(job, CountJob):
        return run_count(job, model=model, progress=report, stage=_silent)
    return run_job(job, model=model, progress=report, stage=_silent)


def _silent(_: str) -> None:
    """Workers say nothing of the parts of their work."""


def model_of(name: str, device: str, **how: Any) -> VideoModel:
    """The model of this worker, `how` as for `load_model`: read once, however many stacks come."""
    with _loading:
        return _loaded(name, device, **how)


@lru_cache(maxsize=1)
def _loaded(name: str, device: str, **how: Any) -> VideoModel:
    from napari_sam2.models.load import load_model  # torch: in workers only

    return load_model(name, device=device, **how)


def _counted(outcome: Outcome) -> dict[str, int]:
    """Objects by category ("" where they have none) and, under ``all``, altogether: as `counts.csv` counts them, by track."""
    objects = outcome.objects
    category = (
        objects["category"].astype(object).where(objects["category"].notna(), "")
    )  # read back as numbers where none has one
    found = objects.groupby(category)["track"].nunique()
    return {
        **dict(zip(found.index.astype(str), found.tolist(), strict=True)),
        ALL: int(objects["track"].nunique()),
    }


def _reporter(number: int) -> Callable[[Stepped], None]:
    worker = get_worker()
    last = 0.0

    def report(stepped: Stepped) -> None:
        nonlocal last
        if monotonic() - last >= _REPORT_S or stepped.position == stepped.total:
            last = monotonic()
            worker.log_event(
                TOPIC, {"number": number, "position": stepped.position, "total": stepped.total}
            )

    return report
