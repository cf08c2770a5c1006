"""Tile cache: what it saves in a correction that tiles are kept on disk.

    python -m benchmarks.speed.tile_cache --out results.json

The embedded model's trained weights on whole frames of a mosaic (see `benchmarks.accuracy.tiles`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.machine import describe_machine
from benchmarks.support.mosaic import Mosaic, add_mosaic_options, make_mosaic, make_tile_grid
from benchmarks.support.peers import NapariSam2Peer
from benchmarks.support.requirements import Check, report_checks
from benchmarks.support.results import format_markdown, write_results
from napari_sam2.core.inference_options import Attention
from napari_sam2.core.result import Embedding
from napari_sam2.core.stack import Frame, Stack
from napari_sam2.core.window import Window
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.tiled_model import TiledModel
from napari_sam2.propagation.embedding_cache import EmbeddingCache
from napari_sam2.propagation.embedding_disk_cache import EmbeddingDiskCache
from napari_sam2.propagation.session import Session, SessionSettings

EMBEDDING_BYTES = 16 << 20
"""Memory for image features: too small to keep any of the first propagation."""

EMBEDDING_DISK_BYTES = 8 << 30
"""Disk for image features: more than they take."""

ATTENTIONS: tuple[Attention, ...] = ("global", "local")

COLUMNS = (
    "model",
    "tiles on disk",
    "first propagation, s",
    "correction, s",
    "frames computed",
    "tiles encoded",
    "MB a tile",
)


class EncodingCounter(Sam2Predictor):
    """Counts the views that it encodes."""

    encoded = 0

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """See `VideoModel`."""
        self.encoded += len(views)
        return super().embed(views)


def measure_correction(
    inner: EncodingCounter, mosaic: Mosaic, kind: str, folder: Path, *, on_disk: bool
) -> list[Any]:
    """Measure a row: propagate all objects, then correct one on a seam on the middle frame."""
    settings = SessionSettings(
        patience=None,
        embedding_bytes=EMBEDDING_BYTES,
        folder=folder,
        embedding_disk_bytes=EMBEDDING_DISK_BYTES * on_disk,
    )
    case, middle, track = mosaic.case, len(mosaic.case.video) // 2, mosaic.seam_tracks[0]
    with Session(case.video, TiledModel(inner), settings=settings) as session:
        start = time.perf_counter()
        session.prompt_many([case.prompt(each, kind) for each in case.prompt_frames])
        session.run().finish()
        first_s, encoded_first = time.perf_counter() - start, inner.encoded
        start = time.perf_counter()
        session.prompt(replace(case, prompt_frames={track: middle}).prompt(track, kind))
        session.compute_label_plane(middle)
        computed = sum(bool(step.segments) for step in session.run())
        correction_s = time.perf_counter() - start
    return [
        f"tiles, attention {inner.card.attention}",
        "yes" if on_disk else "no",
        round(first_s, 1),
        round(correction_s, 2),
        computed,
        inner.encoded - encoded_first,
        round(_count_tile_bytes(folder) / encoded_first / 1e6, 2),
    ]


def measure_tile(folder: Path, *, size: int = 1024) -> tuple[float, float, float]:
    """Measure one tile of SAM 2.1 tiny with random weights on noise.

    Parameters
    ----------
    size
        Side of the input; the frame is twice as large.

    Returns
    -------
    encoded_s, read_s, megabytes
        Seconds to encode a tile and to read it from disk, and the disk it takes.
    """
    pixels = np.random.default_rng(0).random((1, 2 * size, 2 * size), dtype=np.float32)
    video = Stack(pixels, "tyx").as_video("t")
    inner = NapariSam2Peer(size).model
    tile = make_tile_grid(video.shape, size).find_tile_at((0.7 * size, 0.7 * size), 0.5)
    frame, seconds = video.read_frame(0), []
    for _ in range(2):
        model = TiledModel(inner)
        cache = EmbeddingCache(
            video,
            model,
            disk_cache=EmbeddingDiskCache(folder, video, model.card, EMBEDDING_DISK_BYTES),
        )
        whole = cache.get(0)
        start = time.perf_counter()
        whole.get_part(tile, lambda: inner.embed([(frame, tile)])[0])
        seconds.append(time.perf_counter() - start)
        cache.close()
    return seconds[0], seconds[1], _count_tile_bytes(folder) / 1e6


def check_requirements(
    rows: Sequence[Sequence[Any]], encoded_s: float, read_s: float
) -> list[Check]:
    """Check that tiles on disk are not encoded again, and that reading them is quicker."""
    again = sum(row[5] for row in rows if row[1] == "yes")
    return [
        (f"tiles on disk that were encoded again: {again}, required 0", again == 0),
        (f"a tile is read in {read_s:.3f} s and encoded in {encoded_s:.2f} s", read_s < encoded_s),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON; 0 if all requirements are reached."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.tile_cache", description=(__doc__ or "").splitlines()[0]
    )
    add_mosaic_options(parser)
    options = parser.parse_args(arguments)
    about, nano = describe_machine(), load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    mosaic, card = make_mosaic(nano.card, options)
    rows = []
    for attention in ATTENTIONS:
        for on_disk in (False, True):
            inner = EncodingCounter(nano.network, replace(card, attention=attention))
            with tempfile.TemporaryDirectory() as folder:
                rows.append(
                    measure_correction(inner, mosaic, options.prompt, Path(folder), on_disk=on_disk)
                )
    print(format_markdown(COLUMNS, rows))
    with tempfile.TemporaryDirectory() as folder:
        encoded_s, read_s, megabytes = measure_tile(Path(folder))
    print(f"\nSAM 2.1 tiny: a tile takes {megabytes:.1f} MB of disk")
    tiny = {"encoded": encoded_s, "read": read_s, "mb": megabytes}
    write_results(
        {"machine": about, "columns": COLUMNS, "results": rows, "tiny": tiny}, options.out
    )
    return report_checks(check_requirements(rows, encoded_s, read_s))


def _count_tile_bytes(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("part_*/**/*") if each.is_file())


if __name__ == "__main__":
    raise SystemExit(main())
