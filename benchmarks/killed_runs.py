"""Killed runs: `track` and `count` killed at random moments end as if they had not been.

    python -m benchmarks.killed_runs --times 20 --out results.json

Each run is a process of its own, killed by SIGKILL, and then continued by ``--resume``. Labels must
have the same pixels and tables the same bytes as those of a run that was left alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.support.machine import describe_machine
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.cli import main as run_command

_FRAMES, _SIDE = 24, 160
_TABLES = ("objects.csv", "tracks.csv", "counts.csv")
_COMMANDS = {
    "track": ["track", "cells.tif", "--prompts", "prompts.csv", "--device", "cpu"],
    "count": ["count", "cells.tif", "--seeds", "classical", "--diameter-px", "16"],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill and continue, print a table, write JSON; 0 if all results are the same."""
    options = _parse_options(arguments)
    rng = np.random.default_rng(options.seed)
    _import_everything()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _write_inputs(rng)
        for name, words in _COMMANDS.items():
            began = time.perf_counter()
            code = _run([*words, "--out", f"{name}-whole"])
            took = time.perf_counter() - began
            rows.append([name, "not killed", f"{took:.1f} s, exit code {code}", ""])
            for number in range(options.times):
                rows.append(_kill_and_resume(name, words, number, rng.uniform(0, took)))
                print(" | ".join(rows[-1]), flush=True)
        os.chdir("/")
    print(format_markdown(["command", "killed after", "continued", "differs"], rows))
    write_results({"machine": describe_machine(), "runs": rows}, options.out)
    killed = sum(row[1].endswith("killed") for row in rows)
    print(f"{killed} runs were killed before they ended")
    same = all(not row[3] and "exit code 0" in row[2] for row in rows)
    return report_checks([("the same pixels and tables after every kill", same)])


def _kill_and_resume(name: str, words: list[str], number: int, moment_s: float) -> list[str]:
    out = f"{name}-{number}"
    code = _run([*words, "--out", out, "--resume"], kill_after_s=moment_s)
    ended = "killed" if code == -signal.SIGKILL else "ended before"
    again = _run([*words, "--out", out, "--resume"])
    return [
        name,
        f"{moment_s:.2f} s, {ended}",
        f"exit code {again}",
        ", ".join(_find_differences(Path(f"{name}-whole"), Path(out))),
    ]


def _find_differences(whole: Path, resumed: Path) -> list[str]:
    """Names of the files that differ or lack, and of what was left over."""
    wrong = [
        table
        for table in _TABLES
        if not (resumed / table).exists()
        or (resumed / table).read_bytes() != (whole / table).read_bytes()
    ]
    labels = [folder / "labels.ome.tif" for folder in (whole, resumed)]
    if not labels[1].exists() or not np.array_equal(
        tifffile.imread(labels[0]), tifffile.imread(labels[1])
    ):
        wrong.append("labels")
    left = {path.name for path in resumed.iterdir()} - {path.name for path in whole.iterdir()}
    return wrong + sorted(left)


def _run(words: list[str], kill_after_s: float | None = None) -> int:
    """The exit code of a command in a new process; negative for a signal."""
    child = os.fork()
    if not child:
        code = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            code = run_command(words)
        finally:
            os._exit(code)
    if kill_after_s is not None:
        end = time.perf_counter() + kill_after_s
        while time.perf_counter() < end:
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return 0
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _write_inputs(rng: np.random.Generator) -> None:
    y, x = np.mgrid[:_SIDE, :_SIDE]
    centres = [(30, 30), (40, 110), (100, 50), (120, 120)]
    frames = rng.normal(40, 5, (_FRAMES, _SIDE, _SIDE))
    for frame in range(_FRAMES):
        for cy, cx in centres:
            frames[frame][(y - cy) ** 2 + (x - cx - frame) ** 2 <= 64] += 120
    planes = np.clip(frames, 0, 255).astype(np.uint8)
    tifffile.imwrite("cells.tif", planes, imagej=True, metadata={"axes": "TYX"})
    rows = [f"{n},0,point,{cy},{cx}" for n, (cy, cx) in enumerate(centres, 1)]
    Path("prompts.csv").write_text("track,frame,kind,y,x\n" + "\n".join(rows) + "\n")


def _import_everything() -> None:
    """What the runs need, once for all: a forked process has it already."""
    import napari_sam2.api.count
    import napari_sam2.api.job
    import napari_sam2.models.load  # noqa: F401


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.killed_runs", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
