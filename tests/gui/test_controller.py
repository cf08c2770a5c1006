"""The controller with a mock view: what a person does, in any order, and what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from napari_sam2.api.project import Project
from napari_sam2.core.errors import FileError
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import FrameDetections
from napari_sam2.core.stack import Video
from napari_sam2.core.track import Presence
from napari_sam2.gui.app.controller import Controller
from napari_sam2.gui.app.session_update import PropagationRequest
from napari_sam2.gui.app.session_worker import FRAMES_PER_PIECE
from napari_sam2.gui.app.view import ImageSelection, InlineWorker, Stage
from napari_sam2.models.load import load_model, reconfigure
from napari_sam2.testing.scenes import (
    make_blank_scene,
    make_drifting_scene,
    make_jumping_scene,
    make_touching_scene,
    make_two_channel_scene,
)
from napari_sam2.testing.toy import ToyModel
from tests.gui.windows import MockView, MockWindow
from tests.models import networks
from tests.propagation.test_evidence import FakeEvidence


def test_a_click_shows_its_mask_at_once_and_propagating_fills_the_stack() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    np.testing.assert_array_equal(window.labels[0], window.scene.labels[0])
    assert not window.labels[1:].any()
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(window.labels, window.scene.labels)
    assert window.view.snapshot.stage is Stage.READY
    assert window.view.snapshot.message == "Done: 3 objects."
    assert [(row.track, row.frame_count, row.state) for row in window.view.snapshot.objects] == [
        (track, 10, "tracked") for track in (1, 2, 3)
    ]


def test_results_come_frame_by_frame() -> None:
    window = MockWindow(make_drifting_scene(), manual=True)
    window.click_all()
    window.controller.propagation.propagate()
    window.worker.run_pending(6)  # open, three clicks, start, one step
    assert window.view.snapshot.stage is Stage.RUNNING
    assert (window.view.snapshot.done, window.view.snapshot.total) == (1, 9)
    np.testing.assert_array_equal(window.labels[:2], window.scene.labels[:2])
    assert not window.labels[2:].any()


def test_fast_clicks_on_new_objects_stay_separate_objects() -> None:
    window = MockWindow(make_drifting_scene(), manual=True)
    window.click_all()
    window.worker.run_pending()
    assert [row.track for row in window.view.snapshot.objects] == [1, 2, 3]


@pytest.mark.parametrize(
    ("chosen", "tracks", "frames"),
    [
        (PropagationRequest(), {1, 2, 3}, range(10)),
        (PropagationRequest(direction="forward"), {1, 2, 3}, range(4, 10)),
        (PropagationRequest(direction="backward"), {1, 2, 3}, range(5)),
        (PropagationRequest(frames=(2, 7)), {1, 2, 3}, range(2, 7)),
        (PropagationRequest(tracks=(2,)), {2}, range(10)),
    ],
    ids=["everything", "forward", "backward", "a range", "one object"],
)
def test_only_the_requested_frames_and_tracks_are_propagated(
    chosen: PropagationRequest, tracks: set[int], frames: range
) -> None:
    window = MockWindow(make_drifting_scene())
    for track in window.scene.tracks:
        window.controller.start_object()
        window.click(track, 4)
    window.controller.propagation.propagate(chosen)
    for frame in range(10):
        expected = tracks if frame in frames else set()
        expected = expected | {1, 2, 3} if frame == 4 else expected
        assert set(np.unique(window.labels[frame])) - {0} == expected, frame


def test_pause_holds_and_propagating_again_resumes() -> None:
    window = MockWindow(make_drifting_scene(), manual=True)
    window.click_all()
    window.controller.propagation.propagate()
    window.worker.run_pending(7)
    window.controller.propagation.pause()
    window.worker.run_pending()
    assert window.view.snapshot.stage is Stage.PAUSED
    assert "Paused" in window.view.snapshot.message
    assert not window.labels[4:].any()
    window.controller.propagation.propagate()
    window.worker.run_pending()
    np.testing.assert_array_equal(window.labels, window.scene.labels)
    assert window.view.snapshot.stage is Stage.READY


def test_frames_done_before_a_cancel_are_kept_and_not_recomputed() -> None:
    model = ToyModel()
    window = MockWindow(make_drifting_scene(), manual=True, load=lambda _: model)
    window.click_all()
    window.controller.propagation.propagate()
    window.worker.run_pending(9)
    window.controller.propagation.cancel()
    window.worker.run_pending()
    done = int(window.labels.any(axis=(1, 2)).sum())
    assert 1 < done < 10
    assert window.view.snapshot.unfinished
    assert window.view.snapshot.message.startswith("Stopped.")
    model.calls.clear()
    window.controller.propagation.propagate()
    window.worker.run_pending()
    np.testing.assert_array_equal(window.labels, window.scene.labels)
    assert min(model.get_segmented_frames(1)) == done


def test_a_click_during_propagation_stops_it_and_is_segmented() -> None:
    scene = make_jumping_scene()
    window = MockWindow(scene, manual=True)
    window.click_all()
    window.controller.propagation.propagate()
    window.worker.run_pending(8)
    window.controller.select(1)
    window.click(1, 5)
    window.worker.run_pending()
    assert window.view.snapshot.stage is Stage.READY
    np.testing.assert_array_equal(window.labels[5] == 1, scene.mask(1, 5))
    window.controller.propagation.propagate()
    window.worker.run_pending()
    np.testing.assert_array_equal(window.labels, scene.labels)


def test_a_click_before_a_run_has_begun_is_not_lost() -> None:
    window = MockWindow(make_jumping_scene(), manual=True)
    window.click_all()
    window.worker.run_pending(3)
    window.controller.select(1)
    window.controller.propagation.propagate()
    window.click(1, 5)
    window.worker.run_pending()
    window.controller.propagation.propagate()
    window.worker.run_pending()
    np.testing.assert_array_equal(window.labels, window.scene.labels)


def test_a_correction_recomputes_the_object_and_undo_restores_it() -> None:
    window = MockWindow(make_jumping_scene())
    window.click_all()
    window.controller.propagation.propagate()
    wrong = window.labels
    assert not np.array_equal(wrong, window.scene.labels)
    window.controller.select(1)
    window.click(1, 5)
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(window.labels, window.scene.labels)
    window.controller.undo()
    window.controller.undo()
    np.testing.assert_array_equal(window.labels, wrong)
    np.testing.assert_array_equal(window.session_labels, wrong)


Action = Callable[[MockWindow], None]
ACTIONS: dict[str, Action] = {
    "click": lambda window: window.click(1, 0, positive=True),
    "box": lambda window: window.controller.add_box(0, (2, 2, 20, 30)),
    "mask": lambda window: window.controller.add_mask(0, window.scene.mask(2, 1), 2),
    "propagate": lambda window: window.controller.propagation.propagate(
        PropagationRequest(frames=(0, 3))
    ),
    "delete": lambda window: window.controller.remove([2]),
    "merge": lambda window: window.controller.merge([1, 3]),
    "lock": lambda window: window.controller.lock([1, 2]),
    "accept": lambda window: window.controller.accept(0),
    "edit": lambda window: window.controller.edit_prompts(0, [BoxPrompt(0, 3, (2, 2, 20, 30))]),
    "split by a click": lambda window: window.controller.split(
        1, 0, window.scene.make_click(1, 0).yx[0]
    ),
    "bring": lambda window: window.controller.add_prompts([PointPrompt(2, 1, [(5, 5)], [True])]),
}


@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_every_action_can_be_undone_and_redone(action: Action) -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    before, statuses = window.labels, dict(window.view.statuses)
    action(window)
    assert window.view.errors == []
    after, known = window.labels, dict(window.view.statuses)
    assert not np.array_equal(after, before) or known != statuses or window.view.prompts.points
    window.controller.undo()
    np.testing.assert_array_equal(window.labels, before)
    assert window.view.statuses == statuses
    window.controller.redo()
    np.testing.assert_array_equal(window.labels, after)
    assert window.view.statuses == known
    np.testing.assert_array_equal(window.session_labels, after)


def test_undo_ends_at_the_blank_image() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.propagation.propagate()
    for _ in range(6):
        window.controller.undo()
    assert not window.labels.any()
    assert not window.view.snapshot.undoable
    for _ in range(6):
        window.controller.redo()
    np.testing.assert_array_equal(window.labels, window.scene.labels)
    assert not window.view.snapshot.redoable


def test_a_new_action_clears_redo() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.undo()
    assert window.view.snapshot.redoable
    window.controller.add_box(0, (2, 2, 20, 30))
    assert not window.view.snapshot.redoable


def test_other_masks_are_cycled_and_are_part_of_the_click() -> None:
    window = MockWindow(make_touching_scene(same_level=False))
    window.click(1, 4)
    own = window.labels
    assert window.view.snapshot.mask_alternatives == (1, 2)
    window.controller.choose_next_mask()
    assert window.view.snapshot.mask_alternatives == (2, 2)
    assert window.labels[4].astype(bool).sum() > own[4].astype(bool).sum()
    window.controller.choose_next_mask()
    np.testing.assert_array_equal(window.labels, own)
    window.controller.choose_next_mask()
    window.controller.undo()
    assert not window.labels.any()
    window.controller.choose_next_mask()
    assert "no other mask" in window.view.messages[-1]


def test_a_locked_frame_is_not_overwritten_and_can_be_unlocked() -> None:
    window = MockWindow(make_jumping_scene())
    window.click_all()
    window.controller.propagation.propagate()
    window.controller.select(1)
    window.controller.accept(7)
    locked = window.labels[7] == 1
    assert window.view.statuses[1, 7].presence is Presence.LOCKED
    window.click(1, 5)
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(window.labels[7] == 1, locked)
    window.controller.accept(7)
    assert window.view.statuses[1, 7].presence is not Presence.LOCKED


def test_a_locked_object_has_the_state_locked() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.propagation.propagate()
    window.controller.lock([2])
    assert [row.state for row in window.view.snapshot.objects] == ["tracked", "locked", "tracked"]
    window.controller.lock([2], locked=False)
    assert [row.state for row in window.view.snapshot.objects] == ["tracked"] * 3


def test_merged_objects_are_one_on_all_their_frames() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.propagation.propagate()
    window.controller.merge([3, 1])
    expected = np.where(window.scene.labels == 3, 1, window.scene.labels)
    np.testing.assert_array_equal(window.labels, expected)
    assert [row.track for row in window.view.snapshot.objects] == [1, 2]
    assert window.view.snapshot.current == 1


def test_one_object_is_no_merge() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.merge([2])
    assert "two or more" in window.view.errors[-1]


def test_the_pieces_of_an_object_become_objects() -> None:
    window = MockWindow(make_drifting_scene())
    window.controller.add_mask(0, window.scene.labels[0] > 0)
    window.controller.split(1, 0)
    assert [row.track for row in window.view.snapshot.objects] == [1, 2, 3]
    pieces = window.labels[0]
    for track in (1, 2, 3):
        assert len(np.unique(window.scene.labels[0][pieces == track])) == 1
    window.controller.propagation.propagate()
    assert (window.labels > 0).sum() == (window.scene.labels > 0).sum()


def test_an_object_in_one_piece_is_split_by_a_click() -> None:
    window = MockWindow(make_drifting_scene())
    window.click(1)
    window.controller.split(1, 0)
    assert "one piece" in window.view.errors[-1]
    both = window.scene.labels[0] % 3 > 0
    window.controller.add_mask(0, both)
    window.controller.split(1, 0, window.scene.make_click(2, 0).yx[0])
    assert len(window.view.snapshot.objects) == 2


def test_names_and_categories_stay_with_their_objects() -> None:
    window = MockWindow(make_drifting_scene())
    window.controller.start_object()
    window.controller.describe(1, name="first", category="nucleus")
    window.click(1)
    window.controller.start_object()
    window.click(2)
    window.controller.describe(2, name="second")
    assert [(row.name, row.category) for row in window.view.snapshot.objects] == [
        ("first", "nucleus"),
        ("second", "nucleus"),
    ]
    assert [(track.name, track.category) for track in window.controller.state.log.tracks] == [
        ("first", "nucleus"),
        ("second", "nucleus"),
    ]


def test_a_deleted_id_is_not_used_again() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.remove([3, 2])
    assert window.view.snapshot.current == 1
    window.controller.start_object()
    window.click(2)
    assert [row.track for row in window.view.snapshot.objects] == [1, 4]


def test_an_undone_object_keeps_its_id() -> None:
    window = MockWindow(make_drifting_scene())
    window.click(1)
    window.controller.undo()
    assert [(row.track, row.state) for row in window.view.snapshot.objects] == [(1, "new")]
    window.click(1)
    assert [row.track for row in window.view.snapshot.objects] == [1]


def test_imported_labels_keep_their_ids_unless_used() -> None:
    window = MockWindow(make_drifting_scene())
    window.click(1)
    count = window.controller.add_prompts(
        [MaskPrompt(3, label, window.scene.mask(label, 3)) for label in (1, 2, 3)],
        category="nucleus",
    )
    assert count == 3
    assert sorted(row.track for row in window.view.snapshot.objects) == [1, 2, 3, 4]
    assert window.view.snapshot.objects[1].category == "nucleus"
    assert set(np.unique(window.labels[3])) == {0, 2, 3, 4}


def test_a_moved_click_counts_at_its_new_position() -> None:
    window = MockWindow(make_drifting_scene())
    window.click(1)
    window.controller.edit_prompts(0, [window.scene.make_click(2, 0)])
    window.controller.edit_prompts(0, [PointPrompt(0, 1, window.scene.make_click(2, 0).yx, [True])])
    np.testing.assert_array_equal(window.labels[0] == 1, window.scene.mask(2, 0))
    assert window.view.prompts.points[0].yx == window.scene.make_click(2, 0).yx


def test_moving_a_propagated_click_segments_its_frame_again() -> None:
    scene = make_drifting_scene()
    window = MockWindow(scene)
    window.click(1)
    window.controller.propagation.propagate()
    before = window.labels
    there = scene.make_click(2, 0).yx
    window.controller.edit_prompts(0, [PointPrompt(0, 1, there, [True])])
    np.testing.assert_array_equal(window.labels[0] == 1, scene.mask(2, 0))
    np.testing.assert_array_equal(window.labels[1:], before[1:])
    assert window.view.prompts.points[0].yx == there
    assert [row.state for row in window.view.snapshot.objects] == ["propagate"]
    assert window.view.messages == [
        "This frame was segmented again. Press P to propagate the change."
    ]
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(window.labels == 1, scene.labels == 2)
    assert [row.state for row in window.view.snapshot.objects] == ["tracked"]
    replayed = window.session_labels
    for _ in range(2):
        window.controller.undo()
    np.testing.assert_array_equal(window.labels, before)
    for _ in range(2):
        window.controller.redo()
    np.testing.assert_array_equal(window.labels, replayed)


def test_the_last_propagated_click_cannot_be_deleted() -> None:
    window = MockWindow(make_drifting_scene())
    window.click(1)
    window.controller.propagation.propagate()
    labels, prompts = window.labels, window.view.prompts
    window.view.prompts = prompts.__class__()
    window.controller.edit_prompts(0, [])
    assert "was propagated from this click" in window.view.errors[-1]
    np.testing.assert_array_equal(window.labels, labels)
    assert window.view.prompts == prompts


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda control: control.propagation.propagate(), "Click an object first"),
        (lambda control: control.add_click(0, (1, 1), positive=False), "Click the object first"),
        (
            lambda control: control.add_click(0, (99, 1), positive=True),
            "outside the frame of 64 × 64",
        ),
        (lambda control: control.add_click(99, (1, 1), positive=True), "frames 0 to 9"),
        (lambda control: control.accept(0), "nothing to accept here"),
        (lambda control: control.save(Path("nowhere")), "nothing to save"),
    ],
    ids=[
        "nothing to propagate",
        "negative first",
        "outside",
        "no such frame",
        "nothing to accept",
        "nothing to save",
    ],
)
def test_an_impossible_action_is_one_error_and_changes_nothing(
    act: Callable[[Controller], None], sentence: str
) -> None:
    window = MockWindow(make_drifting_scene())
    act(window.controller)
    assert sentence in window.view.errors[-1]
    assert "\n" not in window.view.errors[-1]
    assert not window.labels.any()
    window.click(1)
    np.testing.assert_array_equal(window.labels[0] > 0, window.scene.mask(1, 0))


def test_propagating_a_finished_stack_is_an_error() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.propagation.propagate()
    window.controller.propagation.propagate()
    assert "everything is propagated already" in window.view.errors[-1]


@pytest.mark.parametrize("name", ["click", "undo", "redo", "propagate", "new", "save"])
def test_actions_without_an_image_ask_to_open_one(name: str) -> None:
    window = MockWindow(make_drifting_scene())
    window.controller.open(None)
    calls: dict[str, Callable[[], object]] = {
        "click": lambda: window.controller.add_click(0, (1, 1), positive=True),
        "undo": window.controller.undo,
        "redo": window.controller.redo,
        "propagate": window.controller.propagation.propagate,
        "new": window.controller.start_object,
        "save": lambda: window.controller.save(Path("nowhere")),
    }
    calls[name]()
    assert (
        "Open an image first" in window.view.errors[-1]
        or "Click the object first" in window.view.errors[-1]
    )
    assert window.view.snapshot.stage is Stage.EMPTY


def test_an_image_without_contrast_is_an_error_and_another_one_works() -> None:
    window = MockWindow(make_drifting_scene())
    window.controller.open(ImageSelection("other", make_blank_scene().stack, "t", 0))
    assert "same everywhere" in window.view.errors[-1]
    window.controller.open(window.selection)
    window.click(1)
    np.testing.assert_array_equal(window.labels[0] > 0, window.scene.mask(1, 0))


def test_a_missing_model_leaves_the_old_one_in_use() -> None:
    def load(name: str) -> VideoModel:
        if name != "nano":
            raise FileError(f"model {name!r} is not on this machine")
        return ToyModel()

    window = MockWindow(make_drifting_scene(), load=load)
    window.click(1)
    came: list[bool] = []
    window.controller.use_model("sam2.1-tiny", came.append)
    assert came == [False]
    assert "not on this machine" in window.view.errors[-1]
    assert window.view.snapshot.model == "nano"
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(window.labels == 1, window.scene.labels == 1)


def test_another_attention_applies_all_prompts_again() -> None:
    """A SAM 2 with random weights; the toy model has one attention only."""
    window = MockWindow(
        make_drifting_scene(), load=lambda _: networks.make_model(size=64).with_attention("auto")
    )
    window.click(1)
    before = window.view.snapshot.options.attention
    window.controller.reconfigure_model(attention="local")
    assert (before, window.view.snapshot.options.attention) == ("auto", "local")
    window.controller.reconfigure_model(windows="tiles")
    assert (window.view.snapshot.options.attention, window.view.snapshot.options.windows) == (
        "local",
        "tiles",
    )
    assert window.controller.state.log.track_ids == (1,) and window.labels[0].any()
    window = MockWindow(make_drifting_scene())
    window.click(1)
    window.controller.reconfigure_model(attention="local")
    assert "cannot change it" in window.view.errors[-1]
    np.testing.assert_array_equal(window.labels[0] > 0, window.scene.mask(1, 0))


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have PyTorch say that this machine's processor has these instructions."""
    return lambda *names: monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: dict.fromkeys(names, True)
    )


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(lambda _: networks.make_model(size=64), id="whole frames"),
        pytest.param(lambda _: load_model("nano", device="cpu"), id="object crops"),
    ],
)
def test_another_precision_applies_all_prompts_again(
    load: Callable[[str], VideoModel], processor: Callable[..., None]
) -> None:
    processor("avx512_bf16")
    window = MockWindow(make_drifting_scene(), load=load)
    window.click(1)
    assert (window.view.snapshot.options.precision, window.view.snapshot.precisions) == (
        "float32",
        ("float32", "bfloat16"),
    )
    window.controller.reconfigure_model(precision="bfloat16")
    assert window.view.snapshot.options.precision == "bfloat16"
    assert window.controller.state.log.track_ids == (1,) and window.labels[0].any()
    window.controller.reconfigure_model(precision="float16")
    assert (
        "precision 'float16': device 'cpu' computes in float32, bfloat16; choose one of these"
        in window.view.errors[-1]
    )
    assert window.view.snapshot.options.precision == "bfloat16" and window.labels[0].any()


