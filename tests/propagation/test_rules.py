"""The rules of SAM 2 that propagation keeps (docs/architecture.md), each a named test."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2.core.prompt import MaskPrompt, PointPrompt
from napari_sam2.core.sam2_constants import MAX_PREVIOUS_LOGIT
from napari_sam2.core.track import Presence
from napari_sam2.testing.scenes import (
    SCENES,
    Scene,
    make_drifting_scene,
    make_ellipsoid_scene,
    make_jumping_scene,
    make_returning_scene,
    make_touching_scene,
)
from napari_sam2.testing.toy import ModelCall, ToyModel
from tests.propagation.conftest import Start, labels


def _find_calls(model: ToyModel, frame: int) -> list[ModelCall]:
    return [call for call in model.calls if call.kind == "segment" and call.frame == frame]


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_one_click_per_object_gives_the_true_labels(scene: Scene, open_session: Start) -> None:
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    np.testing.assert_array_equal(labels(session), scene.labels)


def test_rule_1_new_frame_is_answered_without_memory(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    open_session(scene, model).prompt(scene.make_click(1, 4))
    [call] = _find_calls(model, 4)
    assert call.shown_memories == ((),)
    assert call.max_logits == (None,)


def test_rule_1_second_click_uses_the_previous_mask_but_no_memory(
    open_session: Start,
) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1, 4))
    session.prompt(scene.make_click(1, 4))
    assert _find_calls(model, 4)[-1].shown_memories == ((),)
    assert _find_calls(model, 4)[-1].max_logits[0] is not None


def test_rule_1_correction_uses_memory_and_clamped_logits(
    open_session: Start,
) -> None:
    scene, model = make_jumping_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1))
    session.run().finish()
    session.prompt(scene.make_click(1, 6))
    call = _find_calls(model, 6)[-1]
    assert {shown.frame for shown in call.shown_memories[0]} == {0, 1, 2, 3, 4, 5}
    assert call.max_logits[0] is not None
    assert call.max_logits[0] <= MAX_PREVIOUS_LOGIT  # the frame was absent before: -1024 clamped


def test_rule_2_memories_of_prompted_frames_are_encoded_at_the_start(
    open_session: Start,
) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1))
    session.prompt(scene.make_click(1))
    assert not [call for call in model.calls if call.kind == "encode_memory"]
    session.run().finish()
    made = [call for call in model.calls if call.kind == "encode_memory" and call.frame == 0]
    assert [call.conditioning for call in made] == [(True,)], "binarised, once"
    assert all(
        call.conditioning == (False,)
        for call in model.calls
        if call.kind == "encode_memory" and call.frame != 0
    )


def test_rule_3_conditioning_frames_last_six_and_sixteen_pointers(
    open_session: Start,
) -> None:
    scene, model = make_drifting_scene(frames=30), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1, 2))
    session.run().finish()
    shown = _find_calls(model, 29)[0].shown_memories[0]
    assert {each.frame: each.slot for each in shown if each.slot is not None} == {
        2: 0,
        28: 1,
        27: 2,
        26: 3,
        25: 4,
        24: 5,
        23: 6,
    }
    assert {each.frame: each.age for each in shown if each.age is not None} == {
        2: 27,
        **{29 - age: age for age in range(1, 16)},
    }


def test_rule_3_pointers_of_conditioning_frames_ahead_are_not_used(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt_many([scene.make_click(1, 0), scene.make_click(1, 9)])
    session.run().finish()
    ages = {
        each.frame: (each.slot, each.age)
        for each in _find_calls(model, 5)[0].shown_memories[0]
        if each.conditioning
    }
    assert ages == {0: (0, 5), 9: (0, None)}


def test_rule_4_corrected_frame_stays_corrected(open_session: Start) -> None:
    scene = make_touching_scene(same_level=True)
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    merged = next(
        frame
        for frame in range(10)
        if not np.array_equal(session.compute_label_plane(frame), scene.labels[frame])
    )
    session.prompt(MaskPrompt(merged, 1, scene.mask(1, merged)))
    corrected = session.compute_label_plane(merged)
    for _ in range(2):
        session.run(session.plan(from_first_prompt=True)).finish()
        np.testing.assert_array_equal(session.compute_label_plane(merged), corrected)
    assert session.get_records()[1, merged].presence is Presence.PROMPTED


def test_rule_4_correction_propagates_from_its_frame(open_session: Start) -> None:
    scene = make_jumping_scene()
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    assert not np.array_equal(labels(session), scene.labels), "the jump loses the object"
    session.prompt(scene.make_click(1, 5))
    session.run().finish()
    np.testing.assert_array_equal(labels(session), scene.labels)


def test_rule_5_track_propagates_both_ways_from_its_first_prompt(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt_many([scene.make_click(1, 3), scene.make_click(2, 6)])
    model.calls.clear()
    session.run().finish()
    assert model.get_segmented_frames(1) == [4, 5, 6, 7, 8, 9, 2, 1, 0]
    assert model.get_segmented_frames(2) == [7, 8, 9, 5, 4, 3, 2, 1, 0]


def test_rule_6_tracks_are_independent(open_session: Start) -> None:
    scene = make_touching_scene()
    alone, together = open_session(scene), open_session(scene)
    alone.prompt(scene.make_click(1, 2))
    alone.run().finish()
    together.prompt_many([scene.make_click(1, 2), scene.make_click(2, 7)])
    together.run().finish()
    together.prompt(scene.make_click(2, 4))
    together.run().finish()
    for frame in range(10):
        [one] = alone.get_segments(frame)
        same = next(segment for segment in together.get_segments(frame) if segment.track == 1)
        np.testing.assert_array_equal(one.logits, same.logits)


def test_rule_6_correction_segments_only_its_track(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    model.calls.clear()
    session.prompt(scene.make_click(2, 5))
    session.run().finish()
    assert {track for call in model.calls for track in call.tracks} == {2}
    assert not model.embedded_frames, "no frame is encoded again"


def test_rule_7_absent_object_writes_nothing_and_may_reappear(open_session: Start) -> None:
    scene = make_returning_scene(absent_frames=3)
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    absent = [frame for frame in range(10) if frame not in scene.find_frames(1)]
    assert [session.get_records()[1, frame].presence for frame in absent] == [Presence.ABSENT] * 3
    np.testing.assert_array_equal(labels(session), scene.labels)


def test_rule_7_track_absent_too_long_ends(open_session: Start) -> None:
    scene, model = make_ellipsoid_scene(slices=30), ToyModel()
    session = open_session(scene, model, patience=2)
    first, last = scene.find_frames(1)[0], scene.find_frames(1)[-1]
    session.prompt(scene.make_click(1, 15))
    model.calls.clear()
    session.run().finish()
    asked = model.get_segmented_frames(1)
    assert max(asked) == last + 2
    assert min(asked) == first - 2


def test_rule_8_memory_bank_does_not_grow_with_the_stack(open_session: Start) -> None:
    from napari_sam2.core.plan import Step
    from napari_sam2.propagation.memory_bank import MemoryBank
    from napari_sam2.propagation.memory_policies import Sam2Policy

    policy, held = Sam2Policy(), []
    scene = make_drifting_scene(frames=80)
    session = open_session(scene)
    session.prompt(scene.make_click(1))
    bank = MemoryBank.of(session._segment_store, 1)
    for stepped in session.run():
        for segment in stepped.segments:
            bank.add(segment, (np.zeros(1),))
            bank.retain(policy, Step(segment.frame, True, (1,)))
        held.append(
            (len(bank.memories), sum(memory.features is not None for memory in bank.memories))
        )
    assert max(held[40:]) == held[40]
    assert held[-1] == (16, 6), "the prompted one and fifteen pointers, six of them with features"


def test_tracks_of_a_frame_are_one_batch(open_session: Start) -> None:
    scene, model = make_drifting_scene(count=9), ToyModel(input_sizes=(64,))
    session = open_session(scene, model)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    assert [len(call.tracks) for call in model.calls if call.kind == "segment"] == [9] * 10


def test_click_on_background_gives_an_absent_object(open_session: Start) -> None:
    scene = make_drifting_scene()
    segment = open_session(scene).prompt(PointPrompt(0, 1, [(0, 0)], [True]))
    assert not segment.present
