"""Scaling: seconds over objects, frames and image sizes: ours near its objects, the reference predictor, and a watershed that is linked.

python -m benchmarks.scaling --sam2 FOLDER --out results.json python -m benchmarks.scaling --sam2
FOLDER --minutes 4 --out one.json                       as much as fits python -m benchmarks.scaling
--sam2 FOLDER --earlier one.json --out results.json            the rest of it

Ours and the reference have the same weights and are given the same frames, in turn. The reference
is measured with one and two objects: what more of them cost is scaled by that, for it carries them
one by one. Random weights give masks as large as the frame, which trained ones do not give of
nuclei. So ours is told where each object is and how large (`FixedSizeRegions`); the time does not depend on
what masks are. Whether masks stay the same is measured with trained weights, by `benchmarks.near`;
how good a watershed's are, by `benchmarks.classical`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks import machine
from benchmarks.case import Click, PropagationCase
from benchmarks.classical import link_planes, segment_plane
from benchmarks.peers import NapariSam2Peer, Peer, make_peer
from napari_sam2.core.window import Window
from napari_sam2.models.local_attention import Corners, LocalRegions

MAX_PARTS = {16: 1 / 10, 64: 1 / 25}
"""Of the reference's time, that ours may take at most with so many objects, at `JUDGED_SIZE`."""

MAX_FURTHER_PART = 1 / 40
"""Of what a further object costs the reference."""

MAX_SLOWDOWN = 1.05
"""Of what frames took before, that as many frames may take later on: what a clock errs.

See `check_steady_in_frames`.
"""

JUDGED_SIZE = 1024
"""Side of the frames at which PARTS and FURTHER are asked for."""

PEERS = {"ours": "napari-sam2, near", "reference": "reference", "classical": "watershed, linked"}
_BY_LINE = "reference, by its linear cost"
Row = dict[str, Any]
GrowingAxis = Literal["objects", "frames"]


@dataclass(frozen=True)
class Series:
    """So many frames of size², carried with each number of objects: by ours and the watershed, and with few by the reference."""

    size: int
    frames: int
    objects: tuple[int, ...]
    reference_objects: tuple[int, ...] = (1, 2)

    @property
    def name(self) -> str:
        """As `--only` has it."""
        return f"{self.size}x{self.frames}"

    def list_cases(self) -> Iterator[Row]:
        """What is measured, in turn, yet without seconds."""
        for count in sorted({*self.objects, *self.reference_objects}):
            for peer, counts in (
                ("ours", self.objects),
                ("reference", self.reference_objects),
                ("classical", self.objects),
            ):
                if count in counts:
                    yield {"peer": peer, "size": self.size, "frames": self.frames, "objects": count}


SERIES = (
    Series(512, 8, (1, 4, 16, 64)),
    Series(512, 16, (4,)),
    Series(512, 32, (4,), reference_objects=()),
    Series(1024, 8, (1, 4, 16, 64, 256)),
)
"""All of it."""


@dataclass(frozen=True)
class FixedSizeRegions(LocalRegions):
    """Regions of `least` tokens around the middle of each mask, however large it is: as for objects that fit into them."""

    def make_region(self, corners: Corners, whole: Window) -> Window:
        """See `LabelRegions.around`; the corners are drawn together to a point."""
        (top, left), (bottom, right) = corners
        middle = ((top + bottom) / 2, (left + right) / 2)
        return super().make_region((middle, middle), whole)


def draw_crowd(*, frames: int, objects: int, size: int) -> PropagationCase:
    """Blurred discs on a grid in noise, one click for each.

    What is on the frames does not matter but to the watershed.
    """
    places = [
        (
            (row + 0.5) * size / _compute_grid_side(objects),
            (column + 0.5) * size / _compute_grid_side(objects),
        )
        for row, column in _list_grid_cells(objects)
    ]
    clicks = tuple(
        Click(0, track, ((round(y), round(x)),), (True,))
        for track, (y, x) in enumerate(places, start=1)
    )
    discs = np.zeros((size, size), dtype=np.float32)
    discs[tuple(np.array(places, dtype=int).T)] = 1.0
    discs = gaussian_filter(discs, _compute_width_px(size, objects) / 4)
    noise = np.random.default_rng(0).random((frames, size, size), dtype=np.float32)
    return PropagationCase(noise / 2 + discs / discs.max() / 2, clicks, clicks[0])