def test_a_model_with_one_precision_cannot_change_it(processor: Callable[..., None]) -> None:
    processor("avx512_bf16")
    window = MockWindow(make_drifting_scene())
    window.click(1)
    assert window.view.snapshot.precisions == ("float32",)
    window.controller.reconfigure_model(precision="bfloat16")
    assert "cannot change it" in window.view.errors[-1]
    np.testing.assert_array_equal(window.labels[0] > 0, window.scene.mask(1, 0))


def load_sam(_: str) -> VideoModel:
    return networks.make_model(size=64)


def reopen_project_window(folder: Path) -> MockWindow:
    """Reopen a project with local attention and bfloat16; the model has global and float32."""
    first = MockWindow(
        make_drifting_scene(),
        load=lambda name: reconfigure(load_sam(name), "local", precision="bfloat16"),
        root=folder,
    )
    first.click_all()
    first.controller.propagation.propagate()
    first.controller.select(1)
    first.controller.accept(6)
    first.controller.close()
    return MockWindow(make_drifting_scene(), load=load_sam, root=folder)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        pytest.param({}, ("local", "whole", "bfloat16"), id="nothing"),
        pytest.param(
            {"precision": "float32"},
            ("local", "whole", "float32"),
            id="the precision that was loaded",
        ),
        pytest.param(
            {"attention": "global"},
            ("global", "whole", "bfloat16"),
            id="the attention that was loaded",
        ),
        pytest.param({"windows": "tiles"}, ("local", "tiles", "bfloat16"), id="other windows"),
    ],
)
def test_a_project_keeps_its_options_except_the_changed_one(
    chosen: dict[str, Any],
    expected: tuple[str, ...],
    tmp_path: Path,
    processor: Callable[..., None],
) -> None:
    processor("avx512_bf16")
    window = reopen_project_window(tmp_path)
    if chosen:
        window.controller.reconfigure_model(**chosen)
    shown = window.view.snapshot
    assert (shown.options.attention, shown.options.windows, shown.options.precision) == expected
    assert window.controller.state.log.track_ids == (1, 2, 3) and window.view.errors == []


