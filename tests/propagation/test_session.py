"""Sessions: prompts, corrections, locks, undo and resuming, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_sam2.core.errors import ModelError, PlanError, PromptError
from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt
from napari_sam2.core.result import Embedding, Query, Segment
from napari_sam2.core.track import Presence, Track
from napari_sam2.propagation.run_state import RunState
from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.testing.scenes import make_drifting_scene, make_jumping_scene, make_touching_scene
from napari_sam2.testing.toy import ToyModel
from tests.propagation.conftest import Start, labels


def test_prompt_many_equals_prompting_one_by_one(open_session: Start) -> None:
    scene = make_touching_scene()
    prompts = [
        scene.make_click(1, 0),
        scene.make_click(2, 3),
        scene.make_click(1, 0),
        scene.make_click(2, 0),
        scene.make_click(1, 3),
    ]
    one, many = open_session(scene), open_session(scene)
    singly = [one.prompt(prompt) for prompt in prompts]
    together = many.prompt_many(prompts)
    for first, second in zip(singly, together, strict=True):
        assert (first.track, first.frame) == (second.track, second.frame)
        np.testing.assert_array_equal(first.logits, second.logits)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (PointPrompt(10, 1, [(1, 1)], [True]), "the video has frames 0 to 9"),
        (PointPrompt(0, 1, [(64, 1)], [True]), "outside the frame of 64 × 64"),
        (BoxPrompt(0, 1, (64, 10, 80, 30)), "outside the frame"),
        (MaskPrompt(0, 1, np.ones((5, 5))), "mask of shape (5, 5)"),
    ],
    ids=["frame", "point", "box", "mask"],
)
def test_prompt_outside_the_video_is_refused(
    open_session: Start, prompt: PointPrompt, message: str
) -> None:
    session = open_session(make_drifting_scene())
    with pytest.raises(PromptError, match="track 1, frame") as error:
        session.prompt_many([make_drifting_scene().make_click(1), prompt])
    assert message in str(error.value)
    assert len(session.log) == 0


def test_plan_without_prompts_is_refused(open_session: Start) -> None:
    with pytest.raises(PlanError, match="prompt an object on one frame first"):
        open_session(make_drifting_scene()).run()


def test_plan_of_an_unknown_track_is_refused(open_session: Start) -> None:
    session = open_session(make_drifting_scene())
    session.prompt(make_drifting_scene().make_click(1))
    with pytest.raises(PlanError, match=r"tracks \[7\] have no prompt"):
        session.plan(tracks=[7])


def test_undo_of_a_correction_restores_the_labels(open_session: Start) -> None:
    scene = make_jumping_scene()
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    before, log = labels(session), session.log
    session.prompt(scene.make_click(1, 5))
    session.run().finish()
    assert not np.array_equal(labels(session), before)
    assert session.undo()
    np.testing.assert_array_equal(labels(session), before)
    assert session.log == log


def test_removed_track_is_not_shown_or_propagated_until_undo(
    open_session: Start,
) -> None:
    scene = make_drifting_scene()
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    before = labels(session)
    session.remove(2)
    np.testing.assert_array_equal(labels(session), np.where(before == 2, 0, before))
    assert 2 not in session.plan(from_first_prompt=True).tracks
    assert 2 not in {track for track, _ in session.get_records()}
    with pytest.raises(PromptError, match="track 2: no such track"):
        session.remove(2)
    again = open_session(scene)
    again.replay(session.log)
    np.testing.assert_array_equal(labels(again), labels(session))
    assert session.undo()
    np.testing.assert_array_equal(labels(session), before)


def test_undo_reaches_the_empty_session(open_session: Start) -> None:
    scene = make_drifting_scene()
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    assert [session.undo() for _ in range(4)] == [True, True, True, False]
    assert not labels(session).any()


def test_replayed_log_gives_the_same_labels(open_session: Start) -> None:
    scene = make_jumping_scene()
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    session.run().finish()
    session.prompt(scene.make_click(1, 5))
    session.run().finish()
    session.lock(2, 3)
    session.describe(Track(1, category="cell"))
    again = open_session(scene)
    again.replay(session.log)
    np.testing.assert_array_equal(labels(again), labels(session))
    assert again.log == session.log


def test_other_log_is_not_replayed(open_session: Start) -> None:
    scene = make_drifting_scene()
    session = open_session(scene)
    session.prompt(scene.make_click(3))
    with pytest.raises(PromptError, match="holds other prompts"):
        session.replay(scene.make_log())


def test_cancelled_run_continues_later(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt_many(scene.make_log().prompts)
    run = session.run()
    for stepped in run:
        if stepped.position == 4:
            run.cancel()
    assert run.state is RunState.CANCELLED
    np.testing.assert_array_equal(labels(session)[:5], scene.labels[:5])
    assert not labels(session)[5:].any()
    model.calls.clear()
    assert session.run().finish().state is RunState.DONE
    assert model.get_segmented_frames(1) == [5, 6, 7, 8, 9]
    np.testing.assert_array_equal(labels(session), scene.labels)


def test_correction_after_a_cancelled_run_is_propagated_too(open_session: Start) -> None:
    scene = make_jumping_scene()
    session = open_session(scene)
    session.prompt_many(scene.make_log().prompts)
    run = session.run()
    for stepped in run:
        if stepped.position == 7:
            run.cancel()
    session.prompt(scene.make_click(1, 5))
    session.run().finish()
    np.testing.assert_array_equal(labels(session), scene.labels)


def test_correction_stops_as_soon_as_masks_are_equal(open_session: Start) -> None:
    scene, model = make_drifting_scene(frames=40), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1))
    session.run().finish()
    session.prompt(MaskPrompt(20, 1, scene.mask(1, 20)))  # the same mask as before
    model.calls.clear()
    session.run().finish()
    assert sorted(model.get_segmented_frames(1)) == [18, 19, 21, 22]


def test_propagation_of_some_tracks_and_frames_in_one_direction(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt_many([scene.make_click(track, 5) for track in scene.tracks])
    model.calls.clear()
    session.run(session.plan(direction="backward", frames=(2, 9), tracks=[3])).finish()
    assert model.get_segmented_frames(3) == [4, 3, 2]
    assert not model.get_segmented_frames(1)


def test_second_direction_can_follow_the_first(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1, 5))
    session.run(session.plan(direction="forward")).finish()
    model.calls.clear()
    session.run(session.plan(direction="backward", from_first_prompt=True)).finish()
    assert model.get_segmented_frames(1) == [4, 3, 2, 1, 0]


def test_locked_frame_is_not_overwritten_until_unlocked(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1))
    session.run().finish()
    session.lock(1, 4)
    model.calls.clear()
    session.run(session.plan(from_first_prompt=True)).finish()
    assert 4 not in model.get_segmented_frames(1)
    assert session.get_records()[1, 4].presence is Presence.LOCKED
    session.lock(1, 4, locked=False)
    session.run(session.plan(from_first_prompt=True)).finish()
    assert session.get_records()[1, 4].presence is Presence.TRACKED


def test_frame_without_a_mask_cannot_be_locked(open_session: Start) -> None:
    session = open_session(make_drifting_scene())
    session.prompt(make_drifting_scene().make_click(1))
    with pytest.raises(PromptError, match="nothing to lock"):
        session.lock(1, 4)


def test_killed_session_resumes_to_the_same_labels(tmp_path: Path, open_session: Start) -> None:
    scene = make_drifting_scene(frames=20)
    whole = open_session(scene)
    whole.prompt_many([scene.make_click(track, 8) for track in scene.tracks])
    whole.run().finish()

    killed = Session(scene.video, ToyModel(), settings=SessionSettings(folder=tmp_path))
    killed.prompt_many([scene.make_click(track, 8) for track in scene.tracks])
    run = iter(killed.run())
    for _ in range(13):  # eleven forward, two back
        next(run)
    log = killed.log
    killed.close()

    model = ToyModel()
    again = open_session(scene, model, folder=tmp_path)
    again.resume(log)
    again.run().finish()
    assert model.get_segmented_frames(1) == [5, 4, 3, 2, 1, 0]
    np.testing.assert_array_equal(labels(again), labels(whole))


def test_new_track_propagates_from_its_own_prompt(open_session: Start) -> None:
    scene, model = make_drifting_scene(), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1))
    session.run().finish()
    session.prompt(scene.make_click(2, 6))
    model.calls.clear()
    run = session.run().finish()
    assert run.plan == Propagation.outward({2: [6]}, length=10)
    assert not model.get_segmented_frames(1)


def test_failed_run_has_its_state_and_keeps_its_segments(open_session: Start) -> None:
    scene = make_drifting_scene()

    class Failing(ToyModel):
        def segment(self, embedding, queries):  # type: ignore[no-untyped-def]
            if embedding.frame == 6:
                raise RuntimeError("out of memory")
            return super().segment(embedding, queries)

    session = open_session(scene, Failing())
    session.prompt_many(scene.make_log().prompts)
    run = session.run()
    with pytest.raises(RuntimeError, match="out of memory"):
        run.finish()
    assert run.state is RunState.FAILED
    np.testing.assert_array_equal(labels(session)[:6], scene.labels[:6])


def test_failed_prompt_is_not_in_the_log(open_session: Start) -> None:
    class Failing(ToyModel):
        def segment(self, embedding, queries):  # type: ignore[no-untyped-def]
            raise RuntimeError("out of memory")

    session = open_session(make_drifting_scene(), Failing())
    with pytest.raises(RuntimeError):
        session.prompt(make_drifting_scene().make_click(1))
    assert len(session.log) == 0


def test_disk_cache_without_a_folder_is_refused() -> None:
    with pytest.raises(PlanError, match="needs a folder"):
        Session(
            make_drifting_scene().video,
            ToyModel(),
            settings=replace(SessionSettings(), embedding_disk_bytes=8 * 2**30),
        )


def test_memories_of_a_correction_are_reused_by_its_propagation(
    open_session: Start,
) -> None:
    scene, model = make_drifting_scene(frames=12), ToyModel()
    session = open_session(scene, model)
    session.prompt(scene.make_click(1))
    session.run().finish()
    model.calls.clear()
    session.prompt(scene.make_click(1, 6))
    session.run(session.plan(direction="forward")).finish()
    made = [call.frame for call in model.calls if call.kind == "encode_memory"]
    assert sorted(made) == sorted(set(made)), (
        "each frame once: 0 to 5 for the answer, 6 for the start, then the frames propagated"
    )


class LostModel(ToyModel):
    """A toy model that fails from one frame on; its features are useless for others."""

    def __init__(self, fatal: int) -> None:
        super().__init__()
        self._fatal = fatal

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        if embedding.frame >= self._fatal:
            self._fatal = 0
            raise ModelError("gone")
        return super().segment(embedding, queries)


@pytest.mark.parametrize(
    "corrected", [False, True], ids=["first propagation", "after a correction"]
)
def test_lost_model_is_reconnected_and_propagation_continues(corrected: bool) -> None:
    """Answered prompts stay, unanswered ones are not in the log, the rest is propagated."""
    scene, planes = make_drifting_scene(), []
    for fatal in (6, 99):
        with Session(scene.video, LostModel(fatal)) as session:
            session.prompt_many([scene.make_click(track, 0) for track in scene.tracks])
            if fatal == 6:
                with pytest.raises(ModelError, match="gone"):
                    session.run().finish()
                assert (
                    session.unfinished
                    and session.compute_label_plane(5).any()
                    and not session.compute_label_plane(6).any()
                )
                with pytest.raises(ModelError, match="gone"):
                    session.prompt(scene.make_click(1, 8))
                model = ToyModel()
                session.reconnect_model(model)
            session.run().finish()
            if fatal == 6:
                assert model.calls and {
                    call.frame for call in model.calls if call.kind == "segment"
                } == {6, 7, 8, 9}
            if corrected:
                session.prompt(scene.make_click(1, 3))
                session.run().finish()
            planes.append(labels(session))
    np.testing.assert_array_equal(*planes)


@pytest.mark.parametrize(
    "differs",
    [{"sha256": "f" * 64}, {"attention": "local"}, {"windows": "tiles"}, {"precision": "bfloat16"}],
    ids=str,
)
def test_other_model_is_not_reconnected(differs: dict[str, str]) -> None:
    """Nor the same weights with other inference options."""
    other = ToyModel()
    other.card = replace(other.card, **differs)  # type: ignore[arg-type]
    with (
        Session(make_drifting_scene().video, ToyModel()) as session,
        pytest.raises(ModelError, match="expected the same"),
    ):
        session.reconnect_model(other)
