"""The embedded model and its accuracy on real nuclei."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import distance_transform_edt

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.prompt import FramePrompts
from napari_sam2.core.result import Memory, MemoryReference, Query, Segment
from napari_sam2.core.stack import Frame
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.testing.contracts import ModelContract
from napari_sam2.train.data.simulated_prompts import choose_correction


@pytest.fixture(scope="module")
def nano() -> Sam2Predictor:
    model = load_model("nano", device="cpu")
    assert isinstance(model, Sam2Predictor)
    return model


@pytest.fixture(scope="module")
def nuclei(shared_folder: Path) -> tuple[list[Frame], np.ndarray]:
    """Six frames of nuclei of about 20 pixels, and their labels, by frame."""
    folder = shared_folder / "data" / "timelapse_small_laptrack" / "napari_interactive_fix_data"
    planes = tifffile.imread(folder / "example_images.tif")
    contrast = Contrast.of(list(planes))
    return [
        Frame(index, contrast.apply(plane)) for index, plane in enumerate(planes)
    ], tifffile.imread(folder / "example_label.tif")


def _paste(segment: Segment, truth: np.ndarray) -> np.ndarray:
    return (
        segment.window.paste(segment.logits, slice(0, truth.shape[0]), slice(0, truth.shape[1])) > 0
    )


def _compute_iou(segment: Segment, truth: np.ndarray) -> float:
    mask = _paste(segment, truth)
    return float((mask & truth).sum() / (mask | truth).sum())


def _list_objects(labels: np.ndarray, *, min_area_px: int = 100) -> list[np.ndarray]:
    return [
        labels == label
        for label in np.unique(labels[labels > 0])
        if (labels == label).sum() >= min_area_px
    ]


def _make_click(mask: np.ndarray) -> FramePrompts:
    inside = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(inside.argmax(), mask.shape)
    return FramePrompts(points=((float(y), float(x)),), positive=(True,))


def _make_box(mask: np.ndarray) -> FramePrompts:
    y, x = np.nonzero(mask)
    return FramePrompts(box=(y.min() - 0.5, x.min() - 0.5, y.max() + 0.5, x.max() + 0.5))


def _find_neighbours(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    masks = _list_objects(labels)
    centres = [np.argwhere(mask).mean(axis=0) for mask in masks]
    apart = {
        (i, j): np.linalg.norm(centres[i] - centres[j]) for i in range(len(masks)) for j in range(i)
    }
    i, j = min(apart, key=lambda pair: float(apart[pair]))
    return masks[i], masks[j]


def test_its_card_describes_it(nano: Sam2Predictor) -> None:
    assert (
        nano.card.name == "nano" and nano.card.keep_aspect and nano.card.licence == "BSD-3-Clause"
    )
    assert nano.card.object_crops and any(
        "CC0" in licence for licence in nano.card.training["data"].values()
    )


@pytest.mark.parametrize(
    ("make_prompts", "min_iou"),
    [(_make_click, 0.75), (_make_box, 0.75), (lambda mask: FramePrompts(mask=mask), 0.9)],
    ids=["click", "box", "mask"],
)
@pytest.mark.parametrize("times", [1, 3])
def test_nuclei_of_any_size_are_segmented(
    nano: Sam2Predictor,
    nuclei: tuple[list[Frame], np.ndarray],
    make_prompts: Callable[[np.ndarray], FramePrompts],
    min_iou: float,
    times: int,
) -> None:
    """In their own size, and three times as large."""
    frames, labels = nuclei
    large = labels[0].repeat(times, axis=0).repeat(times, axis=1)
    masks = _list_objects(large, min_area_px=100 * times**2)
    pixels = np.ascontiguousarray(frames[0].pixels.repeat(times, axis=0).repeat(times, axis=1))
    (embedding,) = nano.embed([(Frame(0, pixels), nano.card.make_frame_window(pixels.shape))])
    answers = nano.segment(
        embedding, [Query(index + 1, make_prompts(mask)) for index, mask in enumerate(masks)]
    )
    assert len(masks) > 20
    assert (
        np.mean([_compute_iou(answer, mask) for answer, mask in zip(answers, masks, strict=True)])
        > min_iou
    )


def test_nuclei_that_moved_a_little_are_propagated(
    nano: Sam2Predictor, nuclei: tuple[list[Frame], np.ndarray]
) -> None:
    frames, labels = nuclei
    masks = _list_objects(labels[0])
    moved = [Frame(1, np.roll(frames[0].pixels, (1, 2), axis=(0, 1)))]
    first, second = nano.embed(
        [(frame, nano.card.make_frame_window(frame.shape)) for frame in (frames[0], *moved)]
    )
    answers = nano.segment(
        first, [Query(index + 1, _make_click(mask)) for index, mask in enumerate(masks)]
    )
    memories = [
        Memory(0, True, answer.pointer, features=features)
        for answer, features in zip(answers, nano.encode_memory(first, answers), strict=True)
    ]
    again = nano.segment(
        second,
        [
            Query(index + 1, memory_references=(MemoryReference(memory, 0, 1),))
            for index, memory in enumerate(memories)
        ],
    )
    truths = [np.roll(mask, (1, 2), axis=(0, 1)) for mask in masks]
    assert (
        np.mean([_compute_iou(answer, truth) for answer, truth in zip(again, truths, strict=True)])
        > 0.75
    )


def test_clicks_on_errors_improve_the_mask(
    nano: Sam2Predictor, nuclei: tuple[list[Frame], np.ndarray]
) -> None:
    """Two corrections of each nucleus, each on the largest error of the previous mask."""
    frames, labels = nuclei
    (embedding,) = nano.embed([(frames[0], nano.card.make_frame_window(frames[0].shape))])
    masks = _list_objects(labels[0])
    prompts = [_make_click(mask) for mask in masks]
    answers = nano.segment(
        embedding, [Query(index + 1, each) for index, each in enumerate(prompts)]
    )
    before = np.mean(
        [_compute_iou(answer, mask) for answer, mask in zip(answers, masks, strict=True)]
    )
    for _ in range(2):
        for index, (answer, mask) in enumerate(zip(answers, masks, strict=True)):
            point, positive = choose_correction(_paste(answer, mask), mask)
            prompts[index] = replace(
                prompts[index],
                points=(*prompts[index].points, point),
                positive=(*prompts[index].positive, positive),
            )
        queries = [
            Query(answer.track, each, logits=answer.logits, window=answer.window)
            for answer, each in zip(answers, prompts, strict=True)
        ]
        answers = nano.segment(embedding, queries)
    assert (
        np.mean([_compute_iou(answer, mask) for answer, mask in zip(answers, masks, strict=True)])
        > before
    )


def test_a_negative_click_removes_a_part(
    nano: Sam2Predictor, nuclei: tuple[list[Frame], np.ndarray]
) -> None:
    """Of a box around two nuclei, of which one is unwanted."""
    frames, labels = nuclei
    one, other = _find_neighbours(labels[0])
    (embedding,) = nano.embed([(frames[0], nano.card.make_frame_window(frames[0].shape))])
    both = _make_box(one | other)
    without = replace(both, points=_make_click(other).points, positive=(False,))
    answers = nano.segment(embedding, [Query(1, both), Query(2, without)])
    inside = [
        float((answer.window.paste(answer.logits, slice(0, 200), slice(0, 200)) > 0)[other].mean())
        for answer in answers
    ]
    assert inside[1] < inside[0]


class TestContract(ModelContract):
    def make_model(self) -> Sam2Predictor:
        model = load_model("nano", device="cpu")
        assert isinstance(model, Sam2Predictor)
        return model