def test_a_project_in_a_missing_precision_is_replayed_in_a_new_one(
    tmp_path: Path, processor: Callable[..., None]
) -> None:
    """As on another computer. The project stays as it is, and accepted frames are copied."""
    processor("avx512_bf16")
    reopen_project_window(tmp_path).controller.close()
    (old,) = tmp_path.iterdir()
    old_files = {
        path.name: path.read_bytes() for path in (old / "project.json", old / "prompts.json")
    }
    processor("avx512_f")
    window = MockWindow(make_drifting_scene(), load=load_sam, root=tmp_path)
    assert (
        window.view.messages[-1]
        == "This project was computed in bfloat16, which is not available on this device. "
        f"It stays in {old}. Your prompts were applied again in float32."
    )
    assert window.view.errors == [] and window.view.snapshot.options.precision == "float32"
    assert window.controller.state.log.track_ids == (
        1,
        2,
        3,
    ) and window.controller.state.log.is_locked(1, 6)
    assert old_files == {
        path.name: path.read_bytes() for path in (old / "project.json", old / "prompts.json")
    }
    window.controller.close()
    again = MockWindow(make_drifting_scene(), load=load_sam, root=tmp_path)
    assert "Restored 3 objects" in again.view.messages[-1], "the new project is continued"
    again.controller.close()
    processor("avx512_bf16")
    with Project.open(old) as project, project.open_session(load_sam("")) as session:
        assert (
            not project.needs_replay
            and session.model.card.precision == "bfloat16"
            and session.compute_label_plane(6).any()
        )


