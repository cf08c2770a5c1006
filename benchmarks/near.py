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
from benchmarks.accuracy import TrackingCase, find_stacks
from napari_sam2.core.inference_options import Attention
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.propagation.session import Session, SessionSettings

_MAX_ENLARGEMENT = (
    4  # times at most: the embedded model was trained on objects of 14 to 72 pixels of its input
)
_SIZE_STEP = 32

MAX_IOU_DIFFERENCE = 0.01
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
class AttentionResult:
    """What came of a stack by one attention: (frames, H, W) labels, the share of masks that were looked at by a Region, the cost."""

    labels: np.ndarray
    region_share: float
    cpu_s: float

    @classmethod
    def of(cls, case: TrackingCase, model: VideoModel, kind: str) -> AttentionResult:
        """Prompted and carried."""
        began = time.process_time()
        with Session(case.video, model, settings=SessionSettings(patience=None)) as session:
            session.prompt_many([case.prompt(track, kind) for track in case.prompt_frames])
            session.propagate(progress=False)
            labels = np.stack([session.label_plane(frame) for frame in range(len(case.video))])
            took = time.process_time() - began
            sizes = [
                segment.window.size
                for frame in range(len(case.video))
                for segment in session.segments(frame)
            ]
        return cls(labels, float(np.mean(np.array(sizes) < model.card.input_sizes[-1])), took)


def compute_mutual_iou(ones: np.ndarray, others: np.ndarray, tracks: Sequence[int]) -> float:
    """The mean IoU of tracks over all frames."""
    pairs = [(ones == track, others == track) for track in tracks]
    return float(
        np.mean([(one & other).sum() / max(1, (one | other).sum()) for one, other in pairs])
    )


def measure_attention(
    case: TrackingCase, name: str, models: dict[Attention, Sam2Predictor], kind: str
) -> list[Any]:
    """A row of the table."""
    found = {
        attention: AttentionResult.of(case, model, kind) for attention, model in models.items()
    }
    tracks, whole = list(case.prompt_frames), found["global"].labels
    ious = [compute_mutual_iou(each.labels, case.truth, tracks) for each in found.values()]
    ious += [compute_mutual_iou(whole, found[each].labels, tracks) for each in ("local", "auto")]
    seconds = [round(each.cpu_s, 1) for each in found.values()]
    return [
        name,
        models["global"].card.input_sizes[-1],
        len(tracks),
        *(round(iou, 4) for iou in ious),
        f"{found['auto'].region_share:.0%}",
        *seconds,
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where no stack's IoU by "auto" differs by more than `MAX_IOU_DIFFERENCE`."""
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
    about, nano = machine.describe_machine(), load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    kinds: tuple[Attention, ...] = ("global", "local", "auto")
    rows = []
    for source, folder in find_stacks(options.data):
        if not options.only or source.name.startswith(tuple(options.only)):
            case = TrackingCase.of(source, folder, options.objects)
            size = min(
                options.size,
                -(-_MAX_ENLARGEMENT * max(case.truth.shape[1:]) // _SIZE_STEP) * _SIZE_STEP,
            )
            card = replace(nano.card, object_crops=False, input_sizes=(size,))
            models = {
                kind: Sam2Predictor(nano.network, replace(card, attention=kind)) for kind in kinds
            }
            rows.append(measure_attention(case, source.name, models, options.prompt))
            print(rows[-1], flush=True)
    print("\n" + machine.format_markdown(COLUMNS, rows))
    worst = {
        name: max((abs(row[column] - row[3]) for row in rows), default=1.0)
        for name, column in (("local", 4), ("auto", 5))
    }
    for name, least in worst.items():
        print(
            f"{'reached' if least <= MAX_IOU_DIFFERENCE else 'MISSED '}  {name}: IoU with the truth differs by "
            f"at most {least:.4f}, asked {MAX_IOU_DIFFERENCE}"
        )
    machine.write_results({"machine": about, "columns": COLUMNS, "results": rows}, options.out)
    return 0 if worst["auto"] <= MAX_IOU_DIFFERENCE else 1


if __name__ == "__main__":
    raise SystemExit(main())
