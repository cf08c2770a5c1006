"""Ratios: the short form, for CI.

Nothing but ours, in a minute; processor time against processor time, never seconds.

python -m benchmarks.ratios --out results.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.crowd import CrowdCase
from benchmarks.peers import NapariSam2Peer, Peer
from benchmarks.scaling import draw_crowd, make_near_peer, time_peer
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session

SIZE, SIDE, FRAMES = 512, 8, 3
SLACK = 1.15
"""Of a doubling: what a busy machine may add."""

REPEATS = 2
"""Each is measured so often, in turn, and the least counts: other work on a machine adds to processor seconds and never takes away."""


@dataclass(frozen=True)
class Ratio:
    """One that was measured, and the most it may be."""

    name: str
    value: float
    limit: float

    @property
    def reached(self) -> bool:
        """Whether it is not too large."""
        return self.value <= self.limit


def take_minimum(measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The least of `REPEATS` of each, taken in turn."""
    found = [{name: measure() for name, measure in measures.items()} for _ in range(REPEATS)]
    return {name: min(each[name] for each in found) for name in measures}


def measure_growth() -> list[Ratio]:
    """SAM 2.1 tiny with random weights: what further objects cost near and whole, twice the objects and twice the frames."""
    near, whole = make_near_peer(SIZE, SIDE), NapariSam2Peer(SIZE)
    time_peer(near, draw_crowd(frames=2, objects=1, size=SIZE))  # warm

    def cpu(peer: Peer, objects: int, frames: int = FRAMES) -> float:
        return time_peer(peer, draw_crowd(frames=frames, objects=objects, size=SIZE))["cpu"]

    found = take_minimum(
        {
            "once": lambda: cpu(near, 2),
            "objects": lambda: cpu(near, 4),
            "frames": lambda: cpu(near, 2, 2 * FRAMES),
        }
    )
    further = (found["objects"] - found["once"]) / (cpu(whole, 3) - cpu(whole, 1))
    return [
        Ratio("a further object, near / whole", further, 1 / 3),
        *_make_doubling_ratios("SAM 2.1 near", found),
    ]


def measure_nano() -> list[Ratio]:
    """The embedded model: twice the objects and twice the frames."""
    model = load_model("nano", device="cpu")

    def cpu(objects: int, frames: int) -> float:
        with _open_prompted_session(model, CrowdCase(256, objects, frames)) as session:
            return _time_cpu(lambda: session.run().finish())

    cpu(2, 2)  # warm
    return _make_doubling_ratios(
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
    """The embedded model: what follows from a correction, against the first propagation."""
    case = CrowdCase(256, 9, 20)
    with _open_prompted_session(load_model("nano", device="cpu"), case) as session:
        first = _time_cpu(lambda: session.run().finish())
        y, x = case.compute_centres(10)[4]
        again = _time_cpu(
            lambda: (session.prompt(PointPrompt(10, 5, [(y, x)], [True])), session.run().finish())
        )
    return [Ratio("corrected / carried, 9 objects on 20 frames", again / first, 1 / 4)]


def _make_doubling_ratios(name: str, found: Mapping[str, float]) -> list[Ratio]:
    return [
        Ratio(f"{name}: twice the {what}", found[what] / found["once"], 2 * SLACK)
        for what in ("objects", "frames")
    ]


def _open_prompted_session(model: VideoModel, case: CrowdCase) -> Session:
    """A session in which all objects of a case are boxed on frame 0."""
    session = Session(case.make_stack().as_video("t"), model)
    session.prompt_many(case.make_box_prompts())
    return session


def _time_cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where no ratio is too large."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ratios", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = machine.set_threads(parser.parse_args(arguments))
    about, found = (
        machine.describe_machine(),
        [*measure_growth(), *measure_nano(), *measure_correction()],
    )
    print(
        machine.format_markdown(
            ["ratio", "found", "at most", ""],
            [[r.name, r.value, r.limit, "" if r.reached else "MISSED"] for r in found],
        )
    )
    machine.write_results(
        {"machine": about, "results": [[ratio.name, ratio.value, ratio.limit] for ratio in found]},
        options.out,
    )
    return 0 if all(ratio.reached for ratio in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