def test_another_model_applies_all_prompts_and_shows_only_its_masks() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.propagation.propagate()
    window.controller.use_model("other")
    np.testing.assert_array_equal(window.labels[0], window.scene.labels[0])
    assert not window.labels[1:].any()
    assert [row.state for row in window.view.snapshot.objects] == ["prompted"] * 3
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(window.labels, window.scene.labels)


def test_another_model_keeps_accepted_frames() -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.propagation.propagate()
    window.controller.select(1)
    for frame in (0, 6):
        window.controller.accept(frame)
    window.controller.accept(3)
    window.controller.accept(3)
    window.controller.use_model("other")
    log = window.controller.state.log
    assert [log.is_locked(1, frame) for frame in (0, 3, 6)] == [True, False, True]
    np.testing.assert_array_equal(window.labels[6] == 1, window.scene.mask(1, 6))
    assert not window.labels[3].any()
    assert window.controller.state.statuses[1, 6].presence is Presence.LOCKED
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(window.labels, window.scene.labels)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "Out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "Out of memory"),
        (KeyError("surprise"), "Unexpected error"),
    ],
    ids=["memory", "GPU memory", "our mistake"],
)
def test_an_error_during_propagation_keeps_finished_frames(error: Exception, sentence: str) -> None:
    model = ToyModel()
    window = MockWindow(make_drifting_scene(), manual=True, load=lambda _: model)
    window.click_all()
    window.controller.propagation.propagate()
    window.worker.run_pending(8)

    def broken(*_: object) -> list[object]:
        raise error

    model.segment = broken  # type: ignore[method-assign, assignment]
    window.worker.run_pending()
    assert sentence in window.view.errors[-1]
    assert window.view.snapshot.stage is Stage.READY
    np.testing.assert_array_equal(window.labels[:4], window.scene.labels[:4])


