"""PolicyContract: what every MemoryPolicy must do, whatever it finds worth remembering."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from napari_sam2.core.plan import Step
from napari_sam2.core.protocols import MemoryPolicy
from napari_sam2.core.result import Memory, MemoryReference

_LONG_FRAMES = 500  # frames of a long walk
_START_FRAME = 40  # frame of the first prompt in shorter ones: room both ways


class PolicyContract:
    """Tests of a MemoryPolicy; inherit, and override `make_policy`."""

    max_memories: int = 64
    """Memories that may be held at once on a long walk from one prompt, with or without their features."""
    max_features: int = 16
    """Of these, the ones with their features: they are what takes room."""

    def make_policy(self) -> MemoryPolicy:
        """A new policy."""
        raise NotImplementedError("override make_policy")

    def test_it_has_a_name_and_a_reach(self) -> None:
        policy = self.make_policy()
        assert policy.name, "name is empty: it is what the provenance says"
        assert policy.reach >= 0, f"reach is {policy.reach!r}: expected frames, from 0"

    def test_the_same_input_has_the_same_answer(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            first = (
                _summarize_references(policy.select(memories, step)),
                _summarize_memories(policy.retain(memories, step)),
            )
            for (
                other,
                elsewhere,
            ) in _make_situations():  # a policy that remembers what it was asked is found out here
                policy.select(other, elsewhere)
            again = (
                _summarize_references(policy.select(memories, step)),
                _summarize_memories(policy.retain(memories, step)),
            )
            fresh = self.make_policy()
            assert first == again, f"{step}: another answer to the same question"
            assert first == (
                _summarize_references(fresh.select(memories, step)),
                _summarize_memories(fresh.retain(memories, step)),
            ), f"{step}: a new policy answers otherwise"

    def test_inputs_are_not_changed(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            given = list(memories)
            policy.select(given, step)
            policy.retain(given, step)
            assert [id(each) for each in given] == [id(each) for each in memories], (
                f"{step}: the list of memories was changed"
            )

    def test_only_what_was_given_is_selected(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            for recall in policy.select(memories, step):
                assert any(recall.memory is each for each in memories), (
                    f"{step}: a memory of frame {recall.memory.frame} that was not given"
                )
                assert recall.slot is not None or recall.age is not None, (
                    f"{step}: a recall that shows neither mask nor pointer"
                )
                assert recall.slot is None or recall.slot >= 0, (
                    f"{step}: slot {recall.slot!r}, expected 0 or more"
                )

    def test_the_current_frame_is_not_selected(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            assert step.frame not in {
                each.memory.frame for each in policy.select(memories, step)
            }, f"{step}: the answer is given away"

    def test_future_frames_are_selected_only_if_conditioning(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            for recall in policy.select(memories, step):
                back = _compute_age(recall.memory, step)
                assert recall.memory.conditioning or back > 0, (
                    f"{step}: selects the tracked frame {recall.memory.frame}, which lies ahead"
                )

    def test_tracked_memories_out_of_reach_are_not_selected(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            for recall in policy.select(memories, step):
                far = _compute_age(recall.memory, step)
                assert recall.memory.conditioning or far <= policy.reach, (
                    f"{step}: selects {far} frames back, its reach is {policy.reach}"
                )

    def test_age_is_counted_in_the_propagation_direction(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            for recall in policy.select(memories, step):
                back = _compute_age(recall.memory, step)
                assert recall.age in (None, back), (
                    f"{step}: frame {recall.memory.frame} shown with age {recall.age}, it is {back}"
                )

    def test_a_first_prompt_is_shown_on_the_next_frame(self) -> None:
        policy = self.make_policy()
        for forward in (True, False):
            step = Step(_START_FRAME + (1 if forward else -1), forward, (1,))
            shown = [
                each.memory.frame
                for each in policy.select([_make_memory(_START_FRAME, conditioning=True)], step)
                if each.slot is not None
            ]
            assert shown == [_START_FRAME], (
                f"{step}: the mask of the only memory there is, a prompted one, is not shown"
            )

    def test_only_what_was_given_is_retained(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            given = {each.frame: each for each in memories}
            kept = policy.retain(memories, step)
            frames = [each.frame for each in kept]
            assert frames == sorted(set(frames)), (
                f"{step}: frames {frames!r} retained, expected each once, ascending"
            )
            for each in kept:
                assert each.frame in given, (
                    f"{step}: retains frame {each.frame}, which was not given"
                )
                origin = given[each.frame]
                assert each.features is None or each.features is origin.features, (
                    f"{step}: other features of frame {each.frame} than given"
                )
                same = (each.conditioning, each.present, each.iou) == (
                    origin.conditioning,
                    origin.present,
                    origin.iou,
                )
                assert same and np.array_equal(each.pointer, origin.pointer), (
                    f"{step}: the memory of frame {each.frame} was changed"
                )

    def test_memory_does_not_grow_with_the_propagation(self) -> None:
        policy = self.make_policy()
        for forward in (True, False):
            for step, kept, _ in _propagate(policy, forward=forward, frames=_LONG_FRAMES):
                assert len(kept) <= self.max_memories, (
                    f"{step}: {len(kept)} memories kept, expected {self.max_memories} at most"
                )
                whole = sum(each.features is not None for each in kept)
                assert whole <= self.max_features, (
                    f"{step}: {whole} memories kept with features, expected {self.max_features} "
                    "at most"
                )

    def test_dropped_memories_change_no_selection(self) -> None:
        policy = self.make_policy()
        for forward in (True, False):
            for step, kept, everything in _propagate(
                policy, forward=forward, frames=3 * _START_FRAME
            ):
                shown, expected = policy.select(kept, step), policy.select(everything, step)
                assert _summarize_references(shown) == _summarize_references(expected), (
                    f"{step}: what was retained is not all that would be selected"
                )
                lost = [
                    each.memory.frame
                    for each in shown
                    if each.slot is not None and each.memory.features is None
                ]
                assert not lost, (
                    f"{step}: the masks of frames {lost!r} are selected, but their features were "
                    "not retained"
                )


def _propagate(
    policy: MemoryPolicy, *, forward: bool, frames: int
) -> Iterator[tuple[Step, list[Memory], list[Memory]]]:
    """A walk from one prompt: each step, what was retained up to it, and all there ever was; some frames absent."""
    way, start = (1, 0) if forward else (-1, frames)
    kept = everything = [_make_memory(start, conditioning=True)]
    for number in range(1, frames + 1):
        step = Step(start + way * number, forward, (1,))
        yield step, kept, everything
        new = _make_memory(step.frame, present=number % 7 != 0)
        everything = _sort_by_frame([*everything, new])
        kept = list(policy.retain(_sort_by_frame([*kept, new]), step))


def _make_situations() -> Iterator[tuple[list[Memory], Step]]:
    """Memories of one track and a step: after one prompt, several, corrections ahead, gaps, absences, both ways."""
    conditioning: tuple[tuple[int, ...], ...] = (
        (_START_FRAME,),
        (_START_FRAME, _START_FRAME + 3),
        (_START_FRAME - 25, _START_FRAME, _START_FRAME + 12),
        tuple(range(_START_FRAME - 8, _START_FRAME)),
    )
    for prompted in conditioning:
        for forward in (True, False):
            for distance in (1, 2, 7, 20):
                frame = _START_FRAME + (distance if forward else -distance)
                tracked = (
                    each
                    for each in range(_START_FRAME - 30, _START_FRAME + 31)
                    if each not in prompted and each % 11
                )
                memories = [
                    *(_make_memory(each, conditioning=True) for each in prompted),
                    *(_make_memory(each, present=each % 5 != 0) for each in tracked),
                ]
                yield _sort_by_frame(memories), Step(frame, forward, (1,))


def _make_memory(frame: int, *, conditioning: bool = False, present: bool = True) -> Memory:
    score = 1.0 if conditioning else (frame % 10) / 10
    return Memory(
        frame,
        conditioning,
        np.full(4, frame, dtype=np.float32),
        present,
        score,
        (np.full(2, frame, dtype=np.float32),),
    )


def _sort_by_frame(memories: Sequence[Memory]) -> list[Memory]:
    return sorted(memories, key=lambda memory: memory.frame)


def _compute_age(memory: Memory, step: Step) -> int:
    return (step.frame - memory.frame) * (1 if step.forward else -1)


def _summarize_references(
    references: Sequence[MemoryReference],
) -> list[tuple[int, int | None, int | None]]:
    return [(each.memory.frame, each.slot, each.age) for each in references]


def _summarize_memories(memories: Sequence[Memory]) -> list[tuple[int, bool]]:
    return [(each.frame, each.features is not None) for each in memories]
