"""Ratios: the short form of the benchmarks, in a minute and without other implementations.

    python -m benchmarks.speed.ratios --out results.json

Ratios of processor times only, because seconds depend on the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support.crowd_case import CrowdCase
from benchmarks.support.machine import describe_machine, set_threads
from benchmarks.support.peers import NapariSam2Peer, Peer
from benchmarks.support.random_model import draw_crowd, make_local_peer, time_peer
from benchmarks.support.resources import time_call
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session

SIZE, SIDE, FRAMES = 512, 8, 3
SLACK = 1.15
"""What a busy machine may add to a doubling."""

REPEATS = 2
"""How often each is measured, in turn.

The least counts, because other programs only ever add to the processor time.
"""


@dataclass(frozen=True)
class Ratio:
    """A measured ratio, and its limit."""

    name: str
    value: float
    limit: float

    @property
    def reached(self) -> bool:
        """Whether the ratio is within its limit."""
        return self.value <= self.limit


def take_minimum(measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Measure each `REPEATS` times, in turn, and return the least of each."""
    repeats = [{name: measure() for name, measure in measures.items()} for _ in range(REPEATS)]
    return {name: min(each[name] for each in repeats) for name in measures}


def measure_growth() -> list[Ratio]:
    """Measure SAM 2.1 tiny with random weights: further objects, twice the objects and frames."""
    local, by_global = make_local_peer(SIZE, SIDE), NapariSam2Peer(SIZE)
    time_peer(local, draw_crowd(frames=2, objects=1, size=SIZE))  # warm

    def cpu(peer: Peer, objects: int, frames: int = FRAMES) -> float:
        return time_peer(peer, draw_crowd(frames=frames, objects=objects, size=SIZE)).cpu

    found = take_minimum(
        {
            "once": lambda: cpu(local, 2),
            "objects": lambda: cpu(local, 4),
            "frames": lambda: cpu(local, 2, 2 * FRAMES),
        }
    )
    further = (found["objects"] - found["once"]) / (cpu(by_global, 3) - cpu(by_global, 1))
    return [
        Ratio("a further object, local / global", further, 1 / 3),
        *make_doubling_ratios("SAM 2.1 local", found),
    ]


def measure_nano() -> list[Ratio]:
    """Measure the embedded model: twice the objects and twice the frames."""
    model = load_model("nano", device="cpu")

    def cpu(objects: int, frames: int) -> float:
        with _open_prompted_session(model, CrowdCase(256, objects, frames)) as session:
            return time_call(lambda: session.run().finish())[1].cpu

    cpu(2, 2)  # warm
    return make_doubling_ratios(
        "nano",
        take_minimum(
            {
                "once": lambda: cpu(4, 10),
                "objects": lambda: cpu(8, 10),
                "frames": lambda: cpu(4, 20),
            }
        ),
    )


def measure_correction() -> list[Ratio]:
    """Measure the embedded model: a correction compared with the first propagation."""
    case = CrowdCase(256, 9, 20)
    y, x = case.compute_centres(10)[4]
    with _open_prompted_session(load_model("nano", device="cpu"), case) as session:

        def correct() -> None:
            session.prompt(PointPrompt(10, 5, [(y, x)], [True]))
            session.run().finish()

        first = time_call(lambda: session.run().finish())[1].cpu
        corrected = time_call(correct)[1].cpu
    return [Ratio("corrected / first, 9 objects on 20 frames", corrected / first, 1 / 4)]


def make_doubling_ratios(name: str, seconds: Mapping[str, float]) -> list[Ratio]:
    """Make the ratios of "objects" and of "frames" (twice as many of them) to "once"."""
    return [
        Ratio(f"{name}: twice the {what}", seconds[what] / seconds["once"], 2 * SLACK)
        for what in ("objects", "frames")
    ]


def _open_prompted_session(model: VideoModel, case: CrowdCase) -> Session:
    """Open a session in which all objects have a box on frame 0."""
    session = Session(case.make_stack().as_video("t"), model)
    session.prompt_many(case.make_box_prompts())
    return session


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if all ratios are within their limits."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.ratios", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--threads", type=int, default=1, help="number of threads of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = set_threads(parser.parse_args(arguments))
    about, found = (
        describe_machine(),
        [*measure_growth(), *measure_nano(), *measure_correction()],
    )
    print(
        format_markdown(
            ["ratio", "measured", "at most", ""],
            [[r.name, r.value, r.limit, "" if r.reached else "MISSED"] for r in found],
        )
    )
    write_results(
        {"machine": about, "results": [[ratio.name, ratio.value, ratio.limit] for ratio in found]},
        options.out,
    )
    return 0 if all(ratio.reached for ratio in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