def test_late_answers_are_not_drawn() -> None:
    window = MockWindow(make_drifting_scene(), manual=True)
    window.worker.run_pending()
    window.click(1, 0)
    window.controller.start_object()
    window.click(2, 0)
    window.worker.run_pending(1)
    assert window.view.drawn_frames == []  # the newer answer about that frame is on its way
    window.worker.run_pending()
    assert set(np.unique(window.labels[0])) == {0, 1, 2}


def test_a_frame_is_drawn_if_the_newer_task_failed() -> None:
    window = MockWindow(make_drifting_scene(), manual=True)
    window.worker.run_pending()
    window.click(1, 0)
    window.controller.add_click(0, (999, 999), positive=True)
    window.worker.run_pending()
    np.testing.assert_array_equal(window.labels[0] == 1, window.scene.mask(1, 0))


def test_nothing_is_shown_after_close_and_workers_are_closed() -> None:
    window = MockWindow(make_drifting_scene(), manual=True)
    window.click_all()
    window.controller.propagation.propagate()
    window.worker.run_pending(7)
    drawn, shown = list(window.view.drawn_frames), len(window.view.snapshots)
    window.controller.close()
    shown = len(window.view.snapshots)
    window.worker.run_pending()
    assert (window.view.drawn_frames, len(window.view.snapshots)) == (drawn, shown)
    assert window.controller.session is None