def make_near_peer(size: int, side: int = LocalRegions().min_tokens) -> Peer:
    """This package, looking by Regions of `side` tokens."""
    peer = NapariSam2Peer(size)
    peer.model.regions = FixedSizeRegions(min_tokens=side)
    return peer


def time_peer(peer: Peer, case: PropagationCase) -> dict[str, float]:
    """Wall clock and processor seconds from frames to all masks."""

    def carried() -> None:
        opened = peer.open_video(case.frames)
        opened.add_clicks(case.clicks)
        opened.propagate()
        for frame in range(len(case.frames)):
            opened.read_masks(frame)
        opened.close()

    return _time_call(carried)


def time_classical(case: PropagationCase) -> dict[str, float]:
    """The same from frames to linked labels, by `benchmarks.classical`."""
    wide = _compute_width_px(case.shape[1], len(case.clicks))
    return _time_call(lambda: link_planes(segment_plane(plane, wide) for plane in case.frames))


def fit_line(rows: Sequence[Row], clock: str) -> tuple[float, float]:
    """Seconds of no object, and of each object: the straight line through rows that were measured."""
    slope, start = np.polyfit([row["objects"] for row in rows], [row[clock] for row in rows], 1)
    return float(start), float(slope)


def check_against_reference(
    own_rows: Sequence[Row], reference_rows: Sequence[Row], clock: str
) -> list[tuple[str, bool]]:
    """What is asked, with what was measured, and whether it is reached. Ratios only."""
    start, each = fit_line(reference_rows, clock)
    checks = []
    for objects, part in MAX_PARTS.items():
        row = next((row for row in own_rows if row["objects"] == objects), None)
        if row:
            found = row[clock] / (start + each * objects)
            checks.append(
                (
                    (
                        f"{objects} objects: 1/{1 / found:.1f} of the reference's time, asked "
                        f"1/{1 / part:.0f}"
                    ),
                    found <= part,
                )
            )
    if len(own_rows) > 1:
        further = fit_line(own_rows, clock)[1] / each
        checks.append(
            (
                (
                    f"a further object: 1/{1 / further:.0f} of the reference's, asked "
                    f"1/{1 / MAX_FURTHER_PART:.0f}"
                ),
                further <= MAX_FURTHER_PART,
            )
        )
    return checks


def check_linear_in_objects(rows: Sequence[Row], clock: str) -> list[tuple[str, bool]]:
    """Whether so many more objects never take more than so many times as long.

    Rows ascend by objects.
    """
    checks = []
    for few, many in pairwise(rows):
        growth, more = many[clock] / few[clock], many["objects"] / few["objects"]
        checks.append(
            (
                f"{few['objects']} to {many['objects']} objects: {growth:.2f} times as long",
                growth <= more,
            )
        )
    return checks


