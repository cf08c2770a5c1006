"""Near: masks where tracks are looked at by Regions, against those by the whole grid, with the embedded model's trained weights.

python -m benchmarks.near DATA --out results.json

The embedded model follows, so it needs no Regions. Here it is shown whole frames, as SAM 2 is, by either attention.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.accuracy import Carried, _there
from napari_sam2.api.session import Session
from napari_sam2.core.card import Attention
from napari_sam2.engine.session import Settings
from napari_sam2.models.load import load_model
from napari_sam2.models.sam2 import Sam2

SAME = 0.01
"""IoU with the truth by which both may differ."""

COLUMNS = ("stack", "objects", "IoU whole", "IoU near", "IoU of both", "cpu s whole", "cpu s near")


def labels(case: Carried, model: Sam2, kind: str) -> tuple[np.ndarray, float]:
    """(frames, H, W) labels of a stack, and the processor seconds it took."""
    began = time.process_time()
    with Session(case.video, model, settings=Settings(patience=None)) as session:
        session.prompt_many([case.prompt(track, kind) for track in case.frames])
        session.propagate(progress=False)
        found = np.stack([session.plane(frame) for frame in range(len(case.video))])
    return found, time.process_time() - began


def agreed(ones: np.ndarray, others: np.ndarray, tracks: Sequence[int]) -> float:
    """The mean IoU of tracks over all frames."""
    pairs = [(ones == track, others == track) for track in tracks]
    return float(np.mean([(one & other).sum() / max(1, (one | other).sum()) for one, other in pairs]))


def measured(case: Carried, name: str, models: dict[Attention, Sam2], kind: str) -> list[Any]:
    """A row of the table."""
    found = {attention: labels(case, model, kind) for attention, model in models.items()}
    (whole, slow), (near, quick) = found["whole"], found["near"]
    tracks = list(case.frames)
    ious = [agreed(whole, case.truth, tracks), agreed(near, case.truth, tracks), agreed(whole, near, tracks)]
    return [name, len(tracks), *(round(iou, 4) for iou in ious), round(slow, 1), round(quick, 1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where no stack's IoU differs by more than `SAME`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds the stacks, each with its truth")
    parser.add_argument("--size", type=int, default=512, help="side of the input")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--prompt", choices=["click", "box"], default="box")
    parser.add_argument("--only", nargs="+", help="stacks whose name begins so")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = parser.parse_args(arguments)
    about, nano = machine.described(), load_model("nano", device="cpu")
    assert isinstance(nano, Sam2)
    card = replace(nano.card, follows=False, input_sizes=(options.size,))
    kinds: tuple[Attention, ...] = ("whole", "near")
    models = {kind: Sam2(nano.network, replace(card, attention=kind)) for kind in kinds}
    rows = []
    for source, folder in _there(options.data):
        if not options.only or source.name.startswith(tuple(options.only)):
            rows.append(measured(Carried.of(source, folder, options.objects), source.name, models, options.prompt))
            print(rows[-1], flush=True)
    print("\n" + machine.markdown(COLUMNS, rows))
    worst = max((abs(row[3] - row[2]) for row in rows), default=1.0)
    print(f"{'reached' if worst <= SAME else 'MISSED '}  IoU with the truth differs by at most {worst:.4f}, asked {SAME}")
    machine.keep({"machine": about, "columns": COLUMNS, "results": rows}, options.out)
    return 0 if worst <= SAME else 1


if __name__ == "__main__":
    raise SystemExit(main())
