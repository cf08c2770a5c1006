"""Run a batch: jobs out to workers, results back, the dead buried and their jobs tried again."""

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
"""How often a job is tried that fails for no reason of its own."""

MAX_DEATHS = 3
"""How many workers may die of a job one after another before any has finished a frame of it."""


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is: jobs finished, failed and in all, and the part (0..1) of each job that is at work."""

    finished: int
    failed: int
    total: int
    parts: Mapping[int, float]

    @property
    def stacks_done(self) -> float:
        """Stacks done, those at work counted by their part."""
        return self.finished + self.failed + sum(self.parts.values())


BatchProgressCallback = Callable[[BatchProgress], None]


def run_jobs(
    jobs: Sequence[Job | Mapping[str, Any]],
    *,
    out: Path | str | None = None,
    pool: Pool | None = None,
    progress: BatchProgressCallback | None = None,
) -> pd.DataFrame:
    """Carry many stacks, and give the table over all of them: one row a job, in their order.

    Parameters
    ----------
    jobs
        Jobs, CountJobs, or their fields. Each needs a folder of its own.
    out
        Where ``summary.csv``, the tables over all stacks and the report go, and the folder that no
        other batch may write to meanwhile; nowhere where not given.
    pool
        What they run on; processes of this machine where not given.
    progress
        Called when a job ends, and now and then in between.

    A worker that dies costs the frame it was at: its job goes on elsewhere. A job that cannot be
    carried out has its error in the table and never stops the others. Jobs that are finished
    already are not done again.
    """
    checked = tuple(job if isinstance(job, Job) else make_job(job) for job in jobs)
    check_distinct_folders(checked)
    if out is None:
        return _make_table(checked, None, _run_on_workers(checked, pool or Pool(), progress))
    return run_batch(Batch(checked, Path(out), pool or Pool()), progress=progress)


def run_batch(batch: Batch, *, progress: BatchProgressCallback | None = None) -> pd.DataFrame:
    """Run a Batch, and write the tables over all stacks into its folder; see `run_jobs`.

    Raises OutputError where another run is at it.
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
    """What is known of every job while the batch runs."""

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
        """A worker has begun (position 0), or finished a frame of a job that nobody will have to do again."""
        number, position = event["number"], event["position"]
        if number not in self.results:
            self.parts[number] = position / max(1, event["total"])
            if position:
                self.deaths.pop(number, None)

    def record_result(self, number: int, result: TaskResult | Exception) -> None:
        self.results[number] = result
        self.parts.pop(number, None)

    def record_failure(self, number: int, error: BaseException) -> bool:
        """Whether a job that failed so is to be tried again: not where the same must happen again."""
        begun = self.parts.pop(number, None) is not None
        if not isinstance(error, KilledWorker):
            self.failures[number] = self.failures.get(number, 0) + 1
            again = not _is_final(error) and self.failures[number] < MAX_TRIES
        elif not begun:
            return True  # it waited behind the one of which the worker died
        else:
            self.deaths[number] = self.deaths.get(number, 0) + 1
            again = self.deaths[number] < MAX_DEATHS
        self.tries[number] = self.tries.get(number, 1) + again
        return again


def _is_final(error: BaseException) -> bool:
    """Errors of ours say what is wrong with the input, and it will be wrong again; a disk or a network may come back."""
    return isinstance(error, Sam2Error) and not isinstance(error, OSError)


def _run_on_workers(
    jobs: Sequence[Job], pool: Pool, progress: BatchProgressCallback | None
) -> _Ledger:
    ledger = _Ledger(len(jobs))
    with pool.connect() as client, client.as_current():  # as_completed asks for the current one

        def heard(event: tuple[float, Mapping[str, Any]]) -> None:
            ledger.record_event(event[1])
            if progress:
                progress(ledger.progress)

        client.subscribe_topic(TOPIC, heard)
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
    """What dask says of workers that died, as it concerns who waits for the stack."""
    if not isinstance(result, KilledWorker):
        return result
    return WorkerError(
        f"{MAX_DEATHS} workers died of this stack, one after another, and finished no frame: most "
        "likely their memory did not hold it; "
        "give each more (fewer workers, or memory in [cluster] options), and run the batch again"
    )


def _submit_job(client: Client, number: int, job: Job) -> Future:
    return client.submit(run_task, number, job.model_dump(mode="python"), pure=False, key=None)


def _make_table(jobs: Sequence[Job], base: Path | None, ledger: _Ledger) -> pd.DataFrame:
    """One row a job; a column ``n_<category>`` for each category that any of them has."""
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
    """Raise PlanError that names the first job of a summary that failed, and how many did."""
    failed = table[table["state"] == "failed"]
    if len(failed):
        first = failed.iloc[0]
        raise PlanError(
            f"{len(failed)} of {len(table)} stacks failed, {first['input']} the first: "
            f"{first['error']}"
        )
