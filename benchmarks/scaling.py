"""Scaling: seconds over objects, ours near its objects against the reference predictor, same weights, same frames, in turn.

python -m benchmarks.scaling --sam2 FOLDER --out results.json

Random weights give masks as large as the frame, which trained ones do not give of nuclei. So ours is told here where each object is
and how large (`Placed`); the time does not depend on what the masks are. Whether masks stay the same is measured with trained
weights, by `benchmarks.near`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from benchmarks.case import Case, Click
from benchmarks.peers import Ours, Peer, build
from napari_sam2.core.window import Window
from napari_sam2.models.regions import Corners, Regions

PARTS = {16: 1 / 10, 64: 1 / 25}
"""Of the reference's time, that ours may take at most with so many objects."""

FURTHER = 1 / 40
"""Of what a further object costs the reference."""

TWICE = 2.0
"""What twice the objects or frames may take at most, in parts of once."""


@dataclass(frozen=True)
class Placed(Regions):
    """Regions of `least` tokens around the middle of each mask, however large it is: as for objects that fit into them."""

    def around(self, corners: Corners, whole: Window) -> Window:
        """See `Regions.around`; the corners are drawn together to a point."""
        (top, left), (bottom, right) = corners
        middle = ((top + bottom) / 2, (left + right) / 2)
        return super().around((middle, middle), whole)


def crowd(*, frames: int, objects: int, size: int) -> Case:
    """Noise, and one click for each of so many objects on a grid: what is on the frames does not matter here."""
    across = int(np.ceil(np.sqrt(objects)))
    places = [((row + 0.5) * size / across, (column + 0.5) * size / across) for row in range(across) for column in range(across)]
    clicks = tuple(Click(0, track, ((round(y), round(x)),), (True,)) for track, (y, x) in enumerate(places[:objects], start=1))
    pixels = np.random.default_rng(0).random((frames, size, size), dtype=np.float32)
    return Case(pixels, clicks, clicks[0])


def ours(size: int, side: int) -> Peer:
    """This package, looking by Regions of `side` tokens."""
    peer = Ours(size)
    peer.model.regions = Placed(least=side)
    return peer


def seconds(peer: Peer, case: Case) -> dict[str, float]:
    """Wall clock and processor seconds from frames to all masks."""
    wall, cpu = time.perf_counter(), time.process_time()
    opened = peer.open(case.frames)
    opened.click(case.clicks)
    opened.propagate()
    for frame in range(len(case.frames)):
        opened.masks(frame)
    found = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    opened.close()
    return found


def line(rows: Sequence[dict[str, Any]], clock: str) -> tuple[float, float]:
    """Seconds of no object, and of each object: the straight line through rows that were measured."""
    slope, start = np.polyfit([row["objects"] for row in rows], [row[clock] for row in rows], 1)
    return float(start), float(slope)


def judged(mine: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], clock: str) -> list[tuple[str, bool]]:
    """What is asked, with what was measured, and whether it is reached. Ratios only."""
    start, each = line(theirs, clock)
    checks = []
    for objects, part in PARTS.items():
        row = next((row for row in mine if row["objects"] == objects), None)
        if row:
            found = row[clock] / (start + each * objects)
            checks.append((f"{objects} objects: 1/{1 / found:.1f} of the reference's time, asked 1/{1 / part:.0f}", found <= part))
    further = line(mine, clock)[1] / each
    checks.append((f"a further object: 1/{1 / further:.0f} of the reference's, asked 1/{1 / FURTHER:.0f}", further <= FURTHER))
    return checks


