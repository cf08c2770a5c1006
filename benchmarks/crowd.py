"""Crowd: seconds for each frame of a walk with many objects, the embedded model, against the number of objects and the frame's size.

python -m benchmarks.crowd --out results.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy.ndimage import gaussian_filter

from benchmarks import machine
from napari_sam2.core.prompt import BoxPrompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack
from napari_sam2.io.open import open_stack
from napari_sam2.models.load import load_model
from napari_sam2.propagation.session import Session

MAX_FRAME_S = 1.0
"""For one frame of 512 × 512 pixels with 50 objects, on two cores."""

OBJECT_WIDTH_PX = 22.0  # pixels an object is wide
COLUMNS = {
    "side, px": "side",
    "objects": "objects",
    "frames": "frames",
    "s a frame": "per_frame",
    "ms an object and frame": "per_object",
}


@dataclass(frozen=True)
class CrowdCase:
    """A time-lapse of round objects on a grid, each swaying a little: so many on frames of `side` pixels."""

    side: int
    objects: int
    frames: int = 6

    def compute_centres(self, frame: int) -> np.ndarray:
        """(objects, 2) middles on a frame, in pixels."""
        across = int(np.ceil(np.sqrt(self.objects)))
        grid = (
            (
                np.stack(np.meshgrid(*[np.arange(across)] * 2, indexing="ij"), axis=-1).reshape(
                    -1, 2
                )
                + 0.5
            )
            * self.side
            / across
        )
        phase = np.random.default_rng(1).uniform(0, 2 * np.pi, grid.shape)
        return np.asarray(grid + 2 * np.sin(phase + 0.7 * frame))[: self.objects]

    def make_box_prompts(self) -> list[BoxPrompt]:
        """One around each object on the first frame."""
        half = OBJECT_WIDTH_PX / 2
        return [
            BoxPrompt(0, track, (y - half, x - half, y + half, x + half))
            for track, (y, x) in enumerate(self.compute_centres(0), start=1)
        ]

    def draw_planes(self) -> Iterator[np.ndarray]:
        """The (side, side) frames, one after another, with noise."""
        rng = np.random.default_rng(0)
        for frame in range(self.frames):
            plane = np.zeros((self.side, self.side), dtype=np.float32)
            for y, x in self.compute_centres(frame):
                plane[int(y), int(x)] = 1
            blurred = gaussian_filter(plane, OBJECT_WIDTH_PX / 4) * OBJECT_WIDTH_PX**2 / 2
            yield (blurred + 0.05 * rng.standard_normal(plane.shape)).astype(np.float32)

    def make_stack(self) -> Stack:
        """The frames in memory."""
        return Stack(np.stack(list(self.draw_planes())), "tyx")

    def write_stack(self, folder: Path) -> Stack:
        """The frames in a zarr file of this folder, written and read one by one, as a user's are: none stays in memory."""
        path, shape = folder / "case.zarr", (self.frames, self.side, self.side)
        array = zarr.create_array(path, shape=shape, chunks=(1, *shape[1:]), dtype="float32")
        for frame, plane in enumerate(self.draw_planes()):
            array[frame] = plane
        return open_stack(path, axes="tyx")


def measure_crowd(model: VideoModel, case: CrowdCase) -> dict[str, Any]:
    """Boxes on the first frame, carried forward; the seconds are those of the walk."""
    with Session(case.make_stack().as_video("t"), model) as session:
        session.prompt_many(case.make_box_prompts())
        plan = session.plan()
        began = time.perf_counter()
        session.run(plan).finish()
        for frame in range(1, case.frames):
            session.label_plane(frame)
        seconds = (time.perf_counter() - began) / (case.frames - 1)
    return {
        "side": case.side,
        "objects": case.objects,
        "frames": case.frames,
        "per_frame": round(seconds, 3),
        "per_object": round(1000 * seconds / case.objects, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where the limit is kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.crowd", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--model", default="nano", help="name or file")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--most", type=int, default=300, help="leave out cases with more objects")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = machine.set_threads(parser.parse_args(arguments))
    about, model = machine.describe_machine(), load_model(options.model)
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
    print(
        machine.format_markdown(
            list(COLUMNS), [[row[key] for key in COLUMNS.values()] for row in rows]
        )
    )
    reached = (
        next(row for row in rows if (row["side"], row["objects"]) == (512, 50))["per_frame"]
        < MAX_FRAME_S
    )
    print(f"512 × 512 with 50 objects below {MAX_FRAME_S} s a frame: {'yes' if reached else 'no'}")
    machine.write_results(
        {"machine": about, "model": model.card.name, "results": rows}, options.out
    )
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
