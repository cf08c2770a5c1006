"""Tiles: masks of small objects on a large frame, shown as a whole and in tiles.

    python -m benchmarks.accuracy.tiles --out results.json

The embedded model crops each object, so it needs no tiles. Here it sees whole frames, as SAM 2
does: copies of the time-lapse sample beside each other, whose true masks are known.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.support.machine import describe_machine
from benchmarks.support.masks import compute_frame_ious
from benchmarks.support.mosaic import Mosaic, add_mosaic_options, make_mosaic
from benchmarks.support.requirements import report_checks
from benchmarks.support.results import format_markdown, write_results
from benchmarks.support.stacks import AttentionResult
from napari_sam2.core.inference_options import Attention
from napari_sam2.core.protocols import VideoModel
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.tiled_model import TiledModel

MAX_SEAM_LOSS = 0.01
"""IoU that an object may lose on a seam, compared with the same object off the seams."""

ATTENTIONS: tuple[Attention, ...] = ("global", "local", "auto")

COLUMNS = ("model", "IoU", "IoU of objects on a seam", "IoU on the prompted frame", "cpu s")


def measure_mosaic(name: str, model: VideoModel, mosaic: Mosaic, kind: str) -> list[Any]:
    """Measure a row of the table."""
    result = AttentionResult.of(mosaic.case, model, kind)
    ious = {
        track: compute_frame_ious(result.labels, mosaic.case.truth, track)
        for track in mosaic.case.prompt_frames
    }
    groups = [
        [each.mean() for each in ious.values()],
        [ious[track].mean() for track in mosaic.seam_tracks],
        [each[0] for each in ious.values()],
    ]
    return [name, *(round(float(np.mean(group)), 4) for group in groups), round(result.cpu_s, 1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON; 0 if tiles are better, and seams cost little enough."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy.tiles", description=(__doc__ or "").splitlines()[0]
    )
    add_mosaic_options(parser)
    options = parser.parse_args(arguments)
    about, nano = describe_machine(), load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    mosaic, card = make_mosaic(nano.card, options)
    models: dict[str, VideoModel] = {"whole frame": Sam2Predictor(nano.network, card)}
    for attention in ATTENTIONS:
        models[f"tiles, attention {attention}"] = TiledModel(
            Sam2Predictor(nano.network, replace(card, attention=attention))
        )
    models["nano as it is, by object crops"] = nano
    rows = [measure_mosaic(name, model, mosaic, options.prompt) for name, model in models.items()]
    shifted = measure_mosaic(
        "tiles, attention global, frames shifted off the seams",
        models["tiles, attention global"],
        replace(mosaic, case=mosaic.shifted_case),
        options.prompt,
    )
    _, height, width = mosaic.case.truth.shape
    print(
        f"\n{height} × {width} pixels, {options.frames} frames, "
        f"{len(mosaic.case.prompt_frames)} objects, {len(mosaic.seam_tracks)} of them on a seam\n"
    )
    print(format_markdown(COLUMNS, [*rows, shifted]))
    write_results({"machine": about, "columns": COLUMNS, "results": [*rows, shifted]}, options.out)
    gain, loss = rows[1][1] - rows[0][1], shifted[2] - rows[1][2]
    return report_checks(
        [
            (f"tiles are better than the whole frame, by {gain:.3f}", gain > 0),
            (f"seams cost {loss:.3f}, at most {MAX_SEAM_LOSS}", loss <= MAX_SEAM_LOSS),
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