def test_each_time_point_of_a_stack_has_objects_of_its_own() -> None:
    scene = make_touching_scene()
    data = np.stack([scene.stack.data, scene.stack.data[:, ::-1]])
    stack = scene.stack.__class__(data, "tzyx")
    view = MockView()
    control = Controller(view, InlineWorker(), load=lambda _: ToyModel())
    selection = ImageSelection("image", stack, "z", 0)
    control.open(selection, 0, (("t", 0),))
    prompt = scene.make_click(1, 0)
    control.add_click(0, prompt.yx[0], positive=True)
    control.propagation.propagate()
    control.set_position(0, (("t", 1),))
    assert view.snapshot.objects == ()
    y, x = prompt.yx[0]
    control.add_click(0, (63 - y, x), positive=True)
    control.propagation.propagate()
    np.testing.assert_array_equal(view.labels(scene, (("t", 0),)) > 0, scene.labels == 1)
    np.testing.assert_array_equal(view.labels(scene, (("t", 1),)) > 0, scene.labels[:, ::-1] == 1)
    control.set_position(3, (("t", 0),))
    assert len(view.snapshot.objects) == 1


def test_another_channel_is_another_session() -> None:
    scene = make_two_channel_scene()
    window = MockWindow(scene)
    window.click(1)
    window.controller.open(ImageSelection("image", scene.stack, "t", 1))
    assert window.view.snapshot.objects == ()
    window.controller.open(window.selection)
    assert [row.track for row in window.view.snapshot.objects] == [1]


