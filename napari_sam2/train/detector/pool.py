"""A pool of crops with their targets: drawing a batch costs next to nothing.

Cutting a crop or painting a scene takes some ten milliseconds, as long as the network takes for
it. So crops stay in the pool, each is used several times in different augmentations, and a few
are replaced at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam2.train.detector.augment import augment_grey
from napari_sam2.train.detector.targets import compute_targets

Sample = tuple[NDArray[np.float32], NDArray[np.int32]]  # grey in 0..1 and labels, both (S, S)
DrawSample = Callable[[np.random.Generator], Sample]

_GREY, _FOREGROUND, _BOUNDARY, _CENTRE, _SIZE, _DISTANCES_COUNT, _SIZE_COUNTS = range(7)
_SCALE = 255.0  # maps are kept as bytes


@dataclass(frozen=True)
class DetectionBatch:
    """(B, 1, H, W) grey; (B, 4, H, W) targets as in `MAPS`; (B, 2, H, W) where they count.

    `counts` holds the distances' mask, then the size's.
    """

    grey: Tensor
    targets: Tensor
    counts: Tensor


class CropPool:
    """Crops of `side` px, from which batches of smaller ones are cut, turned and augmented."""

    def __init__(
        self, draw: DrawSample, *, side: int, capacity: int, rng: np.random.Generator
    ) -> None:
        self._draw, self._rng = draw, rng
        self._crops = np.zeros((capacity, 7, side, side), np.uint8)
        self._filled = 0
        self._next = 0
        self._owed = 0.0

    def fill(self, count: int) -> None:
        """Draw crops until the pool holds so many; later ones fill it to its capacity."""
        while self._filled < min(count, len(self._crops)):
            self.refresh(1)

    def refresh(self, count: float) -> None:
        """Replace the `count` oldest crops; fractions add up over calls."""
        self._owed += count
        while self._owed >= 1:
            self._owed -= 1
            self._crops[self._next] = _pack(*self._draw(self._rng))
            self._filled = max(self._filled, self._next + 1)
            self._next = (self._next + 1) % len(self._crops)

    def draw_batch(self, size: int, side: int) -> DetectionBatch:
        """`size` crops of `side` px, each at random place, turned, mirrored and augmented."""
        rng = self._rng
        packed = np.empty((size, 7, side, side), np.uint8)
        grey = np.empty((size, 1, side, side), np.float32)
        room = self._crops.shape[-1] - side + 1
        for index, chosen in enumerate(rng.integers(0, self._filled, size)):
            y, x = rng.integers(0, room, 2)
            crop = self._crops[chosen, :, y : y + side, x : x + side]
            crop = np.rot90(crop, int(rng.integers(4)), (1, 2))
            packed[index] = crop[:, :, ::-1] if rng.random() < 0.5 else crop
            if rng.random() < 0.03:
                _close_aperture(packed[index], rng)
            grey[index, 0] = augment_grey(packed[index, _GREY] / np.float32(_SCALE), rng)
        return unpack_batch(packed, grey)


def pack_samples(samples: list[Sample]) -> NDArray[np.uint8]:
    """(N, 7, S, S) bytes of samples of one size: what the pool keeps of each."""
    return np.stack([_pack(grey, labels) for grey, labels in samples])


def unpack_batch(
    packed: NDArray[np.uint8], grey: NDArray[np.float32] | None = None
) -> DetectionBatch:
    """Tensors of (B, 7, S, S) packed samples; `grey` (B, 1, S, S) replaces what they hold."""
    if grey is None:
        grey = np.asarray(packed[:, :1] / np.float32(_SCALE), np.float32)
    targets = torch.from_numpy(packed[:, _FOREGROUND : _SIZE + 1]).float() / _SCALE
    counts = torch.from_numpy(packed[:, _DISTANCES_COUNT:]).float() / _SCALE
    return DetectionBatch(torch.from_numpy(grey), targets, counts)


def _pack(grey: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    targets = compute_targets(labels)
    maps = (
        grey,
        targets.foreground,
        targets.boundary,
        targets.centre,
        targets.size,
        targets.distances_count,
        targets.size_counts,
    )
    return np.stack([np.rint(np.asarray(plane, np.float32) * _SCALE) for plane in maps]).astype(
        np.uint8
    )


def _close_aperture(packed: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Cover what lies outside a circle; nothing is there to be found any more."""
    side = packed.shape[-1]
    y, x = np.indices((side, side))
    middle = rng.uniform(0.2, 0.8, 2) * side
    outside = np.hypot(y - middle[0], x - middle[1]) > rng.uniform(0.35, 0.7) * side
    packed[_GREY, outside] = rng.choice([0, 255, int(rng.integers(256))])
    packed[_FOREGROUND, outside] = packed[_BOUNDARY, outside] = packed[_SIZE_COUNTS, outside] = 0
    packed[_CENTRE, outside] = 255
    packed[_DISTANCES_COUNT, outside] = 255