def doubled(rows: Sequence[dict[str, Any]], clock: str) -> list[tuple[str, bool]]:
    """Whether so many more objects never take more than so many times as long."""
    checks = []
    for few, many in pairwise(rows):
        growth, more = many[clock] / few[clock], many["objects"] / few["objects"]
        checks.append((f"{few['objects']} to {many['objects']} objects: {growth:.1f} times as long", growth <= more))
    return checks


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON and a plot; 0 where all that is asked is reached."""
    options = _options(arguments)
    about, rows = machine.described(), [row for path in options.earlier for row in json.loads(path.read_text())["results"]]
    peers = [("ours", ours(options.size, options.side), options.objects)]
    if options.peer:
        peers.append(("reference", build("reference", options.size, sam2=options.sam2), options.few))
    for _, peer, _ in (each for each in peers if each[2]):
        seconds(peer, crowd(frames=2, objects=1, size=options.size))  # warm
    counts = sorted({count for _, _, counts in peers for count in counts})
    for count in counts:
        for name, peer, wanted in peers:
            if count in wanted:
                case = crowd(frames=options.frames, objects=count, size=options.size)
                rows.append({"peer": name, "objects": count, "frames": options.frames, **seconds(peer, case)})
                print(rows[-1], flush=True)
    if options.longer:
        case = crowd(frames=2 * options.frames, objects=options.objects[0], size=options.size)
        rows.append({"peer": "longer", "objects": options.objects[0], "frames": 2 * options.frames, **seconds(peers[0][1], case)})
    checks = _checks(rows, options)
    print(_table(rows, options))
    for what, good in checks:
        print(f"{'reached' if good else 'MISSED '}  {what}")
    machine.keep(
        {"machine": about, "settings": vars(options) | {"sam2": [], "earlier": len(options.earlier), "out": None}, "results": rows},
        options.out,
    )
    if options.out:
        _plot(rows, options)
    return 0 if all(good for _, good in checks) else 1


def _checks(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[tuple[str, bool]]:
    mine, theirs, longer = ([row for row in rows if row["peer"] == name] for name in ("ours", "reference", "longer"))
    checks = doubled(mine, options.clock)
    if longer:
        growth = longer[0][options.clock] / mine[0][options.clock]
        checks.append((f"twice the frames: {growth:.2f} times as long", growth <= TWICE))
    return checks + (judged(mine, theirs, options.clock) if len(theirs) > 1 else [])


def _table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Ours as measured, beside the reference: measured where it was, else by its line (in brackets)."""
    mine, theirs = ({row["objects"]: row[options.clock] for row in rows if row["peer"] == name} for name in ("ours", "reference"))
    known = [row for row in rows if row["peer"] == "reference"]
    start, each = line(known, options.clock) if len(known) > 1 else (float("nan"),) * 2
    body = []
    for count in sorted({*mine, *theirs}):
        other = theirs.get(count, start + each * count)
        shown = f"{other:.1f}" if count in theirs else f"({other:.0f})"
        body.append([count, f"{mine[count]:.1f}" if count in mine else "", shown, f"1/{other / mine[count]:.1f}" if count in mine else ""])
    title = f"{options.size} × {options.size}, {options.frames} frames, Regions of {options.side}² tokens, {options.clock} seconds"
    return f"\n{title}\n\n" + machine.markdown(["objects", "napari-sam2", "reference", "ours / this"], body) + "\n"


def _plot(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, title in (("ours", "napari-sam2, near"), ("reference", "reference")):
        found = [(row["objects"], row[options.clock]) for row in rows if row["peer"] == name]
        if found:
            axes.plot(*zip(*found, strict=True), "o-", label=title)
    known = [row for row in rows if row["peer"] == "reference"]
    if len(known) > 1:
        start, each = line(known, options.clock)
        counts = np.array(sorted({row["objects"] for row in rows}))
        axes.plot(counts, start + each * counts, "--", color="C1", label="reference, by its linear cost")
    axes.set(xscale="log", yscale="log", xlabel="objects", ylabel=f"{options.clock} seconds")
    axes.set_title(f"{options.frames} frames of {options.size}²")
    axes.legend()
    figure.savefig(options.out.with_suffix(".png"), dpi=110)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sam2", nargs="+", type=Path, default=[], metavar="FOLDER", help="where the reference and what it needs lie")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="ours alone")
    parser.add_argument("--size", type=int, default=1024, help="side of frames and input")
    parser.add_argument("--side", type=int, default=16, help="tokens of a Region")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--objects", nargs="*", type=int, default=[1, 4, 16, 64], help="of ours")
    parser.add_argument("--few", nargs="*", type=int, default=[1, 2], help="of the reference, whose cost is linear in objects")
    parser.add_argument("--earlier", nargs="+", type=Path, default=[], help="JSON of earlier runs of the same case, to go on from")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="cpu", help="what is judged by: processor time bears company")
    parser.add_argument("--longer", action="store_true", help="also twice the frames")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON, and a plot beside it")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
