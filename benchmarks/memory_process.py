"""The process that `benchmarks.memory` measures: one peer carries all objects of a video through it, then says its peak."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import zarr

from benchmarks.case import Click
from benchmarks.memory import EMBEDDING_BYTES, MemoryRun
from benchmarks.peers import make_peer


def main(folder: Path) -> None:
    """Carry out ``run.json`` of a folder on its ``video.zarr``; frames are asked for and dropped one by one, as a writer does."""
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
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
