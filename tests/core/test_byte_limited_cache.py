"""ByteLimitedCache: what stays within a budget, and what is dropped first."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from napari_sam2.core.byte_limited_cache import ByteLimitedCache


@pytest.mark.parametrize(
    ("budget", "asked", "made", "kept"),
    [
        (9, "aba", "ab", 6),
        (9, "abcd", "abcd", 9),
        (9, "abcada", "abcd", 9),
        (9, "abcdb", "abcd", 9),
        (9, "abcda", "abcda", 9),
        (1, "aab", "ab", 3),
    ],
    ids=[
        "once each",
        "the oldest goes",
        "what was used stays",
        "no more goes than must",
        "dropped values are made again",
        "the last stays",
    ],
)
def test_least_recently_used_values_are_dropped(
    budget: int, asked: str, made: str, kept: int
) -> None:
    shelf, calls = ByteLimitedCache[str, str](lambda _: 3, budget), list[str]()

    def make(key: str) -> str:
        calls.append(key)
        return key * 3

    assert [shelf.get_or_make(key, lambda key=key: make(key)) for key in asked] == [
        key * 3 for key in asked
    ]  # type: ignore[misc]
    assert "".join(calls) == made
    assert (shelf.nbytes, len(shelf)) == (kept, kept // 3)


def test_size_of_a_value_is_that_at_insertion() -> None:
    shelf = ByteLimitedCache[str, list[int]](len, 3)
    grown = shelf.get_or_make("a", lambda: [1])
    grown += [2, 3, 4]
    for key in "bcd":
        shelf.get_or_make(key, lambda: [1])
    assert "a" not in shelf and shelf.nbytes == 3


def test_value_made_by_two_threads_counts_once() -> None:
    shelf = ByteLimitedCache[str, str](lambda _: 3, 9)

    def make() -> str:
        return shelf.get_or_make("a", lambda: "theirs") + " and mine"

    assert shelf.get_or_make("a", make) == "theirs and mine"
    assert (shelf.nbytes, shelf.get_or_make("a", str)) == (3, "theirs and mine")


@pytest.mark.parametrize(("unwanted", "left"), [("ac", "b"), ("", "abc"), ("abc", "")])
def test_drop_removes_the_given_keys(unwanted: Sequence[str], left: str) -> None:
    shelf = ByteLimitedCache[str, str](lambda _: 3, 9)
    for key in "abc":
        shelf.get_or_make(key, lambda: "x")
    shelf.drop(lambda key: key in unwanted)
    assert "".join(key for key in "abc" if key in shelf) == left
    assert shelf.nbytes == 3 * len(left)
    shelf.clear()
    assert (len(shelf), shelf.nbytes) == (0, 0)
