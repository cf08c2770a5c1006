"""Propagation and correction: seconds and agreement with other implementations.

    python -m benchmarks.speed.propagation --sam2 FOLDER --out results.json

All have the same weights and get the same frames, in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.support.click_case import (
    PropagationCase,
    compute_agreement,
    draw_case,
    measure_triviality,
)
from benchmarks.support.machine import describe_machine
from benchmarks.support.peers import PEER_NAMES, Peer, PeerVideo, make_peer
from benchmarks.support.requirements import report_checks
from benchmarks.support.resources import Seconds, time_call
from benchmarks.support.results import format_markdown, write_results

MIN_IOU = 0.99
"""IoU with the reference that every mask must have."""

MAX_PART_OF_FIRST = 1 / 6
"""Time of the second propagation, after one of eight objects was corrected, to the first."""


@dataclass(frozen=True, eq=False)
class PeerResult:
    """The result of one peer.

    Parameters
    ----------
    first, second
        Time from the frames to all masks, and from the correction to all masks.
    first_masks, second_masks
        (T, n, H, W) masks of both propagations.
    """

    first: Seconds
    second: Seconds
    first_masks: np.ndarray
    second_masks: np.ndarray


def run_peer(peer: Peer, case: PropagationCase) -> PeerResult:
    """Prompt every object, propagate and read all masks; then correct one object, and again."""
    opened: list[PeerVideo] = []

    def first() -> np.ndarray:
        opened.append(peer.open_video(case.frames))
        opened[0].add_clicks(case.clicks)
        return _propagate(opened[0], case)

    def second() -> np.ndarray:
        opened[0].add_clicks([case.correction])
        return _propagate(opened[0], case)

    masks, first_time = time_call(first)
    corrected, second_time = time_call(second)
    opened[0].close()
    return PeerResult(first_time, second_time, masks, corrected)


def compare_peers(outcomes: dict[str, list[PeerResult]]) -> dict[str, Any]:
    """Compare times, ratios and agreement of every peer, as plain types.

    Ratios are medians over the repeats; each repeat is compared with its neighbour.
    """
    ours = outcomes["ours"]
    results: dict[str, Any] = {}
    for name, theirs in outcomes.items():
        results[name] = {
            "first": [asdict(outcome.first) for outcome in theirs],
            "second": [asdict(outcome.second) for outcome in theirs],
            "second_to_first": _compute_ratio(
                [outcome.second for outcome in theirs], [outcome.first for outcome in theirs]
            ),
            "ours_to_this": _compute_ratio(
                [outcome.first for outcome in ours], [outcome.first for outcome in theirs]
            ),
            "masks": measure_triviality(theirs[0].first_masks),
            "iou": compute_agreement(ours[0].first_masks, theirs[0].first_masks).round(5).tolist(),
            "iou_corrected": compute_agreement(ours[0].second_masks, theirs[0].second_masks)
            .round(5)
            .tolist(),
        }
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON; 0 if all requirements are reached."""
    options = _parse_options(arguments)
    about = describe_machine()
    case = draw_case(frames=options.frames, objects=options.objects, size=options.size)
    peers = {
        name: make_peer(name, options.size, sam2=options.sam2)
        for name in dict.fromkeys(["ours", *options.peers])
    }
    warm = draw_case(frames=2, objects=1, size=options.size)
    for peer in peers.values():
        run_peer(peer, warm)  # so that one-time allocations are not measured
    outcomes: dict[str, list[PeerResult]] = {name: [] for name in peers}
    for repeat in range(options.repeats):
        for name, peer in peers.items():
            outcomes[name].append(run_peer(peer, case))
            done = outcomes[name][-1]
            print(
                f"repeat {repeat + 1}, {peer.name}: first {done.first.wall:.1f} s, second "
                f"{done.second.wall:.1f} s",
                flush=True,
            )
    results = compare_peers(outcomes)
    settings = {key: getattr(options, key) for key in ("size", "objects", "frames", "repeats")}
    print(f"{about['threads']} threads, load before: {about['load_before'][0]}")
    print(_format_report({name: peer.name for name, peer in peers.items()}, results, settings))
    write_results({"machine": about, "settings": settings, "results": results}, options.out)
    return _check_requirements(results)