def test_a_deleted_image_is_forgotten() -> None:
    window = MockWindow(make_drifting_scene())
    window.click(1)
    window.controller.forget_image("image")
    assert window.view.snapshot.stage is Stage.EMPTY
    assert window.controller.registry.workers == {}


def test_many_changed_frames_are_drawn_a_few_at_a_time_nearest_first() -> None:
    scene = make_drifting_scene(frames=4 * FRAMES_PER_PIECE)
    window = MockWindow(scene, manual=True)
    window.click(1)
    window.controller.propagation.propagate()
    window.worker.run_pending()
    window.controller.set_position(20)
    window.view.drawn_frames.clear()
    window.controller.undo()
    window.worker.run_pending(2)
    assert len(window.view.drawn_frames) == FRAMES_PER_PIECE
    assert all(abs(frame - 20) <= FRAMES_PER_PIECE for frame in window.view.drawn_frames)
    window.worker.run_pending()
    assert not window.labels[1:].any()


def test_labels_and_tables_are_saved_as_the_command_line_saves_them(tmp_path: Path) -> None:
    window = MockWindow(make_drifting_scene())
    window.click_all()
    window.controller.propagation.propagate()
    window.controller.save(tmp_path)
    assert str(tmp_path) in window.view.messages[-1]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels.ome.tif"), window.scene.labels)
    counts = pd.read_csv(tmp_path / "counts.csv")
    assert counts.iloc[-1]["n"] == 3
    files = {path.name for path in tmp_path.iterdir()}
    assert {"objects.csv", "tracks.csv", "prompts.json", "provenance.json", "overview.png"} <= files


