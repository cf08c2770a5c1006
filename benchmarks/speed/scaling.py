"""Scaling: seconds by number of objects, number of frames and size of the image.

    python -m benchmarks.speed.scaling --sam2 FOLDER --out results.json
    python -m benchmarks.speed.scaling --sam2 FOLDER --minutes 4 --out one.json
    python -m benchmarks.speed.scaling --sam2 FOLDER --earlier one.json --out results.json

Compared are this package with local attention, the reference predictor, and a linked watershed.
The second call stops after some minutes, the third one measures the rest.

Ours and the reference have the same random weights and get the same frames, in turn. The reference
is measured with one and two objects only: it propagates objects one by one, so more of them cost
proportionally more. `benchmarks.accuracy.attention` measures with trained weights whether local
attention changes masks, `benchmarks.accuracy.watershed` how good a watershed's masks are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.support.click_case import PropagationCase
from benchmarks.support.machine import describe_machine, set_threads
from benchmarks.support.peers import make_peer
from benchmarks.support.random_model import (
    compute_width_px,
    draw_crowd,
    make_local_peer,
    time_peer,
)
from benchmarks.support.requirements import Check, report_checks
from benchmarks.support.resources import Seconds, time_call
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.watershed import link_planes, segment_plane

MAX_PARTS = {16: 1 / 10, 64: 1 / 25}
"""By number of objects: the share of the reference's time that ours may take, at `JUDGED_SIZE`."""


MAX_FURTHER_PART = 1 / 40
"""The share of the reference's cost of a further object that ours may cost."""


MAX_SLOWDOWN = 1.05
"""How much longer later frames may take than earlier ones, because clocks err.

See `check_steady_in_frames`.
"""


JUDGED_SIZE = 1024
"""Side of the frames for which `MAX_PARTS` and `MAX_FURTHER_PART` hold."""


PEERS = {"ours": "napari-sam2, local", "reference": "reference", "classical": "watershed, linked"}


_BY_LINE = "reference, by its linear cost"


Row = dict[str, Any]


GrowingAxis = Literal["objects", "frames"]


@dataclass(frozen=True)
class Series:
    """Frames of one size, with several numbers of objects.

    Parameters
    ----------
    size, frames
        Side of the frames in pixels, and their number.
    objects, reference_objects
        Numbers of objects for ours and the watershed, and for the reference.
    """

    size: int
    frames: int
    objects: tuple[int, ...]
    reference_objects: tuple[int, ...] = (1, 2)

    @property
    def name(self) -> str:
        """The name for `--only`."""
        return f"{self.size}x{self.frames}"

    def list_cases(self) -> Iterator[Row]:
        """List what is measured, in turn, as rows without seconds."""
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
"""All series."""


def time_classical(case: PropagationCase) -> Seconds:
    """Measure the time from frames to linked labels of a watershed."""
    width_px = compute_width_px(case.shape[1], len(case.clicks))
    return time_call(lambda: link_planes(segment_plane(plane, width_px) for plane in case.frames))[
        1
    ]


def fit_line(rows: Sequence[Row], clock: str) -> tuple[float, float]:
    """Fit a line through measured rows. Returns seconds of no object, and of each object."""
    slope, start = np.polyfit([row["objects"] for row in rows], [row[clock] for row in rows], 1)
    return float(start), float(slope)


def check_against_reference(
    own_rows: Sequence[Row], reference_rows: Sequence[Row], clock: str
) -> list[Check]:
    """Check the ratios of our time to the reference's."""
    start, slope = fit_line(reference_rows, clock)
    checks = []
    for row in own_rows:
        part = MAX_PARTS.get(row["objects"])
        if part is not None:
            share = row[clock] / (start + slope * row["objects"])
            text = (
                f"{row['objects']} objects: 1/{1 / share:.1f} of the reference's time, at most "
                f"1/{1 / part:.0f}"
            )
            checks.append((text, share <= part))
    if len(own_rows) > 1:
        share = fit_line(own_rows, clock)[1] / slope
        text = (
            f"a further object: 1/{1 / share:.0f} of the reference's, at most "
            f"1/{1 / MAX_FURTHER_PART:.0f}"
        )
        checks.append((text, share <= MAX_FURTHER_PART))
    return checks


