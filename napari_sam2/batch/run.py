"""Run a batch: submits jobs to workers, collects results, retries the jobs of workers that died."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from napari_sam2.api.count_job import make_job
from napari_sam2.api.job import Job
from napari_sam2.batch.config import Batch, check_distinct_folders
from napari_sam2.batch.pool import Pool
from napari_sam2.batch.summary import SUMMARY, name_stacks, write_summary
from napari_sam2.batch.tasks import TOPIC, TaskResult, run_task
from napari_sam2.core.errors import PlanError, Sam2Error, WorkerError
from napari_sam2.io.output_folder import check_output, lock_folder
from napari_sam2.io.readers.plate import find_well
from napari_sam2.measurement.counts import ALL

MAX_TRIES = 3
"""How often a job is tried if it fails for a reason that may pass."""

MAX_DEATHS = 3
"""How many workers in a row may die on a job without having finished a frame of it."""


@dataclass(frozen=True)
class BatchProgress:
    """Progress of a batch: numbers of jobs, and the share (0..1) of each running job by number."""

    finished: int
    failed: int
    total: int
    parts: Mapping[int, float]

    @property
    def stacks_done(self) -> float:
        """Stacks that are done, running ones counted by their share."""
        return self.finished + self.failed + sum(self.parts.values())


BatchProgressCallback = Callable[[BatchProgress], None]


def run_jobs(
    jobs: Sequence[Job | Mapping[str, Any]],
    *,
    out: Path | str | None = None,
    pool: Pool | None = None,
    progress: BatchProgressCallback | None = None,
) -> pd.DataFrame:
    """Run many jobs and return the summary table: one row per job, in their order.

    Parameters
    ----------
    jobs
        Jobs, CountJobs, or their fields. Each needs its own output folder.
    out
        Folder for ``summary.csv``, the tables over all stacks and the report. It is locked
        against other batches. Default: nothing is written beside the results of each job.
    pool
        The workers. Default: processes of this machine.
    progress
        Called when a job ends, and about twice a second in between.

    A worker that dies costs one frame: its job resumes on another worker. A job that fails has its
    error in the table and does not stop the others. Finished jobs are skipped.
    """
    checked = tuple(job if isinstance(job, Job) else make_job(job) for job in jobs)
    check_distinct_folders(checked)
    if out is None:
        return _make_table(checked, None, _run_on_workers(checked, pool or Pool(), progress))
    return run_batch(Batch(checked, Path(out), pool or Pool()), progress=progress)


def run_batch(batch: Batch, *, progress: BatchProgressCallback | None = None) -> pd.DataFrame:
    """Run a Batch and write the tables over all stacks into its folder; see `run_jobs`.

    Raises OutputError if another run uses the folder.
    """
    check_output(batch.out)
    with lock_folder(batch.out):
        table = _make_table(
            batch.jobs, batch.out, _run_on_workers(batch.jobs, batch.pool, progress)
        )
        write_summary(batch.out, table)
    table.attrs["summary"] = str((batch.out / SUMMARY).resolve())
    return table


@dataclass
class _Ledger:
    """The state of every job while the batch runs."""

    total: int
    results: dict[int, TaskResult | Exception] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    failures: dict[int, int] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    parts: dict[int, float] = field(default_factory=dict)

    @property
    def progress(self) -> BatchProgress:
        failed = sum(isinstance(result, Exception) for result in self.results.values())
        return BatchProgress(len(self.results) - failed, failed, self.total, dict(self.parts))

    def record_event(self, event: Mapping[str, Any]) -> None:
        """Note that a worker began a job (position 0) or finished a frame of it."""
        number, position = event["number"], event["position"]
        if number not in self.results:
            self.parts[number] = position / max(1, event["total"])
            if position:
                self.deaths.pop(number, None)

    def record_result(self, number: int, result: TaskResult | Exception) -> None:
        self.results[number] = result
        self.parts.pop(number, None)

    def record_failure(self, number: int, error: BaseException) -> bool:
        """Note a failure; returns whether the job is to be tried again."""
        begun = self.parts.pop(number, None) is not None
        if not isinstance(error, KilledWorker):
            self.failures[number] = self.failures.get(number, 0) + 1
            again = not _is_final(error) and self.failures[number] < MAX_TRIES
        elif not begun:
            return True  # it was queued behind the job on which the worker died
        else:
            self.deaths[number] = self.deaths.get(number, 0) + 1
            again = self.deaths[number] < MAX_DEATHS
        self.tries[number] = self.tries.get(number, 1) + again
        return again


def _is_final(error: BaseException) -> bool:
    """Whether a retry cannot help: the input is wrong. A disk or a network may recover."""
    return isinstance(error, Sam2Error) and not isinstance(error, OSError)


def _run_on_workers(
    jobs: Sequence[Job], pool: Pool, progress: BatchProgressCallback | None
) -> _Ledger:
    ledger = _Ledger(len(jobs))
    with pool.connect() as client, client.as_current():  # as_completed uses the current client

        def handle_event(event: tuple[float, Mapping[str, Any]]) -> None:
            ledger.record_event(event[1])
            if progress:
                progress(ledger.progress)

        client.subscribe_topic(TOPIC, handle_event)
        futures = {_submit_job(client, number, job): number for number, job in enumerate(jobs)}
        waiting = as_completed(futures)
        for future in waiting:
            number = futures.pop(future)
            result = future.exception() or future.result()
            error = result if isinstance(result, BaseException) else None
            if error is not None and ledger.record_failure(number, error):
                fresh = _submit_job(client, number, jobs[number])
                futures[fresh] = number
                waiting.add(fresh)
                continue
            ledger.record_result(number, _explain_death(result))
            if progress:
                progress(ledger.progress)
        client.unsubscribe_topic(TOPIC)
    return ledger


def _explain_death(result: TaskResult | Exception) -> TaskResult | Exception:
    """The error of dask for workers that died, in the words of this package."""
    if not isinstance(result, KilledWorker):
        return result
    return WorkerError(
        f"{MAX_DEATHS} workers in a row died on this stack and finished no frame: most likely they "
        "ran out of memory; give each worker more (fewer workers, or memory in [cluster] "
        "options), and run the batch again"
    )


def _submit_job(client: Client, number: int, job: Job) -> Future:
    return client.submit(run_task, number, job.model_dump(mode="python"), pure=False, key=None)


def _make_table(jobs: Sequence[Job], base: Path | None, ledger: _Ledger) -> pd.DataFrame:
    """One row per job; a column ``n_<category>`` for each category in any of them."""
    rows: list[dict[str, Any]] = []
    for number, (job, name) in enumerate(
        zip(jobs, name_stacks([job.out for job in jobs], base), strict=True)
    ):
        result = ledger.results[number]
        row: dict[str, Any] = {
            "stack": name,
            "well": job.well or find_well(job.input),
            "input": str(job.input),
            "out": str(job.out),
        }
        row["tries"] = ledger.tries.get(number, 1)
        if isinstance(result, TaskResult):
            counts = {f"n_{name}": n for name, n in result.objects.items() if name != ALL and name}
            row |= {
                "state": "skipped" if result.skipped else "done",
                "objects": result.objects.get(ALL, 0),
                "masks": result.masks,
            }
            row |= {
                "seconds": round(result.seconds, 2),
                "worker": result.worker,
                "error": "",
                **counts,
            }
        else:
            row |= {
                "state": "failed",
                "error": f"{type(result).__name__}: {' '.join(str(result).split())}",
            }
        rows.append(row)
    head = [
        "stack",
        "well",
        "input",
        "out",
        "state",
        "objects",
        "masks",
        "seconds",
        "tries",
        "worker",
        "error",
    ]
    table = pd.DataFrame(rows)
    extra = sorted(set(table.columns) - set(head))
    whole = dict.fromkeys(("objects", "masks", *extra), "Int64")
    return table.reindex(columns=[*head, *extra]).astype(whole)


def raise_for_failures(table: pd.DataFrame) -> None:
    """Raise PlanError if jobs failed: it names the first one and says how many."""
    failed = table[table["state"] == "failed"]
    if len(failed):
        first = failed.iloc[0]
        raise PlanError(
            f"{len(failed)} of {len(table)} stacks failed, the first is {first['input']}: "
            f"{first['error']}"
        )
