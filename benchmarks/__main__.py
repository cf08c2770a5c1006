"""Run all benchmarks, each in its own process, and write a table of what is reached.

    python -m benchmarks --data DATA --sam2 FOLDER --pack PACK --out FOLDER
    python -m benchmarks --short                 ratios only, in a minute

`speed.large` (20 GB of disk) and `speed.window` (needs a screen) are run by hand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.support.machine import describe_machine
from benchmarks.support.results import format_markdown

SHORT_BENCHMARKS: dict[str, tuple[str, ...]] = {"speed.ratios": ()}
BENCHMARKS: dict[str, tuple[str, ...]] = {
    **SHORT_BENCHMARKS,
    "speed.startup": (),
    "speed.crowd": (),
    "accuracy.tiles": (),
    "speed.tile_cache": (),
    "speed.profiles": (),
    "speed.correction": (),
    "speed.batch": (),
    "speed.measuring": (),
    "speed.propagation": ("--sam2",),
    "speed.scaling": ("--sam2",),
    "speed.memory": ("--sam2",),
    "accuracy.propagation": ("data",),
    "accuracy.watershed": ("data",),
    "accuracy.attention": ("data",),
    "accuracy.precision": ("data",),
    "accuracy.policies": ("data",),
    "accuracy.counting": ("data",),
    "accuracy.images": ("data", "pack"),
    "accuracy.finetuning": ("pack",),
}
"""Benchmarks by name, and the arguments that each requires."""


def make_command(name: str, options: argparse.Namespace) -> list[str] | None:
    """Make the command line of a benchmark; None if a required argument is not given."""
    words = [sys.executable, "-m", f"benchmarks.{name}"]
    for need in BENCHMARKS[name]:
        given = getattr(options, need.removeprefix("--"))
        if not given:
            return None
        words += [need] * need.startswith("--") + [
            str(path) for path in (given if isinstance(given, list) else [given])
        ]
    return [*words, "--out", str(options.out / f"{name}.json")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks, write ``summary.md``; 0 if all of them reach their requirements."""
    options = _parse_options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    about, rows, missed = describe_machine(), list[list[str]](), 0
    for name in options.only or (SHORT_BENCHMARKS if options.short else BENCHMARKS):
        words = make_command(name, options)
        if words is None:
            rows.append([name, f"not run: needs {' and '.join(BENCHMARKS[name])}", ""])
            continue
        print(f"\n== {name}", flush=True)
        began = time.perf_counter()
        done = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True)
        print(done.stdout, flush=True)
        (options.out / f"{name}.txt").write_text(done.stdout, encoding="utf-8")
        rows.append(
            [
                name,
                "reached" if done.returncode == 0 else "MISSED",
                f"{time.perf_counter() - began:.0f}",
            ]
        )
        missed += done.returncode != 0
    table = format_markdown(["benchmark", "requirements", "took, s"], rows)
    facts = format_markdown(["", ""], [[key, value] for key, value in about.items()])
    (options.out / "summary.md").write_text(f"{table}\n\n{facts}\n", encoding="utf-8")
    print(f"\n{table}\n\n{facts}\nwritten: {options.out / 'summary.md'}")
    return 1 if missed else 0


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--short", action="store_true", help="run the ratios only")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), help="run these only")
    parser.add_argument("--data", type=Path, help="folder of stacks with their truth")
    parser.add_argument("--pack", type=Path, help="folder of a training pack")
    parser.add_argument(
        "--sam2",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="folders of the reference and of what it needs",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("benchmark-results"),
        help="folder of results (%(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
