"""Batches: small stacks on a local cluster of two workers against one process, and with workers killed at random.

python -m benchmarks.batch --stacks 16 --kills 5 --out results.json

Each way is one new process, from its start to the last file: loading Python, the model and the workers counts.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import psutil

from benchmarks import machine
from napari_sam2.api.samples import SAMPLES

RATIO = 0.65
"""Of the wall time of one process: what two workers may take."""

_ALONE = """
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
    """Measure, print a table, write JSON: 0 where all that is asked of us is reached, else 1."""
    options = _options(arguments)
    about = machine.described()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        alone = _timed(["-c", _ALONE, str(_jobs(root / "alone", options.stacks, options.workers))])
        cluster = _timed(["-m", "napari_sam2.cli", "batch", str(_jobs(root / "cluster", options.stacks, options.workers))])
        same = _same(root / "alone", root / "cluster")
        rows: list[tuple[str, float, str]] = [
            ("one process", alone, ""),
            (f"{options.workers} workers", cluster, f"{cluster / alone:.2f} of it"),
        ]
        if options.kills:
            seconds, killed = _killed(_jobs(root / "killed", options.stacks, options.workers), options.kills)
            same = same and _same(root / "alone", root / "killed") and killed == options.kills
            rows.append((f"{options.workers} workers, {killed} killed", seconds, f"{seconds / alone:.2f} of it"))
    print(machine.markdown(["", "s", ""], rows))
    print(f"tables the same in all ways, every stack done: {same}")
    machine.keep(
        {"machine": about, "seconds": {name: taken for name, taken, _ in rows}, "same": same, "ratio": cluster / alone}, options.out
    )
    return 0 if same and cluster / alone <= RATIO else 1


def _jobs(folder: Path, stacks: int, workers: int) -> Path:
    """A jobs file of so many copies of the time-lapse sample."""
    sample = SAMPLES[1]
    folder.mkdir()
    text = (
        f'out = "out"\n[cluster]\nworkers = {workers}\n[defaults]\nprompts = "{sample.prompts.as_posix()}"\nalong = "t"\ndevice = "cpu"\n'
    )
    text += "".join(f'[[stacks]]\ninput = "{sample.image.as_posix()}"\nout = "{number}"\n' for number in range(stacks))
    path = folder / "jobs.toml"
    path.write_text(text)
    return path


def _timed(arguments: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def _killed(jobs: Path, times: int) -> tuple[float, int]:
    """Seconds of a batch whose workers are killed at random, and how many were."""
    began, dead, chance = time.perf_counter(), 0, random.Random(0)
    command = [sys.executable, "-m", "napari_sam2.cli", "batch", str(jobs)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(1 + 4 * chance.random())
            at_work = list(jobs.parent.glob("out/*/.napari-sam2/trail.sqlite"))
            workers = [child for child in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]
            if dead < times and at_work and workers:
                chance.choice(workers).kill()
                dead += 1
    if process.returncode:
        raise SystemExit(f"the batch ended with {process.returncode} after {dead} of its workers were killed")
    return time.perf_counter() - began, dead


def _same(one: Path, other: Path) -> bool:
    """Whether every stack of `one` has tables in `other`, byte by byte."""
    tables = sorted(path.relative_to(one) for path in one.glob("out/*/*.csv"))
    states = set(pd.read_csv(other / "out" / "summary.csv")["state"])
    return states == {"done"} and bool(tables) and all((one / path).read_bytes() == (other / path).read_bytes() for path in tables)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--stacks", type=int, default=16, help="copies of the time-lapse sample")
    parser.add_argument("--workers", type=int, default=2, help="processes of the local cluster")
    parser.add_argument("--kills", type=int, default=0, help="workers to kill at random in a third run")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
