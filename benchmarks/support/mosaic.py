"""A mosaic: copies of the time-lapse sample beside each other, a large frame of small objects."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.support.stacks import TrackingCase
from napari_sam2.api.samples import SAMPLES
from napari_sam2.core.card import ModelCard
from napari_sam2.core.stack import Stack
from napari_sam2.core.window import Window
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.models.tile_grid import TileGrid

ON_SEAM_PX = 12.0
"""An object is on a seam if another tile takes over within this distance of its centre."""

ObjectPlaces = dict[int, tuple[np.ndarray, float]]
"""By track: the centre (y, x) on the first frame, and the width in pixels."""


@dataclass(frozen=True)
class Mosaic:
    """Some objects of a mosaic with their truth, half of them on seams of tiles.

    `shifted_case` is the same mosaic without its first rows and columns: the objects that were on
    a seam are off the seams there.
    """

    case: TrackingCase
    shifted_case: TrackingCase
    seam_tracks: tuple[int, ...]

    @classmethod
    def of(cls, copies: int, objects: int, frames: int, size: int) -> Mosaic:
        """Make a mosaic of `copies` × `copies` samples; `size` is the side of the input."""
        pixels, labels = _repeat_sample(copies, frames)
        # half a step of tiles that show a pixel of the frame as two pixels of the input
        shift = size * 3 // 16
        places = {
            track: (centre, width)
            for track, (centre, width) in _find_whole_objects(labels).items()
            if centre.min() > shift + width
        }
        on_seam = _find_on_seam(make_tile_grid(labels.shape, size), places)
        shifted_shape = (labels.shape[1] - shift, labels.shape[2] - shift)
        shifted = {track: (centre - shift, width) for track, (centre, width) in places.items()}
        still_on_seam = _find_on_seam(make_tile_grid(shifted_shape, size), shifted)
        rng = np.random.default_rng(0)
        seam_tracks, others = (
            rng.permutation(group)[: objects // 2].tolist()
            for group in (
                [track for track in on_seam if track not in still_on_seam],
                [track for track in places if track not in on_seam],
            )
        )
        prompt_frames = dict.fromkeys(sorted(seam_tracks + others), 0)
        case, shifted_case = (
            TrackingCase(Stack(planes, "tyx").as_video("t"), truth, prompt_frames)
            for planes, truth in (
                (pixels, labels),
                (pixels[:, shift:, shift:], labels[:, shift:, shift:]),
            )
        )
        return cls(case, shifted_case, tuple(seam_tracks))


def add_mosaic_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `make_mosaic` reads, and --prompt and --out."""
    parser.add_argument("--copies", type=int, default=8, help="copies of the sample along an axis")
    parser.add_argument("--objects", type=int, default=32, help="number of objects (%(default)s)")
    parser.add_argument("--frames", type=int, default=6, help="number of frames (%(default)s)")
    parser.add_argument("--size", type=int, default=512, help="side of the input, in pixels")
    parser.add_argument("--prompt", choices=["click", "box"], default="box", help="kind of prompt")
    parser.add_argument("--out", type=Path, help="write results as JSON")


def make_mosaic(card: ModelCard, options: argparse.Namespace) -> tuple[Mosaic, ModelCard]:
    """Make the mosaic, and a card of a model that sees whole frames."""
    mosaic = Mosaic.of(options.copies, options.objects, options.frames, options.size)
    return mosaic, replace(card, object_crops=False, input_sizes=(options.size,))


def make_tile_grid(shape: Sequence[int], size: int) -> TileGrid:
    """Make the grid of tiles of frames of (…, height, width) pixels."""
    height, width = shape[-2:]
    return TileGrid((height, width), Window.full_frame((height, width), size))


def _repeat_sample(copies: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Repeat the sample along y and x; each copy has labels of its own."""
    sample = SAMPLES[1]
    image, truth = (
        np.asarray(opened.data)[:frames]
        for opened in (open_stack(sample.image), open_labels(sample.truth))
    )
    pixels, labels = (np.tile(planes, (1, copies, copies)) for planes in (image, truth))
    numbers = np.arange(copies**2).reshape(copies, copies) * int(truth.max())
    offsets = np.kron(numbers, np.ones(truth.shape[1:], dtype=np.int64))
    return pixels, np.where(labels > 0, labels + offsets, 0)


def _find_whole_objects(labels: np.ndarray) -> ObjectPlaces:
    """Find the objects that are on all frames and are not cut by an edge of their copy."""
    counts = np.stack(
        [np.bincount(plane.ravel(), minlength=int(labels.max()) + 1) for plane in labels]
    )
    places = {}
    for track in np.flatnonzero((counts > 0).all(axis=0))[1:]:
        rows, columns = np.nonzero(labels[0] == track)
        width = float(max(np.ptp(rows), np.ptp(columns)) + 1)
        if counts[0, track] > 0.5 * width**2:
            places[int(track)] = (np.array([rows.mean(), columns.mean()]), width)
    return places


def _find_on_seam(tiles: TileGrid, places: ObjectPlaces) -> set[int]:
    return {
        track
        for track, (centre, width_px) in places.items()
        if _count_tiles_around(tiles, centre, width_px) > 1
    }


def _count_tiles_around(tiles: TileGrid, centre: np.ndarray, width_px: float) -> int:
    """Count the tiles that are chosen for an object within `ON_SEAM_PX` of its place."""
    shifts: Iterable[tuple[float, float]] = (
        (0.0, 0.0),
        (ON_SEAM_PX, 0.0),
        (-ON_SEAM_PX, 0.0),
        (0.0, ON_SEAM_PX),
        (0.0, -ON_SEAM_PX),
    )
    chosen = set()
    for shift in shifts:
        (top, left), (bottom, right) = (centre + shift + s * width_px / 2 for s in (-1, 1))
        chosen.add(tiles.choose_tile(((top, left), (bottom, right))))
    return len(chosen)