def check_linear_in_objects(rows: Sequence[Row], clock: str) -> list[Check]:
    """Check that n times as many objects take at most n times as long.

    Rows ascend by objects.
    """
    checks = []
    for few, many in pairwise(rows):
        growth, more = many[clock] / few[clock], many["objects"] / few["objects"]
        text = f"{few['objects']} to {many['objects']} objects: {growth:.2f} times as long"
        checks.append((text, growth <= more))
    return checks


def check_steady_in_frames(rows: Sequence[Row], clock: str) -> list[Check]:
    """Check that later frames do not take longer than earlier ones.

    Rows ascend by frames, the first with more than seven.

    The first seven frames are cheaper, because SAM 2's memory fills during them. So 16 frames take
    more than twice as long as 8 in every implementation, and the ratio is nearer to two from 16 to
    32. A cost that grows further would be wrong.
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
    """Measure, print tables, write JSON and a plot; 0 if all requirements are reached."""
    options = _parse_options(arguments)
    about, rows = (
        describe_machine(),
        [row for path in options.earlier for row in json.loads(path.read_text())["results"]],
    )
    complete = _measure_missing(rows, options)
    tables = [_format_table(group, options.clock) for group in _group_by_series(rows)]
    print("\n" + "\n\n".join(tables) + "\n")
    status = report_checks(_check_all(rows, options.clock))
    if not complete:
        print("not all is measured yet: continue with --earlier")
    write_results({"machine": about, "clock": options.clock, "results": rows}, options.out)
    if options.out:
        _plot(rows, options)
    return status if complete else 1


def _measure_missing(rows: list[Row], options: argparse.Namespace) -> bool:
    """Measure what is not among the rows. Returns False if time ran out."""
    start = time.monotonic()
    measured = [
        {key: value for key, value in row.items() if key not in ("wall", "cpu")} for row in rows
    ]
    for series in SERIES:
        if options.only and series.name not in options.only:
            continue
        peers: dict[str, Callable[[PropagationCase], Seconds]] = {"classical": time_classical}
        for row in series.list_cases():
            if row in measured or (row["peer"] == "reference" and not options.peer):
                continue
            if time.monotonic() - start > 60 * options.minutes:
                return False
            if row["peer"] not in peers:
                peers[row["peer"]] = _make_warm_peer(row["peer"], series.size, options.sam2)
            case = draw_crowd(frames=series.frames, objects=row["objects"], size=series.size)
            rows.append({**row, **asdict(peers[row["peer"]](case))})
            print(rows[-1], flush=True)
    return True


def _make_warm_peer(
    name: str, size: int, sam2: Sequence[Path]
) -> Callable[[PropagationCase], Seconds]:
    """Make a peer, and run it once."""
    peer = make_local_peer(size) if name == "ours" else make_peer(name, size, sam2=sam2)
    time_peer(peer, draw_crowd(frames=2, objects=1, size=size))
    return lambda case: time_peer(peer, case)


def _group_by_series(rows: Sequence[Row]) -> list[list[Row]]:
    """Group rows by size and number of frames, the smallest first."""

    def kind(row: Row) -> tuple[int, int]:
        return row["size"], row["frames"]

    return [
        sorted(found, key=lambda row: row["objects"])
        for _, found in groupby(sorted(rows, key=kind), kind)
    ]


def _filter_peer(rows: Sequence[Row], peer: str) -> list[Row]:
    return [row for row in rows if row["peer"] == peer]


def _check_all(rows: Sequence[Row], clock: str) -> list[Check]:
    checks = []
    for group in _group_by_series(rows):
        ours, reference = _filter_peer(group, "ours"), _filter_peer(group, "reference")
        checks += [
            (f"{group[0]['size']}²: {text}", reached)
            for text, reached in check_linear_in_objects(ours, clock)
        ]
        if group[0]["size"] == JUDGED_SIZE and len(reference) > 1:
            checks += check_against_reference(ours, reference, clock)
    lengths = _filter_by_length(rows, "ours")
    return checks + [
        (f"{lengths[0]['size']}², {lengths[0]['objects']} objects: {text}", reached)
        for text, reached in check_steady_in_frames(lengths, clock)
    ]


def _filter_by_length(rows: Sequence[Row], peer: str) -> list[Row]:
    """Select a peer's rows that differ in their number of frames only, as many as possible."""
    own = _filter_peer(rows, peer)
    most = max(own, key=lambda row: sum(_is_same_case(row, other) for other in own), default=None)
    chosen = [row for row in own if most and _is_same_case(row, most)]
    return sorted(chosen, key=lambda row: row["frames"])


