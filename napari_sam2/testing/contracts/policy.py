"""The contract of memory policies, as tests to inherit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from napari_sam2.core.plan import Step
from napari_sam2.core.protocols import MemoryPolicy
from napari_sam2.core.result import Memory, MemoryReference

_LONG_FRAMES = 500  # frames of a long propagation
_START_FRAME = 40  # first prompted frame of shorter ones: there is room in both directions


class PolicyContract:
    """Tests of a MemoryPolicy: inherit, and override `make_policy`."""

    max_memories: int = 64
    """Memories that may be retained during a long propagation from one prompt."""
    max_features: int = 16
    """Memories of these that may have features, which take the most space."""

    def make_policy(self) -> MemoryPolicy:
        """Return a new policy."""
        raise NotImplementedError("override make_policy")

    def test_it_has_a_name_and_a_reach(self) -> None:
        policy = self.make_policy()
        assert policy.name, "name is empty: the provenance needs it"
        assert policy.reach >= 0, f"reach is {policy.reach!r}: expected a number of frames"

    def test_the_same_input_has_the_same_answer(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            first = (
                _summarize_references(policy.select(memories, step)),
                _summarize_memories(policy.retain(memories, step)),
            )
            for others, other_step in _make_situations():  # a policy must not keep a state
                policy.select(others, other_step)
            again = (
                _summarize_references(policy.select(memories, step)),
                _summarize_memories(policy.retain(memories, step)),
            )
            fresh = self.make_policy()
            assert first == again, f"{step}: the same input gave another result"
            assert first == (
                _summarize_references(fresh.select(memories, step)),
                _summarize_memories(fresh.retain(memories, step)),
            ), f"{step}: a new policy gives another result"

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
            for reference in policy.select(memories, step):
                assert any(reference.memory is each for each in memories), (
                    f"{step}: a memory of frame {reference.memory.frame} that was not given"
                )
                assert reference.slot is not None or reference.age is not None, (
                    f"{step}: a reference that shows neither mask nor pointer"
                )
                assert reference.slot is None or reference.slot >= 0, (
                    f"{step}: slot {reference.slot!r}, expected 0 or more"
                )

    def test_the_current_frame_is_not_selected(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            assert step.frame not in {
                each.memory.frame for each in policy.select(memories, step)
            }, f"{step}: the memory of the current frame is selected"

    def test_future_frames_are_selected_only_if_conditioning(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            for reference in policy.select(memories, step):
                age = _compute_age(reference.memory, step)
                assert reference.memory.conditioning or age > 0, (
                    f"{step}: selects the tracked frame {reference.memory.frame} of the future"
                )

    def test_tracked_memories_out_of_reach_are_not_selected(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            for reference in policy.select(memories, step):
                age = _compute_age(reference.memory, step)
                assert reference.memory.conditioning or age <= policy.reach, (
                    f"{step}: selects a memory of {age} frames ago, its reach is {policy.reach}"
                )

    def test_age_is_counted_in_the_propagation_direction(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            for reference in policy.select(memories, step):
                age = _compute_age(reference.memory, step)
                assert reference.age in (None, age), (
                    f"{step}: frame {reference.memory.frame} has age {reference.age}, expected "
                    f"{age}"
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
                f"{step}: the mask of the only memory, a prompted one, is not shown"
            )

    def test_only_what_was_given_is_retained(self) -> None:
        policy = self.make_policy()
        for memories, step in _make_situations():
            given = {each.frame: each for each in memories}
            retained = policy.retain(memories, step)
            frames = [each.frame for each in retained]
            assert frames == sorted(set(frames)), (
                f"{step}: frames {frames!r} retained, expected each once, ascending"
            )
            for each in retained:
                assert each.frame in given, (
                    f"{step}: retains frame {each.frame}, which was not given"
                )
                origin = given[each.frame]
                assert each.features is None or each.features is origin.features, (
                    f"{step}: the features of frame {each.frame} were changed"
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
            for step, retained, _ in _propagate(policy, forward=forward, frames=_LONG_FRAMES):
                assert len(retained) <= self.max_memories, (
                    f"{step}: {len(retained)} memories retained, expected at most "
                    f"{self.max_memories}"
                )
                with_features = sum(each.features is not None for each in retained)
                assert with_features <= self.max_features, (
                    f"{step}: {with_features} memories retained with features, expected at most "
                    f"{self.max_features}"
                )

    def test_dropped_memories_change_no_selection(self) -> None:
        policy = self.make_policy()
        for forward in (True, False):
            for step, retained, everything in _propagate(
                policy, forward=forward, frames=3 * _START_FRAME
            ):
                shown, expected = policy.select(retained, step), policy.select(everything, step)
                assert _summarize_references(shown) == _summarize_references(expected), (
                    f"{step}: a memory that would be selected was not retained"
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
    """Propagate from one prompt; the object is absent on some frames.

    Yields each step, the memories retained before it, and all memories before it.
    """
    direction, start = (1, 0) if forward else (-1, frames)
    retained = everything = [_make_memory(start, conditioning=True)]
    for number in range(1, frames + 1):
        step = Step(start + direction * number, forward, (1,))
        yield step, retained, everything
        new = _make_memory(step.frame, present=number % 7 != 0)
        everything = _sort_by_frame([*everything, new])
        retained = list(policy.retain(_sort_by_frame([*retained, new]), step))


def _make_situations() -> Iterator[tuple[list[Memory], Step]]:
    """Make memories of one track, and a step in either direction.

    After one or several prompts, with later corrections, gaps and absences.
    """
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
