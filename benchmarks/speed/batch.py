"""Batches: small stacks on a local cluster of two workers against one process, and with workers killed at random.

python -m benchmarks.speed.batch --stacks 16 --kills 5 --out results.json

Each way is one new process, from its start to the last file: loading Python, the model and the
workers counts. One process is measured with all threads, as it runs by itself, and with one, as
each worker has.
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
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.api.samples import SAMPLES
from napari_sam2.io.open import open_labels

MAX_TIME_RATIO = 0.65
"""Of the wall time of one process: what two workers may take."""

TOLERANCE = 1e-5
"""Scores of one thread and of several may differ by this: sums are taken in another order."""

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
        same, near = (
            [
                _has_same_tables(root / "one", other)
                for other in root.iterdir()
                if other.name in ("workers", "killed")
            ],
            _has_near_tables(root),
        )
    alone, one, workers, *_ = seconds.values()
    rows = [
        (name, taken, f"{taken / alone:.2f}", f"{taken / one:.2f}")
        for name, taken in seconds.items()
    ]
    print(format_markdown(["", "s", "of one process", "of one process with one thread"], rows))
    print(
        "every stack done, tables as those of one process with one thread, byte by byte: "
        f"{all(same)}"
    )
    print(
        f"one process with all threads: the same labels and tables, scores within {TOLERANCE}: "
        f"{near}"
    )
    write_results(
        {
            "machine": about,
            "seconds": seconds,
            "same": all(same),
            "near": near,
            "ratio": workers / alone,
        },
        options.out,
    )
    return 0 if all(same) and near and workers / alone <= MAX_TIME_RATIO else 1


def _measure_all(root: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds by way."""

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
    """A jobs file of so many copies of the time-lapse sample."""
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
    """Seconds of a new process, whose network computes with so many threads: all there are where not given."""
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
    """Seconds of a batch whose workers are killed at random, so many times."""
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
            f"the batch ended with {process.returncode} after {dead} of its workers were killed, "
            f"{times} expected"
        )
    return time.perf_counter() - began


def _has_same_tables(one: Path, other: Path) -> bool:
    """Whether every stack of `one` has tables in `other`, byte by byte."""
    tables = sorted(path.relative_to(one) for path in one.glob("out/*/*.csv"))
    states = set(pd.read_csv(other / "out" / "summary.csv")["state"])
    return (
        states == {"done"}
        and bool(tables)
        and all((one / path).read_bytes() == (other / path).read_bytes() for path in tables)
    )


def _has_near_tables(root: Path) -> bool:
    """Whether all threads and one gave the same labels and tables, but for the last digits of scores."""
    for labels in root.glob("one/out/*/labels.ome.tif"):
        one, other = labels.parent, root / "all" / "out" / labels.parent.name
        if not np.array_equal(
            np.asarray(open_labels(labels).data), np.asarray(open_labels(other / labels.name).data)
        ):
            return False
        for name in ("objects.csv", "tracks.csv", "counts.csv"):
            tables = [pd.read_csv(folder / name) for folder in (one, other)]
            pd.testing.assert_frame_equal(*tables, check_exact=False, rtol=0, atol=TOLERANCE)
    return True


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.batch",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("--stacks", type=int, default=16, help="copies of the time-lapse sample")
    parser.add_argument("--workers", type=int, default=2, help="processes of the local cluster")
    parser.add_argument(
        "--kills", type=int, default=0, help="workers to kill at random in a third run"
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