def _format_table(rows: Sequence[Row], clock: str) -> str:
    """Format ours beside the reference; what the reference would take is in brackets."""
    ours, reference, classical = (
        {row["objects"]: row[clock] for row in _filter_peer(rows, name)} for name in PEERS
    )
    extrapolated = {
        row["objects"]: row[clock] for row in _extrapolate_reference(rows, clock)
    } | reference
    cells = []
    for count in sorted({*ours, *reference}):
        other = extrapolated.get(count)
        shown = "" if other is None else f"{other:.1f}" if count in reference else f"({other:.0f})"
        ratio = f"1/{other / ours[count]:.1f}" if count in ours and other is not None else ""
        own = f"{ours[count]:.1f}" if count in ours else ""
        cut = f"{classical[count]:.2f}" if count in classical else ""
        cells.append([count, own, shown, ratio, cut])
    title = f"{rows[0]['size']} × {rows[0]['size']}, {rows[0]['frames']} frames, {clock} seconds"
    return f"{title}\n\n" + format_markdown(
        ["objects", PEERS["ours"], PEERS["reference"], "ours / this", PEERS["classical"]], cells
    )


def _plot(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Plot a panel for each series of several numbers of objects, and one over frames."""
    from matplotlib.figure import Figure

    groups = [group for group in _group_by_series(rows) if len(_filter_peer(group, "ours")) > 1]
    figure = Figure(figsize=(4 * (len(groups) + 1), 4), layout="constrained")
    panels = figure.subplots(1, len(groups) + 1, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=False):
        _plot_over_objects(axes, group, options.clock)
    if _filter_by_length(rows, "ours"):
        _plot_over_frames(panels[-1], rows, options.clock)
    lines = {
        line.get_label(): line
        for axes in panels
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=4, fontsize="small"
    )
    figure.savefig(options.out.with_suffix(".png"), dpi=110)


def _plot_over_objects(axes: Any, group: Sequence[Row], clock: str) -> None:
    for number, name in enumerate(PEERS):
        own = _filter_peer(group, name)
        _draw_line(axes, own, "objects", clock, color=f"C{number}", label=PEERS[name])
    ahead = _extrapolate_reference(group, clock)
    dashed = {"color": "C1", "linestyle": "--", "marker": "", "label": _BY_LINE}
    _draw_line(axes, ahead, "objects", clock, **dashed)
    title = f"{group[0]['frames']} frames of {group[0]['size']}²"
    _label_axes(axes, [row["objects"] for row in group], title, "objects", clock)


def _plot_over_frames(axes: Any, rows: Sequence[Row], clock: str) -> None:
    lengths = _filter_by_length(rows, "ours")
    ahead = [
        row
        for group in _group_by_series(rows)
        for row in _extrapolate_reference(group, clock)
        if _is_same_case(row, lengths[0])
    ]
    _draw_line(axes, lengths, "frames", clock, color="C0")
    _draw_line(axes, ahead, "frames", clock, color="C1", linestyle="--", marker="")
    _draw_line(axes, _filter_by_length(rows, "classical"), "frames", clock, color="C2")
    title = f"{lengths[0]['objects']} objects on frames of {lengths[0]['size']}²"
    _label_axes(axes, [row["frames"] for row in lengths], title, "frames", clock)


def _extrapolate_reference(rows: Sequence[Row], clock: str) -> list[Row]:
    """Extrapolate the reference to our numbers of objects, if it was measured at least twice."""
    reference = _filter_peer(rows, "reference")
    if len(reference) < 2:
        return []
    start, slope = fit_line(reference, clock)
    return [{**row, clock: start + slope * row["objects"]} for row in _filter_peer(rows, "ours")]


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


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.scaling", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--sam2",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="folders of the reference and of what it needs",
    )
    parser.add_argument(
        "--no-peer", dest="peer", action="store_false", help="do not measure the reference"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[series.name for series in SERIES], help="size × frames"
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="start nothing more after that time"
    )
    parser.add_argument(
        "--earlier", nargs="+", type=Path, default=[], help="JSON of earlier runs to continue"
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="cpu",
        help="clock of the requirements; other programs hardly change the processor time",
    )
    parser.add_argument("--threads", type=int, help="number of threads of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON, and a plot beside it")
    return set_threads(parser.parse_args(arguments))


if __name__ == "__main__":
    raise SystemExit(main())
