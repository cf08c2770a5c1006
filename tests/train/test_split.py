"""Splits are by group, never empty, and stable."""

import pytest

from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.split import split_groups


@pytest.mark.parametrize(
    ("groups", "share", "held_out"),
    [
        (["a", "b"], 0.01, 1),
        (["a", "b"], 0.99, 1),
        ([f"image {n}" for n in range(10)], 0.2, 2),
        (["movie 1"] * 50 + ["movie 2"] * 50, 0.2, 50),
        ([f"patient {n % 5}" for n in range(20)], 0.4, 8),
    ],
    ids=["two, small share", "two, large share", "ten images", "two movies", "five patients"],
)
def test_whole_groups_are_held_out(groups: list[str], share: float, held_out: int) -> None:
    for seed in range(10):
        parts = split_groups(groups, share=share, seed=seed)
        assert len(parts.held_out) == held_out
        assert sorted(parts.train + parts.held_out) == list(range(len(groups)))
        assert not {groups[item] for item in parts.train} & {
            groups[item] for item in parts.held_out
        }


def test_the_split_depends_on_names_and_seed_only() -> None:
    groups = [f"image {n}" for n in range(30)]
    assert split_groups(groups) == split_groups(groups)
    assert split_groups(groups) != split_groups(groups, seed=1)
    out = {groups[item] for item in split_groups(groups).held_out}
    backwards = groups[::-1]
    assert {backwards[item] for item in split_groups(backwards).held_out} == out


@pytest.mark.parametrize(
    ("groups", "share", "message"),
    [
        (["a"] * 5, 0.2, "at least two groups are needed"),
        ([], 0.2, "at least two groups are needed"),
        (["a", "b"], 0.0, "share"),
        (["a", "b"], 1.0, "share"),
    ],
    ids=["one movie", "nothing", "none", "all"],
)
def test_an_empty_validation_set_is_refused(groups: list[str], share: float, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        split_groups(groups, share=share)
