"""Bank: the memories of one Track, as far as they may be wanted again."""

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
    """The memories of one Track.

    It is filled from the Trail where a leg begins, features left out: those are made when a policy
    first asks for them.
    """

    def __init__(self, track: int, memories: Sequence[Memory] = ()) -> None:
        self.track = track
        self._memories = {memory.frame: memory for memory in memories}

    @classmethod
    def of(cls, segment_store: SegmentStore, track: int) -> MemoryBank:
        """A bank that holds the conditioning memories of a track."""
        return cls(
            track, segment_store.load_memories(track, segment_store.find_conditioning_frames(track))
        )

    @property
    def memories(self) -> list[Memory]:
        """What is held, ascending by frame."""
        return [self._memories[frame] for frame in sorted(self._memories)]

    def is_conditioning(self, frame: int) -> bool:
        """Whether this frame was prompted or locked: no walk overwrites it."""
        return frame in self._memories and self._memories[frame].conditioning

    def load_previous(self, segment_store: SegmentStore, step: Step, reach: int) -> None:
        """Take up what the track left on up to `reach` frames behind a step in the walk's direction."""
        back = -1 if step.forward else 1
        frames = [step.frame + back * n for n in range(1, reach + 1)]
        for memory in segment_store.load_memories(
            self.track, [frame for frame in frames if frame not in self._memories]
        ):
            self._memories[memory.frame] = memory

    def reuse_features(self, previous: MemoryBank | None) -> None:
        """Take over the features an older bank of this track holds, where they are of the same answer: none is made twice."""
        for frame, memory in self._memories.items():
            held = previous._memories.get(frame) if previous else None
            if (
                held
                and held.conditioning == memory.conditioning
                and np.array_equal(held.pointer, memory.pointer)
            ):
                self._memories[frame] = replace(memory, features=held.features)

    def add(self, segment: Segment, features: tuple[Any, ...]) -> None:
        """Remember a Segment of this track."""
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
        """Take up the features of a held memory that were made again."""
        self._memories[frame] = replace(self._memories[frame], features=features)

    def fill_features(self, references: Sequence[MemoryReference]) -> tuple[MemoryReference, ...]:
        """These recalls with the features as they are held now."""
        return tuple(
            replace(recall, memory=self._memories[recall.memory.frame]) for recall in references
        )

    def retain(self, policy: MemoryPolicy, step: Step) -> None:
        """Drop what the policy does not keep after this step."""
        self._memories = {memory.frame: memory for memory in policy.retain(self.memories, step)}