def check_steady_in_frames(rows: Sequence[Row], clock: str) -> list[tuple[str, bool]]:
    """Whether further frames never take longer than those before them.

    Rows ascend by frames, the first having more than seven.

    The first seven are cheaper: SAM 2's memory fills while they are walked. So from 8 to 16 all
    that follow its rule take more than twice as long, and come nearer to it from 16 to 32; what
    would be wrong is a cost that goes on growing.
    """
    checks = []
    for (one, two), (_, three) in pairwise(pairwise(rows)):
        before, after = (
            (b[clock] - a[clock]) / (b["frames"] - a["frames"])
            for a, b in ((one, two), (two, three))
        )
        text = f"a frame after {two['frames']}: {after:.2f} s, before: {before:.2f} s"
        ratios = ", ".join(
            f"{a['frames']} to {b['frames']} frames {b[clock] / a[clock]:.2f}"
            for a, b in ((one, two), (two, three))
        )
        checks.append((f"{text} (whole: {ratios})", after <= MAX_SLOWDOWN * before))
    return checks


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON and a plot; 0 where all that is asked is reached."""
    options = _parse_options(arguments)
    about, rows = (
        machine.describe_machine(),
        [row for path in options.earlier for row in json.loads(path.read_text())["results"]],
    )
    complete = _measure_missing(rows, options)
    print(
        "\n"
        + "\n\n".join(_format_table(found, options.clock) for found in _group_by_series(rows))
        + "\n"
    )
    checks = _check_all(rows, options.clock)
    for what, good in checks:
        print(f"{'reached' if good else 'MISSED '}  {what}")
    if not complete:
        print("not all was measured: go on with --earlier")
    machine.write_results({"machine": about, "clock": options.clock, "results": rows}, options.out)
    if options.out:
        _plot(rows, options)
    return 0 if complete and all(good for _, good in checks) else 1


def _measure_missing(rows: list[Row], options: argparse.Namespace) -> bool:
    """Add what is not among the rows; False where time ran out before all was."""
    began, known = (
        time.monotonic(),
        [{key: value for key, value in row.items() if key not in ("wall", "cpu")} for row in rows],
    )
    for series in SERIES:
        if options.only and series.name not in options.only:
            continue
        made: dict[str, Callable[[PropagationCase], dict[str, float]]] = {
            "classical": time_classical
        }
        for row in series.list_cases():
            if row in known or (row["peer"] == "reference" and not options.peer):
                continue
            if time.monotonic() - began > 60 * options.minutes:
                return False
            if row["peer"] not in made:
                made[row["peer"]] = _make_warm_peer(row["peer"], series.size, options.sam2)
            rows.append(
                {
                    **row,
                    **made[row["peer"]](
                        draw_crowd(frames=series.frames, objects=row["objects"], size=series.size)
                    ),
                }
            )
            print(rows[-1], flush=True)
    return True


def _make_warm_peer(
    name: str, size: int, sam2: Sequence[Path]
) -> Callable[[PropagationCase], dict[str, float]]:
    """A peer that has run once."""
    peer = make_near_peer(size) if name == "ours" else make_peer(name, size, sam2=sam2)
    time_peer(peer, draw_crowd(frames=2, objects=1, size=size))
    return lambda case: time_peer(peer, case)


def _group_by_series(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one size and number of frames together, the smallest first."""

    def kind(row: Row) -> tuple[int, int]:
        return row["size"], row["frames"]

    return [
        sorted(found, key=lambda row: row["objects"])
        for _, found in groupby(sorted(rows, key=kind), kind)
    ]


def _filter_peer(rows: Sequence[Row], peer: str) -> list[Row]:
    return [row for row in rows if row["peer"] == peer]


def _check_all(rows: Sequence[Row], clock: str) -> list[tuple[str, bool]]:
    checks = []
    for found in _group_by_series(rows):
        mine, theirs = _filter_peer(found, "ours"), _filter_peer(found, "reference")
        checks += [
            (f"{found[0]['size']}²: {what}", good)
            for what, good in check_linear_in_objects(mine, clock)
        ]
        if found[0]["size"] == JUDGED_SIZE and len(theirs) > 1:
            checks += check_against_reference(mine, theirs, clock)
    lengths = _filter_by_length(rows, "ours")
    return checks + [
        (f"{lengths[0]['size']}², {lengths[0]['objects']} objects: {what}", good)
        for what, good in check_steady_in_frames(lengths, clock)
    ]


def _filter_by_length(rows: Sequence[Row], peer: str) -> list[Row]:
    """The rows of a peer that differ in their frames alone: those of the size and the objects that most series have."""
    mine = _filter_peer(rows, peer)
    most = max(mine, key=lambda row: sum(_is_same_case(row, other) for other in mine), default=None)
    chosen = [row for row in mine if most and _is_same_case(row, most)]
    return sorted(chosen, key=lambda row: row["frames"])


def _format_table(rows: Sequence[Row], clock: str) -> str:
    """Ours as measured, beside the reference: measured where it was, else by its line (in brackets)."""
    mine, theirs, cut = (
        {row["objects"]: row[clock] for row in _filter_peer(rows, name)} for name in PEERS
    )
    start, each = (
        fit_line(_filter_peer(rows, "reference"), clock) if len(theirs) > 1 else (float("nan"),) * 2
    )
    body = []
    for count in sorted({*mine, *theirs}):
        other = theirs.get(count, start + each * count)
        shown = f"{other:.1f}" if count in theirs else f"({other:.0f})" if len(theirs) > 1 else ""
        ratio = f"1/{other / mine[count]:.1f}" if count in mine and shown else ""
        body.append(
            [
                count,
                f"{mine[count]:.1f}" if count in mine else "",
                shown,
                ratio,
                f"{cut[count]:.2f}" if count in cut else "",
            ]
        )
    title = f"{rows[0]['size']} × {rows[0]['size']}, {rows[0]['frames']} frames, {clock} seconds"
    return f"{title}\n\n" + machine.format_markdown(
        ["objects", PEERS["ours"], PEERS["reference"], "ours / this", PEERS["classical"]], body
    )


