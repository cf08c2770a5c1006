"""Near: masks where tracks are looked at by Regions, or by what both see, against those by the whole grid.

python -m benchmarks.near DATA --out results.json

With the embedded model's trained weights. It follows, so it needs no Regions; here it is shown
whole frames, as SAM 2 is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.accuracy import Carried, _there
from napari_sam2.api.session import Session
from napari_sam2.core.card import Attention
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2
from napari_sam2.propagation.session import Settings

_ENLARGED = (
    4  # times at most: the embedded model was trained on objects of 14 to 72 pixels of its input
)
_GRAIN = 32

SAME = 0.01
"""IoU with the truth by which both may differ."""

COLUMNS = (
    "stack",
    "side",
    "objects",
    "IoU whole",
    "IoU near",
    "IoU auto",
    "near = whole",
    "auto = whole",
    "of it by Regions",
    "cpu s whole",
    "cpu s near",
    "cpu s auto",
)
"""IoU is with the truth; `=` is the IoU of two attentions' masks."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What came of a stack by one attention: (frames, H, W) labels, the share of masks that were looked at by a Region, the cost."""

    labels: np.ndarray
    regions: float
    cpu_s: float

    @classmethod
    def of(cls, case: Carried, model: VideoModel, kind: str) -> Looked:
        """Prompted and carried."""
        began = time.process_time()
        with Session(case.video, model, settings=Settings(patience=None)) as session:
            session.prompt_many([case.prompt(track, kind) for track in case.frames])
            session.propagate(progress=False)
            labels = np.stack([session.plane(frame) for frame in range(len(case.video))])
            took = time.process_time() - began
            sizes = [
                segment.window.size
                for frame in range(len(case.video))
                for segment in session.segments(frame)
            ]
        return cls(labels, float(np.mean(np.array(sizes) < model.card.input_sizes[-1])), took)


def agreed(ones: np.ndarray, others: np.ndarray, tracks: Sequence[int]) -> float:
    """The mean IoU of tracks over all frames."""
    pairs = [(ones == track, others == track) for track in tracks]
    return float(
        np.mean([(one & other).sum() / max(1, (one | other).sum()) for one, other in pairs])
    )


def measured(case: Carried, name: str, models: dict[Attention, Sam2], kind: str) -> list[Any]:
    """A row of the table."""
    found = {attention: Looked.of(case, model, kind) for attention, model in models.items()}
    tracks, whole = list(case.frames), found["whole"].labels
    ious = [agreed(each.labels, case.truth, tracks) for each in found.values()]
    ious += [agreed(whole, found[each].labels, tracks) for each in ("near", "auto")]
    seconds = [round(each.cpu_s, 1) for each in found.values()]
    return [
        name,
        models["whole"].card.input_sizes[-1],
        len(tracks),
        *(round(iou, 4) for iou in ious),
        f"{found['auto'].regions:.0%}",
        *seconds,
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where no stack's IoU by "auto" differs by more than `SAME`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.near", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder that holds the stacks, each with its truth")
    parser.add_argument(
        "--size",
        type=int,
        default=512,
        help="side of the input at most; small frames are enlarged up to four times",
    )
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--prompt", choices=["click", "box"], default="box")
    parser.add_argument("--only", nargs="+", help="stacks whose name begins so")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = parser.parse_args(arguments)
    about, nano = machine.described(), load_model("nano", device="cpu")
    assert isinstance(nano, Sam2)
    kinds: tuple[Attention, ...] = ("whole", "near", "auto")
    rows = []
    for source, folder in _there(options.data):
        if not options.only or source.name.startswith(tuple(options.only)):
            case = Carried.of(source, folder, options.objects)
            size = min(options.size, -(-_ENLARGED * max(case.truth.shape[1:]) // _GRAIN) * _GRAIN)
            card = replace(nano.card, follows=False, input_sizes=(size,))
            models = {kind: Sam2(nano.network, replace(card, attention=kind)) for kind in kinds}
            rows.append(measured(case, source.name, models, options.prompt))
            print(rows[-1], flush=True)
    print("\n" + machine.markdown(COLUMNS, rows))
    worst = {
        name: max((abs(row[column] - row[3]) for row in rows), default=1.0)
        for name, column in (("near", 4), ("auto", 5))
    }
    for name, least in worst.items():
        print(
            f"{'reached' if least <= SAME else 'MISSED '}  {name}: IoU with the truth differs by "
            f"at most {least:.4f}, asked {SAME}"
        )
    machine.keep({"machine": about, "columns": COLUMNS, "results": rows}, options.out)
    return 0 if worst["auto"] <= SAME else 1


if __name__ == "__main__":
    raise SystemExit(main())
