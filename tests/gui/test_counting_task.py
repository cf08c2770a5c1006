"""Counting without a window: seeds are detected, edited, linked and propagated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from napari_sam2.api.count import CountingOptions, count_video
from napari_sam2.core.prompt import MaskPrompt, PointPrompt
from napari_sam2.gui.app.counting_task import DetectionRequest
from napari_sam2.gui.app.view import Stage
from napari_sam2.testing.scenes import (
    Scene,
    make_appearing_scene,
    make_dividing_scene,
    make_drifting_scene,
    make_ellipsoid_scene,
)
from napari_sam2.testing.toy import ToyModel
from napari_sam2.tracking.seeds import EditedSeed
from tests.gui.windows import MockWindow


def read_seeds(window: MockWindow) -> list[EditedSeed]:
    """The seeds as they were detected."""
    return [EditedSeed(seed.number, seed.prompt.frame, seed.yx) for seed in window.view.seeds]


def count_in_window(
    window: MockWindow, chosen: DetectionRequest | None = None, edited: Any = read_seeds
) -> np.ndarray:
    """Detect, edit and count; returns the labels that are shown."""
    window.controller.counting.detect_seeds(
        chosen or DetectionRequest(CountingOptions(seeds="classical"))
    )
    window.controller.counting.count_objects(edited(window))
    assert not window.view.errors
    return window.labels


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label stacks differ in their ids alone."""
    pairs = {(int(a), int(b)) for a, b in zip(one.ravel(), other.ravel(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def make_exact_request(scene: Scene, *, volume: bool) -> DetectionRequest:
    """Detect the true labels, with ids of a volume or with ids that change on each frame."""
    turned = [
        np.where(plane, (plane + 7 * frame) % 97 + 1, 0)
        for frame, plane in enumerate(scene.labels.astype(int))
    ]
    return DetectionRequest(
        CountingOptions(seeds="labels"), labels=scene.labels if volume else np.stack(turned)
    )


CASES = [
    (make_drifting_scene(), "auto", "seeds"),
    (make_drifting_scene(), "classical", "seeds"),
    (make_drifting_scene(), "auto", "model"),
    (make_drifting_scene(frames=4), "blobs", "seeds"),
    (make_drifting_scene(frames=3), "grid", "seeds"),
    (make_appearing_scene(), "classical", "seeds"),
    (make_appearing_scene(), "auto", "model"),
    (make_ellipsoid_scene(), "classical", "seeds"),
]


@pytest.mark.parametrize(
    ("scene", "seeds", "association"),
    CASES,
    ids=[f"{scene} {seeds} {association}" for scene, seeds, association in CASES],
)
def test_counting_in_the_window_equals_the_command_line(
    scene: Scene, seeds: str, association: Any
) -> None:
    counting = CountingOptions(seeds=seeds, association=association)
    found = count_video(scene.video, ToyModel(), counting)
    with found.session:
        expected = np.stack(
            [found.session.compute_label_plane(frame) for frame in range(len(scene.video))]
        )
    window = MockWindow(scene)
    labels = count_in_window(window, DetectionRequest(counting))
    assert labels.any()
    assert same_objects(labels, expected)
    np.testing.assert_array_equal(labels, window.session_labels)


def test_counting_without_seeds_adds_no_objects() -> None:
    window = MockWindow(make_drifting_scene())
    assert not count_in_window(window, edited=lambda _: []).any()
    assert window.view.snapshot.stage is Stage.READY


def test_daughters_have_their_parent() -> None:
    window = MockWindow(make_dividing_scene())
    count_in_window(window)
    tracks = window.controller.state.log.tracks
    assert [each.parent for each in tracks if each.parent] == [1, 1]


BOTH = pytest.mark.parametrize("volume", [False, True], ids=["linked", "a volume"])


@BOTH
def test_a_seed_deleted_on_all_frames_is_no_object(volume: bool) -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)

    def without_the_second(window: MockWindow) -> list[EditedSeed]:
        return [
            each
            for each in read_seeds(window)
            if not scene.mask(2, each.frame)[round(each.yx[0]), round(each.yx[1])]
        ]

    labels = count_in_window(window, make_exact_request(scene, volume=volume), without_the_second)
    assert same_objects(labels, np.where(scene.labels == 2, 0, scene.labels))


@BOTH
def test_a_seed_deleted_on_one_frame_is_propagated_over_it(volume: bool) -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)
    labels = count_in_window(
        window,
        make_exact_request(scene, volume=volume),
        lambda window: [each for each in read_seeds(window) if each.frame != 4],
    )
    assert same_objects(labels, scene.labels)


@BOTH
def test_an_added_seed_is_an_object_on_few_frames_too(volume: bool) -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)

    def the_second_by_hand(window: MockWindow) -> list[EditedSeed]:
        others = [
            each
            for each in read_seeds(window)
            if not scene.mask(2, each.frame)[round(each.yx[0]), round(each.yx[1])]
        ]
        return [*others, EditedSeed(0, 5, scene.make_click(2, 5).yx[0])]

    assert same_objects(
        count_in_window(window, make_exact_request(scene, volume=volume), the_second_by_hand),
        scene.labels,
    )


