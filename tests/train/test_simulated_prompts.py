"""Simulated prompts: their positions and signs."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from napari_sam2.core.errors import LabelsError, PromptError
from napari_sam2.train.data.simulated_prompts import (
    PromptSampling,
    choose_correction,
    compute_box,
    find_middle,
    sample_first_prompt,
)


def rectangle(rows: slice, columns: slice, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


MASK = rectangle(slice(10, 31), slice(20, 31))
CRESCENT = rectangle(slice(5, 35), slice(5, 45)) & ~rectangle(slice(8, 32), slice(8, 45))


@pytest.mark.parametrize(
    "mask",
    [MASK, CRESCENT, rectangle(slice(3, 4), slice(7, 8)), np.ones((40, 50), bool)],
    ids=["box", "crescent", "dot", "all"],
)
@pytest.mark.parametrize("deep", [0.0, 1.0])
def test_a_first_click_lies_on_the_object(mask: np.ndarray, deep: float) -> None:
    for seed in range(30):
        prompts = sample_first_prompt(
            mask, np.random.default_rng(seed), PromptSampling(point=1, box=0, mask=0, deep=deep)
        )
        ((y, x),) = prompts.points
        assert mask[int(y), int(x)]
        assert prompts.positive == (True,)


def test_deep_clicks_are_deeper_than_random_clicks() -> None:
    depth = distance_transform_edt(MASK)
    depths = {}
    for deep in (0.0, 1.0):
        points = [
            sample_first_prompt(
                MASK, np.random.default_rng(seed), PromptSampling(point=1, box=0, mask=0, deep=deep)
            ).points[0]
            for seed in range(200)
        ]
        depths[deep] = [depth[int(y), int(x)] for y, x in points]
    assert min(depths[1.0]) >= 0.6 * depth.max()
    assert min(depths[0.0]) == 1


def test_the_middle_is_the_deepest_pixel() -> None:
    y, x = find_middle(MASK)
    assert (y, x) == (20, 25)


def test_a_box_has_the_outer_edges_of_the_object() -> None:
    assert compute_box(MASK) == (9.5, 19.5, 30.5, 30.5)
    assert compute_box(rectangle(slice(3, 4), slice(7, 8))) == (2.5, 6.5, 3.5, 7.5)


@pytest.mark.parametrize(
    "mask",
    [MASK, rectangle(slice(3, 4), slice(7, 8)), np.ones((40, 50), bool)],
    ids=["box", "dot", "all"],
)
def test_a_jittered_box_is_valid_and_on_the_frame(
    mask: np.ndarray,
) -> None:
    kinds = PromptSampling(point=0, box=1, mask=0, jitter=0.3)
    boxes = np.array(
        [sample_first_prompt(mask, np.random.default_rng(seed), kinds).box for seed in range(200)]
    )
    assert (boxes[:, 2:] - boxes[:, :2] >= 1 - 1e-9).all()
    assert boxes.min() >= -0.5
    assert (boxes[:, 2:] <= np.array(mask.shape) - 0.5).all()
    assert boxes.std(axis=0).max() > 0.1


def test_without_jitter_the_box_is_the_true_one() -> None:
    assert sample_first_prompt(
        MASK, np.random.default_rng(0), PromptSampling(point=0, box=1, mask=0, jitter=0)
    ).box == compute_box(MASK)


def test_kinds_of_prompts_have_their_frequencies() -> None:
    prompts = [
        sample_first_prompt(
            MASK, np.random.default_rng(seed), PromptSampling(point=0.5, box=0.25, mask=0.25)
        )
        for seed in range(400)
    ]
    shares = (
        np.array(
            [
                sum(bool(each.points) for each in prompts),
                sum(each.box is not None for each in prompts),
                sum(each.mask is not None for each in prompts),
            ]
        )
        / 400
    )
    assert np.allclose(shares, [0.5, 0.25, 0.25], atol=0.08)
    assert all(np.array_equal(each.mask, MASK) for each in prompts if each.mask is not None)


MORE = rectangle(slice(10, 31), slice(20, 46))
LESS = rectangle(slice(10, 31), slice(20, 24))


@pytest.mark.parametrize(
    ("prediction", "positive", "expected"),
    [
        (MORE, False, (20, 38)),
        (LESS, True, (20, 27)),
        (np.zeros_like(MASK), True, (20, 25)),
        (MORE & ~LESS, False, (20, 38)),
        (MASK, True, (20, 25)),
    ],
    ids=["too much", "too little", "nothing", "more too much than too little", "all right"],
)
def test_at_validation_the_correction_is_in_the_middle_of_the_larger_error(
    prediction: np.ndarray, positive: bool, expected: tuple[int, int]
) -> None:
    (y, x), sign = choose_correction(prediction, MASK)
    assert sign is positive
    assert abs(x - expected[1]) <= 1
    assert abs(y - expected[0]) <= 1
    assert choose_correction(prediction, MASK) == ((y, x), sign)


@pytest.mark.parametrize(
    "prediction",
    [MORE, LESS, np.zeros_like(MASK), ~MASK],
    ids=["more", "less", "nothing", "the opposite"],
)
def test_at_training_the_correction_is_any_wrong_pixel(prediction: np.ndarray) -> None:
    wrong = prediction != MASK
    places = set()
    for seed in range(200):
        (y, x), positive = choose_correction(prediction, MASK, np.random.default_rng(seed))
        assert wrong[int(y), int(x)]
        assert positive == MASK[int(y), int(x)]
        places.add((y, x))
    assert len(places) > 60


def test_without_errors_training_clicks_on_the_background() -> None:
    (y, x), positive = choose_correction(MASK, MASK, np.random.default_rng(0))
    assert not MASK[int(y), int(x)]
    assert not positive


def test_a_mask_of_an_absent_object_gets_a_negative_click() -> None:
    nothing = np.zeros_like(MASK)
    assert choose_correction(MASK, nothing)[1] is False
    assert choose_correction(MASK, nothing, np.random.default_rng(0))[1] is False


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (
            lambda: sample_first_prompt(np.zeros((4, 4), bool), np.random.default_rng(0)),
            LabelsError,
        ),
        (lambda: PromptSampling(point=-1), PromptError),
        (lambda: PromptSampling(point=0, box=0, mask=0), PromptError),
        (lambda: PromptSampling(deep=1.5), PromptError),
    ],
    ids=["empty mask", "negative share", "no share", "deep"],
)
def test_wrong_input_is_refused(call: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        call()  # type: ignore[operator]