def test_a_new_window_restores_the_project(tmp_path: Path) -> None:
    scene = make_drifting_scene()
    first = MockWindow(scene, root=tmp_path)
    first.click_all()
    first.controller.describe(2, name="the second")
    first.controller.propagation.propagate()
    first.controller.close()
    second = MockWindow(scene, root=tmp_path)
    assert "Restored 3 objects" in second.view.messages[-1]
    np.testing.assert_array_equal(second.labels, scene.labels)
    assert [row.name for row in second.view.snapshot.objects] == ["", "the second", ""]
    second.controller.remove([3])
    second.controller.restart()
    assert second.view.snapshot.objects == ()
    assert not second.labels.any()
    second.controller.close()
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unwritable_project_folder_is_reported_and_work_continues(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    window = MockWindow(make_drifting_scene(), root=tmp_path / "file")
    assert "save your results" in window.view.messages[-1]
    window.click_all()
    np.testing.assert_array_equal(window.labels[0], window.scene.labels[0])


def test_smaller_batches_after_out_of_memory_are_reported_once() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from napari_sam2.models.gpu_memory import BatchLimitedModel

    class Small(ToyModel):
        def segment(self, embedding: Any, queries: Any) -> Any:
            if len(queries) > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().segment(embedding, queries)

    scene = make_drifting_scene()
    window = MockWindow(scene, load=lambda _: BatchLimitedModel(Small()))
    window.click_all()
    window.controller.propagation.propagate()
    np.testing.assert_array_equal(window.labels, scene.labels)
    assert [
        text for text in window.view.messages if "smaller parts" in text
    ] == window.view.messages
    assert (len(window.view.messages), window.view.errors) == (1, [])


@dataclass
class FakeVolume(FakeEvidence):
    """Evidence that detects in three steps when it is asked first."""

    on_progress: Callable[[int, int], Any] = lambda done, total: None

    def get_frame(self, frame: int) -> FrameDetections:
        if not self.asked:
            for done in (1, 2, 3):
                self.on_progress(done, 3)
        return super().get_frame(frame)


@pytest.fixture
def volumes(monkeypatch: pytest.MonkeyPatch) -> list[FakeVolume]:
    """All that is made as evidence: it sees the first five frames of the drifting scene."""
    made: list[FakeVolume] = []

    def make(video: Video, parts: str, options: InferenceOptions) -> FakeVolume | None:
        if parts == "none":
            return None
        seen = np.array(make_drifting_scene().labels)
        seen[5:] = 0
        made.append(FakeVolume(seen))
        return made[-1]

    for module in ("gui.app.session_registry", "api.project"):
        monkeypatch.setattr(f"napari_sam2.{module}.make_evidence", make)
    return made


@pytest.mark.parametrize("kept", [True, False])
def test_evidence_applies_all_prompts_again_and_ends_objects(
    volumes: list[FakeVolume], tmp_path: Path, kept: bool
) -> None:
    window = MockWindow(make_drifting_scene(), root=tmp_path if kept else None)
    window.click_all()
    assert window.view.snapshot.evidence == "none" and volumes == []
    window.controller.reconfigure_model(evidence="all")
    assert window.view.snapshot.evidence == "all" and len(volumes) == 1
    assert window.controller.state.log.track_ids == (1, 2, 3)
    window.controller.propagation.propagate()
    assert window.labels[4].any() and not window.labels[5:].any()
    said = [each.message for each in window.view.snapshots if "Detecting" in each.message]
    assert len(said) == 3 and said[-1] == "Detecting objects to compare with: 3 of 3…"
    window.controller.reconfigure_model(evidence="none")
    window.controller.propagation.propagate()
    assert window.view.snapshot.evidence == "none" and window.labels[5:].any()
    assert window.view.errors == []


def test_evidence_stays_if_another_option_changes(volumes: list[FakeVolume]) -> None:
    window = MockWindow(make_drifting_scene(), load=load_sam)
    window.controller.reconfigure_model(evidence="all")
    for changes in ({"attention": "local"}, {"windows": "tiles"}, {"attention": "global"}):
        window.controller.reconfigure_model(**changes)
        assert window.view.snapshot.evidence == "all"
    assert len(volumes) == 4 and window.view.errors == []


@pytest.mark.parametrize("evidence", ["none", "all", "click,review"])
def test_a_project_is_opened_with_the_evidence_it_was_begun_with(
    volumes: list[FakeVolume], tmp_path: Path, evidence: str
) -> None:
    scene = make_drifting_scene()
    first = MockWindow(scene, root=tmp_path)
    first.controller.reconfigure_model(evidence=evidence)
    first.click_all()
    first.controller.propagation.propagate()
    first.controller.close()
    second = MockWindow(scene, root=tmp_path)
    session = second.controller.session
    assert not volumes or not volumes[-1].asked, "nothing is detected to open it"
    assert second.view.snapshot.evidence == evidence and session is not None
    assert (session.evidence is None) == (evidence == "none")
    assert second.controller.state.log.track_ids == (1, 2, 3)
    np.testing.assert_array_equal(second.session_labels, first.labels)
    second.controller.restart()
    assert second.view.snapshot.evidence == evidence, "a new start keeps what is ticked"
    second.controller.close()


def test_a_project_from_before_evidence_is_opened_without(
    volumes: list[FakeVolume], tmp_path: Path
) -> None:
    scene = make_drifting_scene()
    first = MockWindow(scene, root=tmp_path)
    first.click_all()
    first.controller.close()
    (path,) = tmp_path.glob("*/project.json")
    content = json.loads(path.read_text())
    assert content.pop("evidence") == "none"
    path.write_text(json.dumps(content))
    second = MockWindow(make_jumping_scene(), root=tmp_path)
    second.controller.reconfigure_model(evidence="all")
    second.selection = ImageSelection(
        "other", scene.stack, scene.video.along, scene.video.channel, scene.name
    )
    second.controller.open(second.selection)
    assert second.view.snapshot.evidence == "none"
    assert second.controller.state.log.track_ids == (1, 2, 3)