def test_a_moved_seed_is_a_click_at_its_new_position() -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)
    aside = [EditedSeed(1, 0, scene.make_click(3, 0).yx[0])]
    count_in_window(window, edited=lambda window: aside)
    (prompt, *_) = window.controller.state.log.prompts
    assert isinstance(prompt, PointPrompt)
    assert prompt.yx == (pytest.approx(scene.make_click(3, 0).yx[0]),)


@BOTH
def test_objects_prompted_before_keep_their_ids_and_pixels(
    volume: bool,
) -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)
    window.controller.describe(window.controller.state.start_draft(), name="mine")
    window.click(2)
    window.controller.add_mask(5, scene.mask(2, 5) & (np.arange(64) % 2 == 0))
    entries = window.controller.state.log.entries
    labels = count_in_window(window, make_exact_request(scene, volume=volume))
    assert window.controller.state.log.entries[: len(entries)] == entries
    assert window.controller.state.get_track(1).name == "mine"
    others = [frame for frame in range(10) if frame != 5]
    assert same_objects(labels[others], scene.labels[others])
    np.testing.assert_array_equal(labels[others] == 1, scene.labels[others] == 2)
    np.testing.assert_array_equal(labels[5] == 1, scene.mask(2, 5) & (np.arange(64) % 2 == 0))


def test_counting_again_finds_nothing_new() -> None:
    window = MockWindow(make_drifting_scene())
    labels = count_in_window(window)
    entries = window.controller.state.log.entries
    np.testing.assert_array_equal(count_in_window(window), labels)
    assert window.view.seeds == ()
    assert window.controller.state.log.entries == entries


def test_one_undo_removes_a_count_and_redo_restores_it() -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)
    labels = count_in_window(
        window,
        make_exact_request(scene, volume=False),
        lambda window: [each for each in read_seeds(window) if each.frame != 4],
    )
    window.controller.undo()
    assert not window.labels.any()
    window.controller.redo()
    np.testing.assert_array_equal(window.labels, labels)


@pytest.mark.parametrize("pieces", [2, 9, 13, 17, 22, 26, 40])
def test_a_stopped_count_adds_all_objects_or_none(pieces: int) -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene, manual=True)
    window.worker.run_pending()
    window.controller.counting.detect_seeds(make_exact_request(scene, volume=False))
    window.worker.run_pending()
    window.controller.counting.count_objects(
        [each for each in read_seeds(window) if each.frame != 4]
    )
    window.worker.run_pending(pieces)
    window.controller.propagation.cancel()
    window.worker.run_pending()
    np.testing.assert_array_equal(window.labels, window.session_labels)
    assert len(window.controller.state.log.track_ids) in (0, 3)
    window.controller.counting.detect_seeds(make_exact_request(scene, volume=False))
    window.worker.run_pending()
    window.controller.counting.count_objects(read_seeds(window))
    window.worker.run_pending()
    assert same_objects(window.labels, scene.labels)


def test_detection_by_example_finds_similar_objects() -> None:
    scene = make_drifting_scene(count=4, frames=4)
    window = MockWindow(scene)
    window.controller.add_mask(0, scene.mask(1, 0))
    labels = count_in_window(window, DetectionRequest(CountingOptions(seeds="examples")))
    assert (labels[:, scene.labels[0] == 1] == 1).any(axis=1).all()
    assert len(window.controller.state.log.track_ids) == 4


def test_detection_by_example_without_examples_is_an_error() -> None:
    window = MockWindow(make_drifting_scene())
    window.controller.counting.detect_seeds(DetectionRequest(CountingOptions(seeds="examples")))
    assert window.view.errors == [
        "the detector 'examples' has no examples: click some objects first"
    ]


def test_labels_of_another_tool() -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)
    assert same_objects(
        count_in_window(
            window, DetectionRequest(CountingOptions(seeds="labels"), labels=scene.labels)
        ),
        scene.labels,
    )


def test_counting_before_detection_is_an_error() -> None:
    window = MockWindow(make_drifting_scene())
    window.controller.counting.count_objects([])
    assert "detect seeds first" in window.view.errors[0]


def test_counted_objects_can_be_corrected() -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)
    count_in_window(window)
    window.controller.select(1)
    window.controller.add_mask(3, np.roll(window.labels[3] == 1, 2, axis=0))
    assert isinstance(window.controller.state.log.prompts[-1], MaskPrompt)
    np.testing.assert_array_equal(
        window.labels[3] == 1, window.controller.state.log.prompts[-1].mask
    )


def test_saved_tables_are_those_of_the_command_line(tmp_path: Path) -> None:
    from napari_sam2.api.count import count

    scene = make_drifting_scene(frames=3)
    count(scene.stack, out=tmp_path / "command", model=ToyModel(), seeds="classical")
    window = MockWindow(scene)
    count_in_window(window)
    window.controller.save(tmp_path / "window")
    one, other = (
        {each.name for each in (tmp_path / name).iterdir()} for name in ("command", "window")
    )
    assert one == other
    for name in ("objects.csv", "tracks.csv", "counts.csv"):
        pd.testing.assert_frame_equal(
            pd.read_csv(tmp_path / "command" / name), pd.read_csv(tmp_path / "window" / name)
        )
