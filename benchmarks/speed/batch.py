"""Batches: many small stacks on two workers, compared with one process.

    python -m benchmarks.speed.batch --stacks 16 --kills 5 --out results.json

Each is a new process, measured from its start to the last file, so loading Python, the model and
the workers counts. One process is measured with all threads, and with one, as each worker has.
Optionally some workers are killed at random.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.api.samples import SAMPLES
from napari_sam2.io.open import open_labels

MAX_TIME_RATIO = 0.65
"""Wall time of two workers, as a share of that of one process."""

TOLERANCE = 1e-5
"""How much scores of one and of several threads may differ: they sum in another order."""

_THREADS_VARIABLE = "OMP_NUM_THREADS"

_ONE_PROCESS_SCRIPT = """
import sys
from napari_sam2.api.job import run_job
from napari_sam2.batch import read_jobs
from napari_sam2.models.load import load_model
batch = read_jobs(sys.argv[1])
model = load_model(batch.jobs[0].model, device="cpu")
for job in batch.jobs:
    run_job(job, model=model)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if all requirements are reached."""
    options = _parse_options(arguments)
    about = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        seconds = _measure_all(root, options)
        on_workers = [root / name for name in ("workers", "killed") if (root / name).exists()]
        same = all(_has_same_tables(root / "one", other) for other in on_workers)
        close = _has_close_tables(root)
    alone, one, workers, *_ = seconds.values()
    rows = [
        (name, taken, f"{taken / alone:.2f}", f"{taken / one:.2f}")
        for name, taken in seconds.items()
    ]
    print(format_markdown(["", "s", "of one process", "of one process with one thread"], rows))
    ratio = workers / alone
    results = {"seconds": seconds, "same": same, "near": close, "ratio": ratio}
    write_results({"machine": about, **results}, options.out)
    return report_checks(
        [
            ("workers finish every stack, with tables as one thread makes them", same),
            (f"all threads: the same labels and tables, scores within {TOLERANCE}", close),
            (
                f"time to one process: {ratio:.2f}, at most {MAX_TIME_RATIO}",
                ratio <= MAX_TIME_RATIO,
            ),
        ]
    )


def _measure_all(root: Path, options: argparse.Namespace) -> dict[str, float]:
    """Measure the seconds of each kind of run, by name."""

    def jobs(name: str) -> Path:
        return _write_jobs_file(root / name, options.stacks, options.workers)

    seconds = {
        "one process": _time_process(["-c", _ONE_PROCESS_SCRIPT, str(jobs("all"))]),
        "one process, one thread": _time_process(
            ["-c", _ONE_PROCESS_SCRIPT, str(jobs("one"))], threads=1
        ),
        f"{options.workers} workers": _time_process(
            ["-m", "napari_sam2.cli", "batch", str(jobs("workers"))]
        ),
    }
    if options.kills:
        seconds[f"{options.workers} workers, {options.kills} killed"] = _time_with_kills(
            jobs("killed"), options.kills
        )
    return seconds


def _write_jobs_file(folder: Path, stacks: int, workers: int) -> Path:
    """Write a jobs file of several copies of the time-lapse sample."""
    sample = SAMPLES[1]
    folder.mkdir()
    text = (
        f'out = "out"\n[cluster]\nworkers = {workers}\n[defaults]\nprompts = '
        f'"{sample.prompts.as_posix()}"\nalong = "t"\ndevice = "cpu"\n'
    )
    text += "".join(
        f'[[stacks]]\ninput = "{sample.image.as_posix()}"\nout = "{number}"\n'
        for number in range(stacks)
    )
    path = folder / "jobs.toml"
    path.write_text(text)
    return path


def _time_process(arguments: Sequence[str], *, threads: int | None = None) -> float:
    """Measure the seconds of a new process; its network uses all threads if none are given."""
    began = time.perf_counter()
    inherited = {name: value for name, value in os.environ.items() if name != _THREADS_VARIABLE}
    environment = inherited if threads is None else {**inherited, _THREADS_VARIABLE: str(threads)}
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def _time_with_kills(jobs: Path, times: int) -> float:
    """Measure the seconds of a batch while workers are killed at random."""
    began, dead, chance = time.perf_counter(), 0, random.Random(0)
    command = [sys.executable, "-m", "napari_sam2.cli", "batch", str(jobs)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(1 + 4 * chance.random())
            at_work = list(jobs.parent.glob("out/*/.napari-sam2/trail.sqlite"))
            workers = [
                child
                for child in psutil.Process(process.pid).children(recursive=True)
                if "spawn_main" in " ".join(child.cmdline())
            ]
            if dead < times and at_work and workers:
                chance.choice(workers).kill()
                dead += 1
    if process.returncode or dead < times:
        raise SystemExit(
            f"the batch ended with {process.returncode} after {dead} workers were killed: "
            f"expected 0 after {times}"
        )
    return time.perf_counter() - began


def _has_same_tables(one: Path, other: Path) -> bool:
    """Whether every stack of `one` has the same tables in `other`, byte by byte."""
    tables = sorted(path.relative_to(one) for path in one.glob("out/*/*.csv"))
    states = set(pd.read_csv(other / "out" / "summary.csv")["state"])
    return (
        states == {"done"}
        and bool(tables)
        and all((one / path).read_bytes() == (other / path).read_bytes() for path in tables)
    )


def _has_close_tables(root: Path) -> bool:
    """Whether all threads and one gave the same labels and tables, except for rounding."""
    for labels in root.glob("one/out/*/labels.ome.tif"):
        one, other = labels.parent, root / "all" / "out" / labels.parent.name
        if not np.array_equal(
            np.asarray(open_labels(labels).data), np.asarray(open_labels(other / labels.name).data)
        ):
            return False
        for name in ("objects.csv", "tracks.csv", "counts.csv"):
            ours, theirs = (pd.read_csv(folder / name) for folder in (one, other))
            pd.testing.assert_frame_equal(ours, theirs, check_exact=False, rtol=0, atol=TOLERANCE)
    return True


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.batch",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("--stacks", type=int, default=16, help="copies of the time-lapse sample")
    parser.add_argument("--workers", type=int, default=2, help="processes of the local cluster")
    parser.add_argument(
        "--kills", type=int, default=0, help="workers to kill at random in one more run"
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
