"""Cores: parts of one question, computed side by side, each by one core of the processor.

Where a network is small, cores that share each of its operations wait for each other more than they
compute; parts that have a core each do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier
from typing import TypeVar

import numpy as np
import torch

_MIN_PART_SIZE = 2  # things of a part: what a part costs by itself would be most of it otherwise
_T = TypeVar("_T")
_R = TypeVar("_R")


def map_threads(work: Callable[[_T], _R], parts: Sequence[_T]) -> list[_R]:
    """What `work` makes of each part, in order; as many at once as this thread has been given cores (`torch.get_num_threads`).

    `work` enters inference mode and autocast by itself: neither is handed on to another thread. The
    first error is raised when all parts have come to an end.
    """
    cores = torch.get_num_threads()
    if cores == 1 or not parts:
        return [work(part) for part in parts]
    waiting = [_get_thread_pool(cores).submit(work, part) for part in parts]
    wait(waiting)
    return [each.result() for each in waiting]


def group_by_kind(
    kinds: Sequence[Hashable], max_sizes: Sequence[int], cores: int = 1
) -> list[list[int]]:
    """Parts of things of one kind, each told by its place; there is room in a part for so many of each."""
    places: dict[Hashable, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    return [
        part for same in places.values() for part in split_evenly(same, max_sizes[same[0]], cores)
    ]


def split_evenly(indices: Sequence[int], max_size: int, cores: int) -> list[list[int]]:
    """Parts of at most `max_size`, all about as large, and as many for each core where there are enough."""
    if not indices:
        return []
    least = math.ceil(len(indices) / max_size)
    count = max(least, min(len(indices) // _MIN_PART_SIZE, math.ceil(least / cores) * cores))
    return [part.tolist() for part in np.array_split(indices, count)]


@cache
def _get_thread_pool(cores: int) -> ThreadPoolExecutor:
    """Threads with a core each, all begun."""
    pool, begun = ThreadPoolExecutor(cores, "napari-sam2-core"), Barrier(cores + 1)

    def begin() -> None:
        # a thread takes its number from the rest of the process when it first asks, and keeps it
        # then
        torch.get_num_threads()
        torch.set_num_threads(1)
        begun.wait()

    for _ in range(cores):
        pool.submit(begin)
    begun.wait()
    torch.set_num_threads(cores)  # the last number set is what any new thread begins with
    return pool
