"""Attention: masks by local and by automatic attention, compared with global attention.

    python -m benchmarks.accuracy.attention DATA --out results.json

The embedded model's trained weights. It crops each object, so it needs no local attention; here it
sees whole frames, as SAM 2 does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.support.machine import describe_machine
from benchmarks.support.masks import compute_track_iou
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.stacks import AttentionResult, TrackingCase, find_stacks
from napari_sam2.core.inference_options import Attention
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2Predictor

# The embedded model was trained on objects of 14 to 72 pixels of its input.
_MAX_ENLARGEMENT = 4
_SIZE_STEP = 32

MAX_IOU_DIFFERENCE = 0.01
"""How much the IoU with the truth may differ from that of global attention."""


COLUMNS = (
    "stack",
    "side",
    "objects",
    "IoU global",
    "IoU local",
    "IoU auto",
    "local = global",
    "auto = global",
    "auto: share by regions",
    "cpu s global",
    "cpu s local",
    "cpu s auto",
)
"""IoU is with the truth; `=` is the IoU of the masks of two attentions."""

ATTENTIONS: tuple[Attention, ...] = ("global", "local", "auto")


def measure_attention(
    case: TrackingCase, name: str, models: dict[Attention, Sam2Predictor], kind: str
) -> list[Any]:
    """Measure a row of the table."""
    results = {
        attention: AttentionResult.of(case, model, kind) for attention, model in models.items()
    }
    tracks, by_global = list(case.prompt_frames), results["global"].labels
    ious = [compute_track_iou(each.labels, case.truth, tracks) for each in results.values()]
    ious += [
        compute_track_iou(by_global, results[each].labels, tracks) for each in ("local", "auto")
    ]
    seconds = [round(each.cpu_s, 1) for each in results.values()]
    return [
        name,
        models["global"].card.input_sizes[-1],
        len(tracks),
        *(round(iou, 4) for iou in ious),
        f"{results['auto'].region_share:.0%}",
        *seconds,
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON; 0 if automatic attention is as good as global attention."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.attention", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="folder of the stacks, each with its truth")
    parser.add_argument(
        "--size",
        type=int,
        default=512,
        help="side of the input, at most; small frames are enlarged up to four times",
    )
    parser.add_argument("--objects", type=int, default=8, help="objects of a stack, at most")
    parser.add_argument("--prompt", choices=["click", "box"], default="box", help="kind of prompt")
    parser.add_argument("--only", nargs="+", help="stacks whose name starts with this")
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = parser.parse_args(arguments)
    about, nano = describe_machine(), load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    rows = []
    for stack, folder in find_stacks(options.data):
        if not options.only or stack.name.startswith(tuple(options.only)):
            case = TrackingCase.of(stack, folder, options.objects)
            enlarged = _MAX_ENLARGEMENT * max(case.truth.shape[1:])
            size = min(options.size, -(-enlarged // _SIZE_STEP) * _SIZE_STEP)
            card = replace(nano.card, object_crops=False, input_sizes=(size,))
            models = {
                attention: Sam2Predictor(nano.network, replace(card, attention=attention))
                for attention in ATTENTIONS
            }
            rows.append(measure_attention(case, stack.name, models, options.prompt))
            print(rows[-1], flush=True)
    print("\n" + format_markdown(COLUMNS, rows))
    worst = {
        name: max((abs(row[column] - row[3]) for row in rows), default=1.0)
        for name, column in (("local", 4), ("auto", 5))
    }
    write_results({"machine": about, "columns": COLUMNS, "results": rows}, options.out)
    print(f"local: IoU with the truth differs by at most {worst['local']:.4f}")
    text = f"auto: IoU with the truth differs by at most {worst['auto']:.4f}"
    return report_checks(
        [(f"{text}, allowed {MAX_IOU_DIFFERENCE}", worst["auto"] <= MAX_IOU_DIFFERENCE)]
    )


if __name__ == "__main__":
    raise SystemExit(main())
