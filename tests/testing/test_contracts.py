"""Contracts pass on correct implementations; each of their tests fails on a broken one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from napari_sam2.core.plan import Step
from napari_sam2.core.protocols import MemoryPolicy, Sink, VideoModel
from napari_sam2.core.result import Embedding, Memory, MemoryReference, Query, Segment
from napari_sam2.core.track import Presence
from napari_sam2.testing.contracts import ModelContract, PolicyContract, SinkContract
from napari_sam2.testing.toy import ToyModel


class TestToyModel(ModelContract):
    tolerance = 0.0
    min_mask_prompt_iou = 1.0

    def make_model(self) -> VideoModel:
        return ToyModel()


class TestCoarseToyModel(ModelContract):
    min_mask_prompt_iou = 0.6

    def make_model(self) -> VideoModel:
        return ToyModel(stride=4)


@dataclass(frozen=True)
class Recent:
    """The last `count` tracked frames and every conditioning one."""

    count: int = 3
    name: str = "recent"

    @property
    def reach(self) -> int:
        return self.count

    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        shown = []
        for memory in memories:
            age = back(memory, step)
            if memory.conditioning and age:
                shown.append(MemoryReference(memory, 0, age))
            elif not memory.conditioning and 0 < age <= self.count:
                shown.append(MemoryReference(memory, age, age))
        return shown

    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        return [
            memory
            for memory in memories
            if memory.conditioning or 0 <= back(memory, step) < self.count
        ]


def back(memory: Memory, step: Step) -> int:
    return (step.frame - memory.frame) * (1 if step.forward else -1)


class TestRecent(PolicyContract):
    def make_policy(self) -> MemoryPolicy:
        return Recent()


class ArraySink:
    """Labels as ``labels.npy``."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.path = folder / "labels.npy"
        self._labels = np.zeros(shape, dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            beside = self.path.with_suffix(".part.npy")
            np.save(beside, self._labels)
            os.replace(beside, self.path)

    def put(self, frame: int, plane: np.ndarray) -> None:
        self._labels[frame] = plane


class ArraySinkContract(SinkContract):
    sink: type[ArraySink] = ArraySink

    def make_sink(self, folder: Path, *, dtype: np.dtype) -> Sink:
        return self.sink(folder, (5, 24, 32), dtype)

    def read(self, path: Path) -> np.ndarray:
        return np.asarray(np.load(path))


class TestArraySink(ArraySinkContract):
    pass


class Nameless(ToyModel):
    def __init__(self) -> None:
        super().__init__()
        self.card = replace(self.card, sha256="toy")


class Shuffled(ToyModel):
    def embed(self, views: Any) -> list[Embedding]:
        return sorted(super().embed(views), key=lambda each: each.frame)


class Blended(ToyModel):
    def embed(self, views: Any) -> list[Embedding]:
        made = super().embed(views)
        mean = (
            np.mean([each.features[0] for each in made], axis=0).astype(np.uint16) if made else None
        )
        return [replace(each, features=(mean,)) for each in made]


class EightBit(ToyModel):
    def to_arrays(self, features: Any) -> tuple[np.ndarray, ...]:
        return (np.asarray(features[0] // 512),)

    def from_arrays(self, arrays: Any) -> tuple[Any, ...]:
        return (arrays[0] * 256,)


class Weightless(ToyModel):
    def nbytes(self, features: Any) -> int:
        return 0


class NeverIdle(ToyModel):
    def embed(self, views: Any) -> list[Embedding]:
        return super().embed([views[i] for i in range(max(1, len(views)))])


class Backwards(ToyModel):
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        return sorted(super().segment(embedding, queries), key=lambda each: each.track)


class Double(ToyModel):
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        return [
            replace(each, logits=each.logits.astype(np.float64))
            for each in super().segment(embedding, queries)
        ]


class AlwaysTracked(ToyModel):
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        return [
            replace(each, presence=Presence.TRACKED) for each in super().segment(embedding, queries)
        ]


class FaintlyAbsent(ToyModel):
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        return [
            replace(each, logits=np.maximum(each.logits, -8))
            for each in super().segment(embedding, queries)
        ]


class Competing(ToyModel):
    """Divides logits by the number of queries."""

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        return [
            replace(each, logits=each.logits / len(queries))
            for each in super().segment(embedding, queries)
        ]


class OneForAll(ToyModel):
    """Encodes all memories of a frame as clicked if one object on it was clicked."""

    def encode_memory(
        self, embedding: Embedding, segments: Sequence[Segment]
    ) -> list[tuple[Any, ...]]:
        clicked = any(each.conditioning for each in segments)
        return super().encode_memory(
            embedding,
            [
                replace(each, logits=-each.logits) if clicked and not each.conditioning else each
                for each in segments
            ],
        )


class Tiring(ToyModel):
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        return [
            replace(each, iou=each.iou - 0.01 * len(self.calls))
            for each in super().segment(embedding, queries)
        ]


class Clumsy(ToyModel):
    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        answers = super().segment(embedding, queries)
        for query in queries:
            if query.logits is not None:
                query.logits[...] = 0
        return answers


class Stubborn(ToyModel):
    """Returns half of a prompted mask."""

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        answers = super().segment(embedding, queries)
        half = np.arange(64)[:, None] % 2 * 20.0 - 10
        return [
            replace(
                a,
                logits=np.minimum(a.logits, half.astype(np.float32))
                if q.prompts.mask is not None
                else a.logits,
            )
            for a, q in zip(answers, queries, strict=True)
        ]


class SquareOnly(ToyModel):
    def embed(self, views: Any) -> list[Embedding]:
        assert all(frame.shape[0] == frame.shape[1] for frame, _ in views), "frames must be squares"
        return super().embed(views)


class Lossy(ToyModel):
    """Uses a part whose features do not survive arrays."""

    def segment(self, embedding: Embedding, queries: Sequence[Query]) -> list[Segment]:
        part = embedding.get_part(
            embedding.window, lambda: replace(embedding, features=(*embedding.features, 1))
        )
        return [
            replace(each, logits=each.logits + len(part.features))
            for each in super().segment(embedding, queries)
        ]


BROKEN_MODELS = {
    "test_card_says_which_model_and_which_inputs": Nameless,
    "test_embeddings_come_in_the_order_of_the_views": Shuffled,
    "test_frames_embedded_together_are_as_one_by_one": Blended,
    "test_features_survive_arrays": EightBit,
    "test_features_have_a_size_in_bytes": Weightless,
    "test_cached_parts_give_the_same_answers": Lossy,
    "test_no_queries_give_no_answers": NeverIdle,
    "test_segments_come_in_the_order_of_the_queries": Backwards,
    "test_segments_have_the_documented_shapes_and_types": Double,
    "test_presence_says_whether_it_was_prompted": AlwaysTracked,
    "test_absent_objects_write_nothing": FaintlyAbsent,
    "test_segments_do_not_depend_on_the_other_queries": Competing,
    "test_memories_do_not_depend_on_the_others": OneForAll,
    "test_the_same_query_has_the_same_segment": Tiring,
    "test_a_mask_is_answered_by_itself": Stubborn,
    "test_inputs_are_not_changed": Clumsy,
    "test_non_square_frames_have_segments": SquareOnly,
}


class Anonymous(Recent):
    def __init__(self) -> None:
        super().__init__(name="")


class Moody(Recent):
    steps: list[Step] = []  # noqa: RUF012  (shared on purpose: this is the error)

    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        self.steps.append(step)
        return super().select(memories, step)[len(self.steps) % 2 :]


class Greedy(Recent):
    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        memories.clear()  # type: ignore[attr-defined]
        return []


class Inventive(Recent):
    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        return [
            MemoryReference(replace(each.memory), each.slot, each.age)
            for each in super().select(memories, step)
        ]


class Cheating(Recent):
    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        return [
            MemoryReference(memory, 0, back(memory, step))
            for memory in memories
            if abs(back(memory, step)) <= self.count
        ]


class FarSighted(Recent):
    @property
    def reach(self) -> int:
        return 1


class Unsigned(Recent):
    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        return [replace(each, age=abs(each.age or 0)) for each in super().select(memories, step)]


class Forward(Recent):
    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        return super().select(memories, step) if step.forward else []


class Meddling(Recent):
    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        return [replace(memory, iou=0.5) for memory in super().retain(memories, step)]


class Hoarding(Recent):
    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        return list(memories)


class Forgetful(Recent):
    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        return super().retain(memories, step)[-2:]


BROKEN_POLICIES = {
    "test_it_has_a_name_and_a_reach": Anonymous,
    "test_the_same_input_has_the_same_answer": Moody,
    "test_inputs_are_not_changed": Greedy,
    "test_only_what_was_given_is_selected": Inventive,
    "test_the_current_frame_is_not_selected": Cheating,
    "test_future_frames_are_selected_only_if_conditioning": Cheating,
    "test_tracked_memories_out_of_reach_are_not_selected": FarSighted,
    "test_age_is_counted_in_the_propagation_direction": Unsigned,
    "test_a_first_prompt_is_shown_on_the_next_frame": Forward,
    "test_only_what_was_given_is_retained": Meddling,
    "test_memory_does_not_grow_with_the_propagation": Hoarding,
    "test_dropped_memories_change_no_selection": Forgetful,
}


class InOrder(ArraySink):
    """Ignores the frame number."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._next = 0

    def put(self, frame: int, plane: np.ndarray) -> None:
        super().put(self._next, plane)
        self._next += 1


class Narrow(ArraySink):
    def put(self, frame: int, plane: np.ndarray) -> None:
        super().put(frame, plane.astype(np.uint16))


class Byte(ArraySink):
    def put(self, frame: int, plane: np.ndarray) -> None:
        super().put(frame, plane.astype(np.uint8))


class Lending(ArraySink):
    """Keeps references to the caller's arrays until the end."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._planes: dict[int, np.ndarray] = {}

    def put(self, frame: int, plane: np.ndarray) -> None:
        self._planes[frame] = plane

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for frame, plane in self._planes.items():
            super().put(frame, plane)
        super().__exit__(kind, error, trace)


class Direct(ArraySink):
    """Writes under the final name from the first plane on."""

    def put(self, frame: int, plane: np.ndarray) -> None:
        super().put(frame, plane)
        np.save(self.path, self._labels)


class Swallowing(ArraySink):
    def __exit__(self, kind: object, error: object, trace: object) -> bool:  # type: ignore[override]
        super().__exit__(kind, error, trace)
        return True


class Shy(ArraySink):
    """Does not replace an existing file."""

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self.path.exists():
            super().__exit__(kind, error, trace)


class Continuing(ArraySink):
    """Uses the planes of a failed run."""

    left: dict[Path, np.ndarray] = {}  # noqa: RUF012  (stands for a part file left behind)

    def put(self, frame: int, plane: np.ndarray) -> None:
        super().put(frame, self.left.pop(self.path, plane))

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            self.left[self.path] = self._labels[0]
        super().__exit__(kind, error, trace)


BROKEN_SINKS = {
    "test_planes_come_back_exactly": Byte,
    "test_planes_in_any_order_come_back_in_theirs": InOrder,
    "test_large_track_ids_come_back_exactly": Narrow,
    "test_one_buffer_may_be_used_for_all_planes": Lending,
    "test_nothing_is_there_under_the_final_name_before_the_end": Direct,
    "test_a_failure_is_raised_and_leaves_no_result": Swallowing,
    "test_a_failure_leaves_the_older_result": Direct,
    "test_a_second_run_replaces_the_first": Shy,
    "test_a_run_after_a_failure_is_whole": Continuing,
}


def _tests(contract: type) -> set[str]:
    return {name for name in dir(contract) if name.startswith("test_")}


@pytest.mark.parametrize(("name", "broken"), BROKEN_MODELS.items(), ids=BROKEN_MODELS.keys())
def test_model_contract_finds(name: str, broken: type[ToyModel]) -> None:
    contract = ModelContract()
    contract.make_model = broken  # type: ignore[method-assign]
    with pytest.raises((AssertionError, IndexError)):
        getattr(contract, name)()


@pytest.mark.parametrize(("name", "broken"), BROKEN_POLICIES.items(), ids=BROKEN_POLICIES.keys())
def test_policy_contract_finds(name: str, broken: type[Recent]) -> None:
    contract = PolicyContract()
    contract.make_policy = broken  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        getattr(contract, name)()


@pytest.mark.parametrize(("name", "broken"), BROKEN_SINKS.items(), ids=BROKEN_SINKS.keys())
def test_sink_contract_finds(name: str, broken: type[ArraySink], tmp_path: Path) -> None:
    contract = ArraySinkContract()
    contract.sink = broken
    with pytest.raises(AssertionError):
        getattr(contract, name)(tmp_path)


def test_sink_contract_finds_wrong_axes(tmp_path: Path) -> None:
    contract = ArraySinkContract()
    contract.read_axes = lambda path: "yxt"  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="yxt"):
        contract.test_axes_are_named(tmp_path)


def test_every_test_of_a_contract_fails_on_a_broken_implementation() -> None:
    assert _tests(ModelContract) == set(BROKEN_MODELS)
    assert _tests(PolicyContract) == set(BROKEN_POLICIES)
    assert _tests(SinkContract) == {*BROKEN_SINKS, "test_axes_are_named"}
