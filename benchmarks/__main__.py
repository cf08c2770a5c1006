"""All benchmarks, one after another, each in a process of its own: one table of what was reached, and all results in a folder.

python -m benchmarks --data DATA --sam2 FOLDER --pack PACK --out FOLDER python -m benchmarks --short
ratios alone, in a minute: what CI runs
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine

SHORT_BENCHMARKS = {"ratios": ()}
BENCHMARKS: dict[str, tuple[str, ...]] = {
    **SHORT_BENCHMARKS,
    "startup": (),
    "crowd": (),
    "tiles": (),
    "profiles": (),
    "correction": (),
    "batch": (),
    "measuring": (),
    "propagation": ("--sam2",),
    "scaling": ("--sam2",),
    "memory": ("--sam2",),
    "accuracy": ("data",),
    "classical": ("data",),
    "near": ("data",),
    "precision": ("data",),
    "policies": ("data",),
    "counting": ("data",),
    "stills": ("data", "pack"),
    "finetuning": ("pack",),
}
"""Benchmarks by name, and what each needs to be given."""


def make_command(name: str, options: argparse.Namespace) -> list[str] | None:
    """The command line of a benchmark; None where what it needs was not given."""
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
    """Run them, write ``summary.md``; 0 where all that ran reached what is asked of it."""
    options = _parse_options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    about, rows, missed = machine.describe_machine(), list[list[str]](), 0
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
    table = machine.format_markdown(["benchmark", "what is asked", "took, s"], rows)
    facts = machine.format_markdown(["", ""], [[key, value] for key, value in about.items()])
    (options.out / "summary.md").write_text(f"{table}\n\n{facts}\n", encoding="utf-8")
    print(f"\n{table}\n\n{facts}\nwritten: {options.out / 'summary.md'}")
    return 1 if missed else 0


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--short", action="store_true", help="ratios alone")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), help="these alone")
    parser.add_argument("--data", type=Path, help="folder of stacks with their truth")
    parser.add_argument("--pack", type=Path, help="folder of training packs")
    parser.add_argument(
        "--sam2",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="where the reference and what it needs lie",
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
