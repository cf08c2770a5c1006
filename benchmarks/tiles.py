"""Tiles: small objects on a large frame, looked at by the whole frame and by tiles, with the embedded model's trained weights.

python -m benchmarks.tiles --out results.json python -m benchmarks.tiles --correction
what it brings to a correction that tiles are kept on disk

The embedded model follows, so it needs no tiles. Here it is shown whole frames, as SAM 2 is: copies
of the time-lapse sample beside each other, whose true masks are known.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.accuracy import TrackingCase
from benchmarks.near import AttentionResult
from benchmarks.peers import NapariSam2Peer
from napari_sam2.api.samples import SAMPLES
from napari_sam2.core.inference_options import Attention
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Embedding
from napari_sam2.core.stack import Frame, Stack
from napari_sam2.core.window import Window
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.models.tile_grid import TileGrid
from napari_sam2.models.tiled_model import TiledModel
from napari_sam2.propagation.embedding_cache import EmbeddingCache
from napari_sam2.propagation.embedding_disk_cache import EmbeddingDiskCache
from napari_sam2.propagation.session import Session, SessionSettings

ON_SEAM_PX = 12.0
"""An object is on a seam whose middle is so near to where one tile takes over from the next."""

MAX_SEAM_LOSS = 0.01
"""IoU that an object may lose by lying on a seam: against the same object on a frame that is cut so that it does not."""

COLUMNS = ("looked at by", "IoU", "IoU of those on a seam", "IoU on the prompted frame", "cpu s")

EMBEDDING_BYTES = 16 << 20
"""Bytes of memory for image features, where a correction is measured: so few that none of the first propagation are left."""

EMBEDDING_DISK_BYTES = 8 << 30
"""Bytes of disk for them: more than they take."""

CORRECTION_COLUMNS = (
    "looked at by",
    "tiles on disk",
    "first propagation, s",
    "correction, s",
    "frames walked",
    "tiles encoded",
    "MB a tile",
)


@dataclass(frozen=True)
class Mosaic:
    """So many copies of the sample beside and below each other, and the truth of some objects, half of them on seams.

    `shifted_case` is the same without some rows and columns at its beginning: no object is on a seam there
    that was on one.
    """

    case: TrackingCase
    shifted_case: TrackingCase
    seam_tracks: tuple[int, ...]

    @classmethod
    def of(cls, copies: int, objects: int, frames: int, size: int) -> Mosaic:
        """From the time-lapse sample; `size` is the side of the network's input."""
        sample = SAMPLES[1]
        image, truth = (
            np.asarray(opened.data)[:frames]
            for opened in (open_stack(sample.image), open_labels(sample.truth))
        )
        many, count = np.tile(image, (1, copies, copies)), int(truth.max())
        numbers = (
            np.kron(
                np.arange(copies**2).reshape(copies, copies),
                np.ones(truth.shape[1:], dtype=np.int64),
            )
            * count
        )
        labels = np.where(
            np.tile(truth, (1, copies, copies)) > 0,
            np.tile(truth, (1, copies, copies)) + numbers,
            0,
        )
        tiles, places = _make_tile_grid(many.shape, size), _find_whole_objects(labels)
        off = (
            size * 3 // 16
        )  # half of a step of tiles that show a pixel of the frame by two of the input
        kept = _make_tile_grid((labels.shape[1] - off, labels.shape[2] - off), size)
        places = {
            track: (middle, wide)
            for track, (middle, wide) in places.items()
            if middle.min() > off + wide
        }
        on = {track for track, (middle, wide) in places.items() if _is_on_seam(tiles, middle, wide)}
        seams = [
            track for track in on if not _is_on_seam(kept, places[track][0] - off, places[track][1])
        ]
        inside = [seams, [track for track in places if track not in on]]
        rng = np.random.default_rng(0)
        chosen = [rng.permutation(group)[: objects // 2].tolist() for group in inside]
        frame = dict.fromkeys(sorted(chosen[0] + chosen[1]), 0)
        cases = [
            TrackingCase(Stack(planes, "tyx").as_video("t"), truth, frame)
            for planes, truth in ((many, labels), (many[:, off:, off:], labels[:, off:, off:]))
        ]
        return cls(*cases, tuple(chosen[0]))


def _make_tile_grid(shape: Sequence[int], size: int) -> TileGrid:
    height, width = shape[-2:]
    return TileGrid((height, width), Window.full_frame((height, width), size))


def _find_whole_objects(labels: np.ndarray) -> dict[int, tuple[np.ndarray, float]]:
    """Middle on the first frame and width of every object that is on all frames and touches no edge of its copy."""
    counts = np.stack(
        [np.bincount(plane.ravel(), minlength=int(labels.max()) + 1) for plane in labels]
    )
    found = {}
    for track in np.flatnonzero((counts > 0).all(axis=0))[1:]:
        rows, columns = np.nonzero(labels[0] == track)
        wide = float(max(np.ptp(rows), np.ptp(columns)) + 1)
        if counts[0, track] > 0.5 * wide**2:
            found[int(track)] = (np.array([rows.mean(), columns.mean()]), wide)
    return found


def _is_on_seam(tiles: TileGrid, middle: np.ndarray, width_px: float) -> bool:
    """Whether the next tile takes over within `ON_SEAM_PX`."""
    shifts = (
        (0.0, 0.0),
        (ON_SEAM_PX, 0.0),
        (-ON_SEAM_PX, 0.0),
        (0.0, ON_SEAM_PX),
        (0.0, -ON_SEAM_PX),
    )
    corners = [
        tuple(tuple(middle + shift + sign * width_px / 2) for sign in (-1, 1)) for shift in shifts
    ]
    return len({tiles.choose_tile(each) for each in corners}) > 1  # type: ignore[arg-type]


def measure_mosaic(name: str, model: VideoModel, mosaic: Mosaic, kind: str) -> list[Any]:
    """A row of the table."""
    found = AttentionResult.of(mosaic.case, model, kind)
    ious = {
        track: _compute_frame_ious(found.labels, mosaic.case.truth, track)
        for track in mosaic.case.prompt_frames
    }
    parts = [
        [each.mean() for each in ious.values()],
        [ious[track].mean() for track in mosaic.seam_tracks],
        [each[0] for each in ious.values()],
    ]
    return [name, *(round(float(np.mean(part)), 4) for part in parts), round(found.cpu_s, 1)]


def _compute_frame_ious(found: np.ndarray, truth: np.ndarray, track: int) -> np.ndarray:
    one, other = found == track, truth == track
    return np.asarray(
        (one & other).sum(axis=(1, 2)) / np.maximum(1, (one | other).sum(axis=(1, 2)))
    )


class EncodingCounter(Sam2Predictor):
    """It counts what it encodes."""

    encoded = 0

    def embed(self, views: Sequence[tuple[Frame, Window]]) -> list[Embedding]:
        """See `VideoModel`."""
        self.encoded += len(views)
        return super().embed(views)


def measure_correction(
    inner: EncodingCounter, mosaic: Mosaic, kind: str, folder: Path, *, on_disk: bool
) -> list[Any]:
    """A row of the other table: all objects are carried, then one that is on a seam is prompted on the middle frame as well."""
    settings = SessionSettings(
        patience=None,
        embedding_bytes=EMBEDDING_BYTES,
        folder=folder,
        embedding_disk_bytes=EMBEDDING_DISK_BYTES * on_disk,
    )
    case, middle, track = mosaic.case, len(mosaic.case.video) // 2, mosaic.seam_tracks[0]
    with Session(case.video, TiledModel(inner), settings=settings) as session:
        began = time.perf_counter()
        session.prompt_many([case.prompt(each, kind) for each in case.prompt_frames])
        session.run().finish()
        first, before = time.perf_counter() - began, inner.encoded
        began = time.perf_counter()
        session.prompt(replace(case, frames={track: middle}).prompt(track, kind))
        session.label_plane(middle)
        walked = sum(bool(stepped.segments) for stepped in session.run())
        took = time.perf_counter() - began
    name, encoded = f"tiles, attention {inner.card.attention}", inner.encoded - before
    return [
        name,
        "yes" if on_disk else "no",
        round(first, 1),
        round(took, 2),
        walked,
        encoded,
        round(_compute_tile_bytes(folder) / before / 1e6, 2),
    ]


def measure_tile(folder: Path) -> tuple[float, float, float]:
    """Seconds in which SAM 2.1 tiny encodes a tile, and in which it is read from disk; MB that it takes there. Random weights, noise."""
    video = Stack(
        np.random.default_rng(0).random((1, 2048, 2048), dtype=np.float32), "tyx"
    ).as_video("t")
    inner = NapariSam2Peer(1024).model
    tile, took = _make_tile_grid(video.shape, 1024).find_tile_at((700.0, 700.0), 0.5), []
    pixels = video.read_frame(0)
    for _ in range(2):
        model = TiledModel(inner)
        embeddings = EmbeddingCache(
            video,
            model,
            disk_cache=EmbeddingDiskCache(folder, video, model.card, EMBEDDING_DISK_BYTES),
        )
        whole = embeddings.get(0)
        began = time.perf_counter()
        whole.get_part(tile, lambda: inner.embed([(pixels, tile)])[0])
        took.append(time.perf_counter() - began)
        embeddings.close()
    return took[0], took[1], _compute_tile_bytes(folder) / 1e6


def _compute_tile_bytes(folder: Path) -> int:
    """Of all tiles that are kept there."""
    return sum(each.stat().st_size for each in folder.rglob("part_*/**/*") if each.is_file())


def measure_corrections(
    nano: Sam2Predictor, mosaic: Mosaic, options: argparse.Namespace, about: dict[str, Any]
) -> int:
    """Measure with and without tiles on disk, print, write JSON; 0 where kept tiles are not encoded again, and sooner read than made."""
    rows = []
    for attention in ("global", "local"):
        for on_disk in (False, True):
            inner = EncodingCounter(nano.network, replace(nano.card, attention=attention))
            with tempfile.TemporaryDirectory() as folder:
                rows.append(
                    measure_correction(inner, mosaic, options.prompt, Path(folder), on_disk=on_disk)
                )
    print(machine.format_markdown(CORRECTION_COLUMNS, rows))
    with tempfile.TemporaryDirectory() as folder:
        encoded, read, size = measure_tile(Path(folder))
    print(
        f"\nSAM 2.1 tiny, a tile: {encoded:.2f} s encoded and kept, {read:.3f} s read, "
        f"{size:.1f} MB"
    )
    results = {"results": rows, "tiny": {"encoded": encoded, "read": read, "mb": size}}
    machine.write_results({"machine": about, "columns": CORRECTION_COLUMNS, **results}, options.out)
    return 0 if not any(row[5] for row in rows if row[1] == "yes") and read < encoded else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 0 where tiles are better than the whole frame, and seams cost no more than `MAX_SEAM_LOSS`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tiles", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--copies", type=int, default=8, help="of the sample along each axis, 130 pixels each"
    )
    parser.add_argument("--objects", type=int, default=32)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--size", type=int, default=512, help="side of the input")
    parser.add_argument("--prompt", choices=["click", "box"], default="box")
    parser.add_argument(
        "--correction",
        action="store_true",
        help="measure a correction, with tiles on disk and without",
    )
    parser.add_argument("--out", type=Path, help="write results as JSON")
    options = parser.parse_args(arguments)
    about, nano = machine.describe_machine(), load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    mosaic = Mosaic.of(options.copies, options.objects, options.frames, options.size)
    card = replace(nano.card, object_crops=False, input_sizes=(options.size,))
    if options.correction:
        return measure_corrections(Sam2Predictor(nano.network, card), mosaic, options, about)
    models: dict[str, VideoModel] = {"whole frame": Sam2Predictor(nano.network, card)}
    for attention in ("global", "local", "auto"):
        kind: Attention = attention  # type: ignore[assignment]
        models[f"tiles, attention {kind}"] = TiledModel(
            Sam2Predictor(nano.network, replace(card, attention=kind))
        )
    models["nano as it is: it follows"] = nano
    rows = [measure_mosaic(name, model, mosaic, options.prompt) for name, model in models.items()]
    cut = replace(mosaic, case=mosaic.shifted_case)
    inside = measure_mosaic(
        "tiles, attention global, cut", models["tiles, attention global"], cut, options.prompt
    )
    side = options.copies * 130
    print(
        f"\n{side} × {side} pixels, {options.frames} frames, {len(mosaic.case.prompt_frames)} objects, "
        f"{len(mosaic.seam_tracks)} of them on a seam\n"
    )
    print(machine.format_markdown(COLUMNS, [*rows, inside]))
    better, lost = rows[1][1] - rows[0][1], inside[2] - rows[1][2]
    checks = [
        (f"tiles better than the whole frame, by {better:.3f}", better > 0),
        (f"seams cost {lost:.3f}, asked {MAX_SEAM_LOSS}", lost <= MAX_SEAM_LOSS),
    ]
    for what, good in checks:
        print(f"{'reached' if good else 'MISSED '}  {what}")
    machine.write_results(
        {"machine": about, "columns": COLUMNS, "results": [*rows, inside]}, options.out
    )
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
