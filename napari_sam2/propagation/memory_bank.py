"""MemoryBank: the memories of one track that propagation may still need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from napari_sam2.core.plan import Step
from napari_sam2.core.protocols import MemoryPolicy
from napari_sam2.core.result import Memory, MemoryReference, Segment
from napari_sam2.propagation.segment_store import SegmentStore


class MemoryBank:
    """The memories of one track.

    It is filled from the segment store at the start of a range, without features: those are
    encoded when a policy first selects them.
    """

    def __init__(self, track: int, memories: Sequence[Memory] = ()) -> None:
        self.track = track
        self._memories = {memory.frame: memory for memory in memories}

    @classmethod
    def of(cls, segment_store: SegmentStore, track: int) -> MemoryBank:
        """A bank with the conditioning memories of a track."""
        return cls(
            track, segment_store.load_memories(track, segment_store.find_conditioning_frames(track))
        )

    @property
    def memories(self) -> list[Memory]:
        """The memories, ascending by frame."""
        return [self._memories[frame] for frame in sorted(self._memories)]

    def is_conditioning(self, frame: int) -> bool:
        """Whether this frame was prompted or locked, so that propagation keeps it."""
        return frame in self._memories and self._memories[frame].conditioning

    def load_previous(self, segment_store: SegmentStore, step: Step, reach: int) -> None:
        """Load the memories of up to `reach` frames before a step in its direction."""
        back = -1 if step.forward else 1
        frames = [step.frame + back * n for n in range(1, reach + 1)]
        for memory in segment_store.load_memories(
            self.track, [frame for frame in frames if frame not in self._memories]
        ):
            self._memories[memory.frame] = memory

    def reuse_features(self, previous: MemoryBank | None) -> None:
        """Reuse the features of an older bank of this track if they are of the same segments."""
        for frame, memory in self._memories.items():
            held = previous._memories.get(frame) if previous else None
            if (
                held
                and held.conditioning == memory.conditioning
                and np.array_equal(held.pointer, memory.pointer)
            ):
                self._memories[frame] = replace(memory, features=held.features)

    def add(self, segment: Segment, features: tuple[Any, ...]) -> None:
        """Add the memory of a segment of this track."""
        memory = Memory(
            segment.frame,
            segment.conditioning,
            segment.pointer,
            segment.present,
            segment.iou,
            features,
            segment.position,
        )
        self._memories[segment.frame] = memory

    def update_features(self, frame: int, features: tuple[Any, ...]) -> None:
        """Set the features of a memory after they were encoded again."""
        self._memories[frame] = replace(self._memories[frame], features=features)

    def fill_features(self, references: Sequence[MemoryReference]) -> tuple[MemoryReference, ...]:
        """The references with the current features of their memories."""
        return tuple(replace(each, memory=self._memories[each.memory.frame]) for each in references)

    def retain(self, policy: MemoryPolicy, step: Step) -> None:
        """Drop the memories that the policy does not keep after this step."""
        self._memories = {memory.frame: memory for memory in policy.retain(self.memories, step)}