def _propagate(opened: PeerVideo, case: PropagationCase) -> np.ndarray:
    opened.propagate()
    return np.stack([opened.read_masks(frame) for frame in range(len(case.frames))])


def _compute_ratio(ones: Sequence[Seconds], others: Sequence[Seconds]) -> dict[str, float]:
    return {
        clock: round(
            median(
                getattr(one, clock) / getattr(other, clock)
                for one, other in zip(ones, others, strict=True)
            ),
            4,
        )
        for clock in ("wall", "cpu")
    }


def _format_report(names: dict[str, str], results: dict[str, Any], settings: dict[str, Any]) -> str:
    title = "image size {size}, {objects} objects, {frames} frames, {repeats} repeats".format_map(
        settings
    )
    header = [
        "",
        "first, s (cpu)",
        "ours / this (cpu)",
        "second, s (cpu)",
        "second / first (cpu)",
        "smallest IoU with ours",
    ]
    parts = [
        title,
        format_markdown(
            header, [[names[name], *_format_row(name, result)] for name, result in results.items()]
        ),
    ]
    for name, result in results.items():
        if name != "ours":
            parts += [f"IoU of ours with {names[name]}", _format_ious(np.array(result["iou"]))]
    cover = results["ours"]["masks"]
    parts.append(
        f"masks cover {cover['smallest']:.2f} to {cover['largest']:.2f} of a frame; two objects' "
        f"masks: mean IoU {cover['alike']:.2f}"
    )
    return "\n" + "\n\n".join(parts) + "\n"


def _format_ious(ious: np.ndarray) -> str:
    """Format a row for each object, and a column for each frame."""
    header = ["object", *(f"frame {frame}" for frame in range(len(ious)))]
    return format_markdown(
        header,
        [[track, *(f"{iou:.4f}" for iou in row)] for track, row in enumerate(ious.T, start=1)],
    )


def _format_row(name: str, result: dict[str, Any]) -> list[str]:
    def seconds(key: str) -> str:
        return (
            f"{median(run['wall'] for run in result[key]):.1f} "
            f"({median(run['cpu'] for run in result[key]):.1f})"
        )

    def ratio(key: str) -> str:
        return f"{result[key]['wall']:.3f} ({result[key]['cpu']:.3f})"

    least = "" if name == "ours" else f"{np.min(result['iou']):.4f}"
    against = "" if name == "ours" else ratio("ours_to_this")
    return [seconds("first"), against, seconds("second"), ratio("second_to_first"), least]


def _check_requirements(results: dict[str, Any]) -> int:
    """Check the requirements against the first of the peers: the reference, unless left out."""
    against = next(name for name in results if name != "ours")
    peer, ours = results[against], results["ours"]
    checks = [
        (f"masks agree with {against}", bool(np.min(peer["iou"]) >= MIN_IOU)),
        (
            "masks are not trivial",
            ours["masks"]["smallest"] > 0.01
            and ours["masks"]["largest"] < 0.99
            and ours["masks"]["alike"] < 0.9,
        ),
        (f"first propagation no slower than {against}", peer["ours_to_this"]["wall"] <= 1.0),
        (
            "second propagation at most 1/6 of the first",
            ours["second_to_first"]["wall"] <= MAX_PART_OF_FIRST,
        ),
    ]
    return report_checks(checks)


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.propagation",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    others = [name for name in PEER_NAMES if name != "ours"]
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=others,
        default=others,
        help="implementations to compare with; the requirements refer to the first",
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
        "--size", type=int, default=512, help="side of the frames and of the network's input"
    )
    parser.add_argument("--objects", type=int, default=8, help="number of objects (%(default)s)")
    parser.add_argument("--frames", type=int, default=8, help="number of frames (%(default)s)")
    parser.add_argument("--repeats", type=int, default=2, help="measurements of each (%(default)s)")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
