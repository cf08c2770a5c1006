"""Sources of clips: frames are annotated, planes are read once, mixtures have weights."""

from collections.abc import Sequence

import numpy as np
import pytest

from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.clip import Clip, ClipSource
from napari_sam2.train.data.clip_sources import PairSource, SourceMixture, sample_frames
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack
from napari_sam2.train.synthetic.clips import SyntheticSource


class Stack:
    """Frames of one square that moves a pixel to the right per frame; counts what is read."""

    def __init__(self, length: int = 8) -> None:
        self.length = length
        self.reads: list[int] = []

    def __call__(self, frame: int) -> AnnotatedPlane:
        self.reads.append(frame)
        labels = np.zeros((64, 64), dtype=np.int32)
        labels[20:40, 10 + frame : 30 + frame] = 5
        return labels / 5.0 * (frame + 1) / self.length, labels

    def pair(self, annotated: Sequence[int] | None = None, **more: bool) -> AnnotatedStack:
        frames = tuple(range(self.length)) if annotated is None else tuple(annotated)
        return AnnotatedStack("square", "movie", (self.length, 64, 64), frames, self, **more)


@pytest.mark.parametrize(
    ("annotated", "stride", "steps"),
    [
        (range(20), 1, {1, -1}),
        (range(20), 2, {1, -1, 2, -2}),
        ([0, 1, 2, 10, 11, 12], 1, {1, -1}),
        ([0, 1, 2, 10, 11, 12], 3, {1, -1, 2, -2}),
        ([0, 4, 8], 4, {0}),
        ([3], 1, {0}),
    ],
    ids=[
        "whole stack",
        "every second frame",
        "two runs",
        "two runs, long strides",
        "isolated frames",
        "one frame",
    ],
)
def test_sampled_frames_stay_in_a_run_of_annotated_frames(
    annotated: Sequence[int], stride: int, steps: set[int]
) -> None:
    found_steps = set()
    for seed in range(50):
        frames = sample_frames(annotated, np.random.default_rng(seed), length=6, stride=stride)
        assert len(frames) == 6
        assert set(frames) <= set(annotated)
        found_steps |= set(np.diff(frames).tolist())
    assert found_steps <= steps
    assert {abs(step) for step in found_steps} == {abs(step) for step in steps}


def test_clips_of_a_stack_have_both_directions() -> None:
    source = PairSource([Stack().pair()], strides=[1])
    rising = [
        np.diff(
            source.draw(0, np.random.default_rng(seed), length=3, size=32).frames.max(axis=(1, 2))
        )[0]
        > 0
        for seed in range(30)
    ]
    assert 5 < sum(rising) < 25


def test_a_clip_of_a_stack_shows_its_frames() -> None:
    source = PairSource([Stack().pair()], scales=(1.0, 1.0))
    clip = source.draw(0, np.random.default_rng(0), length=4, size=64)
    for frame, labels in zip(clip.frames, clip.labels, strict=True):
        assert set(np.unique(labels)) == {0, 5}
        assert np.array_equal(frame > 0, labels == 5)


def test_frames_whose_labels_are_not_linked_are_used_one_by_one() -> None:
    stack = Stack()
    PairSource([stack.pair(linked=False)]).draw(0, np.random.default_rng(0), length=5, size=32)
    assert len(set(stack.reads)) == 1


@pytest.mark.parametrize(
    ("budget", "again"), [(10**9, False), (1, True)], ids=["room for all", "room for none"]
)
def test_planes_are_read_once_if_the_cache_is_large_enough(budget: int, again: bool) -> None:
    stack = Stack()
    source = PairSource([stack.pair()], cache_bytes=budget)
    for seed in range(20):
        source.draw(0, np.random.default_rng(seed), length=3, size=32)
    assert (len(stack.reads) > len(set(stack.reads))) == again


def test_pieces_of_a_stack_are_groups_of_their_own() -> None:
    pieces = Stack(10).pair([0, 1, 2, 5, 6, 9]).cut_into_pieces(2)
    assert [piece.annotated for piece in pieces] == [(0, 1, 2), (5, 6, 9)]
    assert len({piece.group for piece in pieces}) == 2


def test_a_mixture_draws_from_its_sources_by_weight() -> None:
    one, two = PairSource([Stack().pair(), Stack().pair()]), SyntheticSource(["nuclei"], repeats=3)
    mixture = SourceMixture((one, two), (3.0, 1.0))
    assert isinstance(mixture, ClipSource)
    assert len(mixture) == 5
    assert np.allclose(mixture.probabilities(), [0.375, 0.375, 1 / 12, 1 / 12, 1 / 12])
    names = [
        mixture.draw(item, np.random.default_rng(0), length=2, size=32).name for item in range(5)
    ]
    assert [name.startswith("painted") for name in names] == [False, False, True, True, True]
    assert len(mixture.groups()) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PairSource([]), "no annotated images were given"),
        (lambda: Stack().pair([]), "no frame has an object"),
        (lambda: SourceMixture((SyntheticSource(),), (1.0, 2.0)), "2 weights for 1 sources"),
        (lambda: SyntheticSource(["galaxies"]), "galaxies"),
        (
            lambda: Clip(np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 5), np.int32), "c"),
            "expected the same",
        ),
    ],
    ids=["nothing", "no object", "weights", "unknown scene", "shapes"],
)
def test_wrong_sources_are_refused(make: object, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        make()  # type: ignore[operator]