def _plot(rows: Sequence[Row], options: argparse.Namespace) -> None:
    from matplotlib.figure import Figure

    several, lengths = (
        [found for found in _group_by_series(rows) if len(_filter_peer(found, "ours")) > 1],
        _filter_by_length(rows, "ours"),
    )
    figure = Figure(figsize=(4 * (len(several) + 1), 4), layout="constrained")
    panels = figure.subplots(1, len(several) + 1, squeeze=False)[0]
    for axes, found in zip(panels, several, strict=False):
        for number, name in enumerate(PEERS):
            _draw_line(
                axes,
                _filter_peer(found, name),
                "objects",
                options.clock,
                color=f"C{number}",
                label=PEERS[name],
            )
        _draw_line(
            axes,
            _extrapolate_reference(found, options.clock),
            "objects",
            options.clock,
            color="C1",
            linestyle="--",
            marker="",
            label=_BY_LINE,
        )
        _label_axes(
            axes,
            [row["objects"] for row in found],
            f"{found[0]['frames']} frames of {found[0]['size']}²",
            "objects",
            options.clock,
        )
    if lengths:
        ahead = [
            row
            for found in _group_by_series(rows)
            for row in _extrapolate_reference(found, options.clock)
            if _is_same_case(row, lengths[0])
        ]
        _draw_line(panels[-1], lengths, "frames", options.clock, color="C0")
        _draw_line(
            panels[-1], ahead, "frames", options.clock, color="C1", linestyle="--", marker=""
        )
        _draw_line(
            panels[-1], _filter_by_length(rows, "classical"), "frames", options.clock, color="C2"
        )
        title = f"{lengths[0]['objects']} objects on frames of {lengths[0]['size']}²"
        _label_axes(panels[-1], [row["frames"] for row in lengths], title, "frames", options.clock)
    named = {
        text.get_label(): text
        for axes in panels
        for text in axes.get_lines()
        if not text.get_label().startswith("_")
    }
    figure.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=4, fontsize="small"
    )
    figure.savefig(options.out.with_suffix(".png"), dpi=110)


def _extrapolate_reference(rows: Sequence[Row], clock: str) -> list[Row]:
    """The reference by its linear cost, for the objects that ours was given; nothing where it was not measured twice."""
    theirs = _filter_peer(rows, "reference")
    if len(theirs) < 2:
        return []
    start, each = fit_line(theirs, clock)
    return [{**row, clock: start + each * row["objects"]} for row in _filter_peer(rows, "ours")]


def _is_same_case(row: Row, other: Row) -> bool:
    return (row["size"], row["objects"]) == (other["size"], other["objects"])


def _label_axes(
    axes: Any, ticks: Sequence[int], title: str, grows: GrowingAxis, clock: str
) -> None:
    axes.set(xscale="log", yscale="log", xlabel=grows, ylabel=f"{clock} seconds", title=title)
    axes.set_xticks(sorted(set(ticks)), [str(tick) for tick in sorted(set(ticks))])
    axes.minorticks_off()


def _draw_line(axes: Any, rows: Sequence[Row], grows: GrowingAxis, clock: str, **more: Any) -> None:
    if rows:
        axes.plot(
            [row[grows] for row in rows], [row[clock] for row in rows], **{"marker": "o", **more}
        )


def _time_call(work: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _compute_grid_side(objects: int) -> int:
    return int(np.ceil(np.sqrt(objects)))


def _list_grid_cells(objects: int) -> list[tuple[int, int]]:
    return [divmod(number, _compute_grid_side(objects)) for number in range(objects)]


def _compute_width_px(size: int, objects: int) -> float:
    """Pixels an object is wide: half of its cell of the grid, and not more than nuclei are."""
    return min(40.0, size / _compute_grid_side(objects) / 2)


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--sam2",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="where the reference and what it needs lie",
    )
    parser.add_argument(
        "--no-peer", dest="peer", action="store_false", help="without the reference"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[series.name for series in SERIES], help="size × frames"
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="after which nothing more is begun"
    )
    parser.add_argument(
        "--earlier", nargs="+", type=Path, default=[], help="JSON of earlier runs, to go on from"
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="cpu",
        help="what is judged by: processor time bears company",
    )
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON, and a plot beside it")
    return machine.set_threads(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
