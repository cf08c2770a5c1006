"""Batches computed in parallel, one core for each.

If a network is small, cores that share each of its operations wait for each other more than they
compute; cores that compute a batch each do not.
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

# Smaller batches would spend most of their time on overhead.
_MIN_PART_SIZE = 2
_T = TypeVar("_T")
_R = TypeVar("_R")


def map_threads(work: Callable[[_T], _R], parts: Sequence[_T]) -> list[_R]:
    """Results of `work` for each part, in order, on as many threads as `torch.get_num_threads`.

    `work` must enter inference mode and autocast itself, because other threads do not inherit them.
    After all parts have ended, the first error is raised.
    """
    cores = torch.get_num_threads()
    if cores == 1 or not parts:
        return [work(part) for part in parts]
    futures = [_get_thread_pool(cores).submit(work, part) for part in parts]
    wait(futures)
    return [future.result() for future in futures]


def group_by_kind(
    kinds: Sequence[Hashable], max_sizes: Sequence[int], cores: int = 1
) -> list[list[int]]:
    """Indices of items in parts, each of one kind and at most as large as its `max_sizes`."""
    indices: dict[Hashable, list[int]] = {}
    for index, kind in enumerate(kinds):
        indices.setdefault(kind, []).append(index)
    return [
        part for same in indices.values() for part in split_evenly(same, max_sizes[same[0]], cores)
    ]


def split_evenly(indices: Sequence[int], max_size: int, cores: int) -> list[list[int]]:
    """Parts of similar size, at most `max_size`; the same number for each core if possible."""
    if not indices:
        return []
    min_count = math.ceil(len(indices) / max_size)
    for_all_cores = math.ceil(min_count / cores) * cores
    count = max(min_count, min(len(indices) // _MIN_PART_SIZE, for_all_cores))
    return [part.tolist() for part in np.array_split(indices, count)]


@cache
def _get_thread_pool(cores: int) -> ThreadPoolExecutor:
    """Started threads that use one core each."""
    pool, started = ThreadPoolExecutor(cores, "napari-sam2-core"), Barrier(cores + 1)

    def start() -> None:
        # PyTorch copies the process's number to a thread on its first query and then keeps it.
        torch.get_num_threads()
        torch.set_num_threads(1)
        started.wait()

    for _ in range(cores):
        pool.submit(start)
    started.wait()
    torch.set_num_threads(cores)  # new threads begin with the number that was set last
    return pool
