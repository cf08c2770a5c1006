"""Blocks of a large plane or volume, and the labels that are put together of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Labels = NDArray[np.int32]

_SHIFT = 3.0  # pixels that the centre of an object may move with the block it is seen in
_MAX_OVERLAP = 0.3  # of an object's pixels on known ones: above it, it is one of them


@dataclass(frozen=True)
class Block:
    """A part of an array: `core` is its own, `outer` what is looked at to see it whole."""

    core: tuple[slice, ...]
    outer: tuple[slice, ...]

    @property
    def core_in_outer(self) -> tuple[slice, ...]:
        """The core, counted from the beginning of the outer part."""
        return tuple(
            slice(core.start - outer.start, core.stop - outer.start)
            for core, outer in zip(self.core, self.outer, strict=True)
        )


def divide_into_blocks(shape: Sequence[int], side: int, margin: int) -> list[Block]:
    """Blocks with cores of about `side` pixels, and `margin` more around each."""
    ranges = []
    for length in shape:
        count = max(1, -(-length // side))
        edges = np.linspace(0, length, count + 1).round().astype(int).tolist()
        ranges.append(
            [
                (slice(low, high), slice(max(0, low - margin), min(length, high + margin)))
                for low, high in pairwise(edges)
            ]
        )
    return [
        Block(tuple(core for core, _ in parts), tuple(outer for _, outer in parts))
        for parts in product(*ranges)
    ]


class BlockLabels:
    """Labels of a whole array, to which blocks add the objects whose centre is in their core."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.labels: Labels = np.zeros(tuple(shape), np.int32)
        self.count = 0

    def add(self, labels: Labels, block: Block) -> NDArray[np.intp]:
        """Add the objects of a block; return which of its labels were taken, in their new order.

        An object that a neighbouring block has added already is left out.
        """
        target = self.labels[block.outer]
        taken = []
        for number, box in iterate_objects(labels):
            mask = labels[box] == number
            if not self._is_own(mask, box, block):
                continue
            known = target[box]
            if np.count_nonzero(known[mask]) > _MAX_OVERLAP * np.count_nonzero(mask):
                continue
            self.count += 1
            known[mask & (known == 0)] = self.count
            taken.append(number)
        return np.array(taken, np.intp)

    def _is_own(self, mask: NDArray[np.bool_], box: tuple[slice, ...], block: Block) -> bool:
        centre = ndi.center_of_mass(mask)
        places = (
            (c + part.start + outer.start, core, length)
            for c, part, outer, core, length in zip(
                centre, box, block.outer, block.core, self.labels.shape, strict=True
            )
        )
        return all(
            (core.start == 0 or place >= core.start - _SHIFT)
            and (core.stop == length or place < core.stop + _SHIFT)
            for place, core, length in places
        )


def iterate_objects(labels: Labels) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """The objects of a label array, and the box of each."""
    for number, box in enumerate(ndi.find_objects(labels), start=1):
        if box is not None:
            yield number, box
