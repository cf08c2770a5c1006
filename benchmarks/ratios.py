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
from benchmarks.crowd import Case
from benchmarks.peers import Ours, Peer
from benchmarks.scaling import crowd, ours, seconds
from napari_sam2.api.session import Session
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model

SIZE, SIDE, FRAMES = 512, 8, 3
SLACK = 1.15
"""Of a doubling: what a busy machine may add."""

REPEATS = 2
"""Each is measured so often, in turn, and the least counts: other work on a machine adds to processor seconds and never takes away."""


@dataclass(frozen=True)
class Ratio:
    """One that was measured, and the most it may be."""

    what: str
    found: float
    most: float

    @property
    def reached(self) -> bool:
        """Whether it is not too large."""
        return self.found <= self.most


def least(measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The least of `REPEATS` of each, taken in turn."""
    found = [{name: measure() for name, measure in measures.items()} for _ in range(REPEATS)]
    return {name: min(each[name] for each in found) for name in measures}


def growth() -> list[Ratio]:
    """SAM 2.1 tiny with random weights: what further objects cost near and whole, twice the objects and twice the frames."""
    near, whole = ours(SIZE, SIDE), Ours(SIZE)
    seconds(near, crowd(frames=2, objects=1, size=SIZE))  # warm

    def cpu(peer: Peer, objects: int, frames: int = FRAMES) -> float:
        return seconds(peer, crowd(frames=frames, objects=objects, size=SIZE))["cpu"]

    found = least(
        {
            "once": lambda: cpu(near, 2),
            "objects": lambda: cpu(near, 4),
            "frames": lambda: cpu(near, 2, 2 * FRAMES),
        }
    )
    further = (found["objects"] - found["once"]) / (cpu(whole, 3) - cpu(whole, 1))
    return [
        Ratio("a further object, near / whole", further, 1 / 3),
        *_doubled("SAM 2.1 near", found),
    ]


def nano() -> list[Ratio]:
    """The embedded model: twice the objects and twice the frames."""
    model = load_model("nano", device="cpu")

    def cpu(objects: int, frames: int) -> float:
        with _told(model, Case(256, objects, frames)) as session:
            return _cpu(lambda: session.run().finish())

    cpu(2, 2)  # warm
    return _doubled(
        "nano",
        least(
            {
                "once": lambda: cpu(4, 10),
                "objects": lambda: cpu(8, 10),
                "frames": lambda: cpu(4, 20),
            }
        ),
    )


def correction() -> list[Ratio]:
    """The embedded model: what follows from a correction, against the first propagation."""
    case = Case(256, 9, 20)
    with _told(load_model("nano", device="cpu"), case) as session:
        first = _cpu(lambda: session.run().finish())
        y, x = case.places(10)[4]
        again = _cpu(
            lambda: (session.prompt(PointPrompt(10, 5, [(y, x)], [True])), session.run().finish())
        )
    return [Ratio("corrected / carried, 9 objects on 20 frames", again / first, 1 / 4)]


def _doubled(name: str, found: Mapping[str, float]) -> list[Ratio]:
    return [
        Ratio(f"{name}: twice the {what}", found[what] / found["once"], 2 * SLACK)
        for what in ("objects", "frames")
    ]


def _told(model: VideoModel, case: Case) -> Session:
    """A session in which all objects of a case are boxed on frame 0."""
    session = Session(case.stack().as_video("t"), model)
    session.prompt_many(case.boxes())
    return session


def _cpu(work: Callable[[], object]) -> float:
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
    options = machine.threaded(parser.parse_args(arguments))
    about, found = machine.described(), [*growth(), *nano(), *correction()]
    print(
        machine.markdown(
            ["ratio", "found", "at most", ""],
            [[r.what, r.found, r.most, "" if r.reached else "MISSED"] for r in found],
        )
    )
    machine.keep(
        {"machine": about, "results": [[ratio.what, ratio.found, ratio.most] for ratio in found]},
        options.out,
    )
    return 0 if all(ratio.reached for ratio in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
