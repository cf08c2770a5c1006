"""Crowd: seconds a frame with the embedded model, by number of objects and size of the frame.

python -m benchmarks.speed.crowd --out results.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.crowd_case import CrowdCase
from benchmarks.support.machine import describe_machine, set_threads
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session

MAX_FRAME_S = 1.0
"""Seconds that a frame of 512 × 512 pixels with 50 objects may take on two cores."""


COLUMNS = {
    "side, px": "side",
    "objects": "objects",
    "frames": "frames",
    "s a frame": "per_frame",
    "ms an object and frame": "per_object",
}


def measure_crowd(model: VideoModel, case: CrowdCase) -> dict[str, Any]:
    """Prompt boxes on the first frame, and measure the propagation forward."""
    with Session(case.make_stack().as_video("t"), model) as session:
        session.prompt_many(case.make_box_prompts())
        plan = session.plan()
        began = time.perf_counter()
        session.run(plan).finish()
        for frame in range(1, case.frames):
            session.compute_label_plane(frame)
        seconds = (time.perf_counter() - began) / (case.frames - 1)
    return {
        "side": case.side,
        "objects": case.objects,
        "frames": case.frames,
        "per_frame": round(seconds, 3),
        "per_object": round(1000 * seconds / case.objects, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 if a frame is quick enough."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.crowd",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("--model", default="nano", help="name or file of a model")
    parser.add_argument("--threads", type=int, help="number of threads of torch")
    parser.add_argument("--most", type=int, default=300, help="leave out cases with more objects")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = set_threads(parser.parse_args(arguments))
    about, model = describe_machine(), load_model(options.model)
    measure_crowd(model, CrowdCase(256, 4))  # warm
    cases = [
        CrowdCase(512, 1),
        CrowdCase(512, 10),
        CrowdCase(512, 50),
        CrowdCase(512, 100),
        CrowdCase(1024, 50),
        CrowdCase(2048, 50),
        CrowdCase(2048, 300),
    ]
    rows = [measure_crowd(model, case) for case in cases if case.objects <= options.most]
    print(format_markdown(list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows]))
    write_results({"machine": about, "model": model.card.name, "results": rows}, options.out)
    frame_s = {(row["side"], row["objects"]): row["per_frame"] for row in rows}
    return report_checks(
        [
            (f"512 × 512 with {count} objects below {MAX_FRAME_S} s a frame", seconds < MAX_FRAME_S)
            for (side, count), seconds in frame_s.items()
            if (side, count) == (512, 50)
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
