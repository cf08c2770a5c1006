"""Batches computed in parallel, one core for each."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Thread

import pytest
import torch

from napari_sam2.models.parallel import group_by_kind, map_threads, split_evenly


@pytest.fixture(params=[1, 2, 3])
def cores(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_in_order(cores: int) -> None:
    assert map_threads(lambda part: part * 10, list(range(7))) == [0, 10, 20, 30, 40, 50, 60]
    assert map_threads(lambda part: part, []) == []


def test_each_part_has_one_core(cores: int) -> None:
    assert map_threads(lambda _: torch.get_num_threads(), [0] * 5) == [1] * 5
    assert torch.get_num_threads() == cores


def test_parts_are_computed_at_the_same_time() -> None:
    """The first ends only after the second has started."""
    before, begun = torch.get_num_threads(), Event()

    def work(part: int) -> bool:
        if part:
            begun.set()
        return begun.wait(30)

    torch.set_num_threads(2)
    try:
        assert map_threads(work, [0, 1]) == [True, True]
    finally:
        torch.set_num_threads(before)


def test_new_threads_keep_the_number_of_cores(cores: int) -> None:
    map_threads(lambda part: part, [1, 2])
    found: list[int] = []
    thread = Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [cores]


def test_an_error_is_raised_when_all_parts_have_ended(cores: int) -> None:
    ended: list[int] = []

    def work(part: int) -> None:
        if part == 0:
            raise ValueError("the first")
        ended.append(part)

    with pytest.raises(ValueError, match="the first"):
        map_threads(work, [0, 1, 2])
    assert ended == ([] if cores == 1 else [1, 2])


@pytest.mark.parametrize(
    ("things", "room", "cores", "sizes"),
    [
        (1, 8, 2, [1]),
        (3, 8, 2, [3]),
        (4, 8, 2, [2, 2]),
        (9, 8, 2, [5, 4]),
        (9, 8, 1, [5, 4]),
        (50, 8, 2, [7, 7, 6, 6, 6, 6, 6, 6]),
        (50, 8, 1, [8, 7, 7, 7, 7, 7, 7]),
        (6, 8, 16, [2, 2, 2]),
        (3, 1, 4, [1, 1, 1]),
        (0, 8, 2, []),
    ],
)
def test_parts_fit_and_have_similar_sizes(
    things: int, room: int, cores: int, sizes: list[int]
) -> None:
    parts = split_evenly(range(things), room, cores)
    assert [len(part) for part in parts] == sizes
    assert [index for part in parts for index in part] == list(range(things))


def test_items_of_one_kind_share_a_part() -> None:
    assert group_by_kind("abacaba", [2] * 7) == [[0, 2], [4, 6], [1, 5], [3]]
