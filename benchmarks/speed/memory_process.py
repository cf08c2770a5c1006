"""The process that `benchmarks.speed.memory` measures: it propagates, and prints its peak in MB."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import zarr

from benchmarks.speed.memory import EMBEDDING_BYTES, MemoryRun
from benchmarks.support.click_case import Click
from benchmarks.support.peers import make_peer
from benchmarks.support.resources import measure_peak_bytes


def main(folder: Path) -> None:
    """Run ``run.json`` of a folder on its ``video.zarr``, and read the masks frame by frame."""
    run = MemoryRun(**json.loads((folder / "run.json").read_text()))
    video = zarr.open_array(folder / "video.zarr", mode="r")
    clicks = [Click(**click) for click in json.loads((folder / "clicks.json").read_text())]
    opened = make_peer(
        run.peer, run.size, sam2=[Path(each) for each in run.sam2], embedding_bytes=EMBEDDING_BYTES
    ).open_video(video)
    opened.add_clicks(clicks)
    opened.propagate()
    for frame in range(run.frames):
        opened.read_masks(frame)
    print(measure_peak_bytes() / 1e6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
