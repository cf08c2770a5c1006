"""Memory policies: which memories the model gets on a step, and which are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from napari_sam2.core.errors import PlanError
from napari_sam2.core.plan import Step
from napari_sam2.core.protocols import MemoryPolicy
from napari_sam2.core.registry import Registry
from napari_sam2.core.result import Memory, MemoryReference
from napari_sam2.core.sam2_constants import OBJECT_POINTERS, RECENT_MEMORIES

_GATE_LOOKBACK_FRAMES = 2  # frames before a memory that `is_trusted` may read


@dataclass(frozen=True)
class Sam2Policy:
    """SAM 2's own rule.

    Every conditioning frame (the `max_conditioning` nearest, if limited), the last `recent`
    tracked frames in the direction of propagation, and the object pointers of the last `pointers`
    frames. Pointers of conditioning frames ahead are left out.

    From Ravi et al. 2024, section 4, and ``_prepare_memory_conditioned_features`` of its code.
    """

    recent: int = RECENT_MEMORIES
    pointers: int = OBJECT_POINTERS
    max_conditioning: int | None = None
    name: str = "sam2"

    @property
    def reach(self) -> int:
        """See `MemoryPolicy`."""
        return max(self.recent, self.pointers - 1)

    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        """Conditioning frames in slot 0, the n-th tracked frame back in slot n.

        Older frames are selected by their pointer alone. The frame itself is not selected, even if
        it was prompted: its previous mask goes into the query as logits.
        """
        chosen = self._select_conditioning(
            [memory for memory in memories if memory.frame != step.frame], step.frame
        )
        references = []
        for memory in chosen:
            age = _compute_age(memory, step)
            references.append(MemoryReference(memory, 0, age if age >= 0 else None))
        conditioned = {memory.frame for memory in chosen}
        for memory in memories:
            age = _compute_age(memory, step)
            if memory.frame not in conditioned and 1 <= age <= self.reach:
                references.append(
                    MemoryReference(
                        memory,
                        age if age <= self.recent else None,
                        age if age < self.pointers else None,
                    )
                )
        return references

    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        """Conditioning and recent frames with features, older ones with their pointer alone."""
        kept = []
        for memory in memories:
            age = _compute_age(memory, step)
            if memory.conditioning or 0 <= age < self.recent:
                kept.append(memory)
            elif 0 <= age < self.reach:
                kept.append(memory.without_features())
        return kept

    def _select_conditioning(self, memories: Sequence[Memory], frame: int) -> list[Memory]:
        found = [memory for memory in memories if memory.conditioning]
        if self.max_conditioning is None or len(found) <= self.max_conditioning:
            return found
        nearest = sorted(found, key=lambda memory: (abs(memory.frame - frame), memory.frame))[
            : self.max_conditioning
        ]
        return sorted(nearest, key=lambda memory: memory.frame)


@dataclass(frozen=True)
class GatedPolicy:
    """SAM 2's rule over trusted memories: the last `recent` of them, up to `horizon` frames back.

    The model gets neither the mask nor the pointer of a memory that is not trusted. An exception
    is the mask of the frame just propagated: without it, a track would be lost if no frame is
    trusted for long.
    """

    recent: int = RECENT_MEMORIES
    pointers: int = OBJECT_POINTERS
    horizon: int = 24

    @property
    def name(self) -> str:
        """See `MemoryPolicy`."""
        raise NotImplementedError("a GatedPolicy is one of its subclasses")

    @property
    def reach(self) -> int:
        """See `MemoryPolicy`."""
        return self.horizon

    def is_trusted(
        self, memory: Memory, memories_by_frame: Mapping[int, Memory], step: Step
    ) -> bool:
        """Whether a tracked memory may be selected."""
        raise NotImplementedError("a GatedPolicy is one of its subclasses")

    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        """Conditioning frames in slot 0, the last trusted ones in slots 1 and up.

        Older trusted frames are selected by their pointer alone.
        """
        references = [
            MemoryReference(memory, 0, age if (age := _compute_age(memory, step)) >= 0 else None)
            for memory in memories
            if memory.conditioning and memory.frame != step.frame
        ]
        for slot, (memory, shown) in enumerate(self._select_candidates(memories, step), start=1):
            age = _compute_age(memory, step)
            pointer = age if shown and age < self.pointers else None
            if slot <= self.recent or pointer is not None:
                references.append(
                    MemoryReference(memory, slot if slot <= self.recent else None, pointer)
                )
        return references

    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        """Conditioning and trusted frames with features, others without, up to the horizon."""
        after = Step(step.frame + (1 if step.forward else -1), step.forward, step.tracks)
        whole = {
            memory.frame for memory, _ in self._select_candidates(memories, after)[: self.recent]
        }
        kept = []
        for memory in memories:
            if memory.conditioning or memory.frame in whole:
                kept.append(memory)
            elif 0 <= _compute_age(memory, step) <= self.horizon + _GATE_LOOKBACK_FRAMES:
                kept.append(memory.without_features())
        return kept

    def _select_candidates(
        self, memories: Sequence[Memory], step: Step
    ) -> list[tuple[Memory, bool]]:
        """The trusted memories within the horizon and the last one, latest first.

        Each comes with whether it is trusted.
        """
        held = {memory.frame: memory for memory in memories}
        behind = sorted(
            (memory for memory in memories if not memory.conditioning),
            key=lambda memory: _compute_age(memory, step),
        )
        behind = [memory for memory in behind if 1 <= _compute_age(memory, step) <= self.horizon]
        judged = [(memory, self.is_trusted(memory, held, step)) for memory in behind]
        return [
            (memory, good) for memory, good in judged if good or _compute_age(memory, step) == 1
        ]


@dataclass(frozen=True)
class ScorePolicy(GatedPolicy):
    """Trusts present objects with a predicted IoU of at least `min_iou`."""

    min_iou: float = 0.6
    name: str = "score"

    def is_trusted(
        self, memory: Memory, memories_by_frame: Mapping[int, Memory], step: Step
    ) -> bool:
        """See `GatedPolicy`."""
        return memory.present and memory.iou >= self.min_iou


@dataclass(frozen=True)
class MotionPolicy(GatedPolicy):
    """Trusts objects near the position that a constant velocity predicts.

    This excludes similar objects nearby. `gate` is the largest distance, in diameters of the
    object. The velocity is that of the two frames before; if it is not known, the object is
    expected not to move.
    """

    gate: float = 0.75
    name: str = "motion"

    def is_trusted(
        self, memory: Memory, memories_by_frame: Mapping[int, Memory], step: Step
    ) -> bool:
        """See `GatedPolicy`."""
        if memory.position is None:
            return False
        direction = 1 if step.forward else -1
        last, before = (
            (
                earlier.position
                if (earlier := memories_by_frame.get(memory.frame - direction * n))
                else None
            )
            for n in (1, 2)
        )
        if last is None:
            return True
        y, x = (2 * last.y - before.y, 2 * last.x - before.x) if before else (last.y, last.x)
        return bool(
            np.hypot(memory.position.y - y, memory.position.x - x)
            <= self.gate * max(last.diameter_px, memory.position.diameter_px)
        )


@dataclass(frozen=True)
class StridedPolicy(GatedPolicy):
    """Trusts every `stride`-th frame, so that the memories of slow stacks differ more."""

    stride: int = 3
    name: str = "strided"

    def is_trusted(
        self, memory: Memory, memories_by_frame: Mapping[int, Memory], step: Step
    ) -> bool:
        """See `GatedPolicy`."""
        return memory.frame % self.stride == 0


def _compute_age(memory: Memory, step: Step) -> int:
    """Frames a memory lies behind the step; negative if it lies ahead."""
    back = step.frame - memory.frame
    return back if step.forward else -back


POLICIES: Registry[MemoryPolicy] = Registry("policies", PlanError)
"""Memory policies by name; the entry point group is ``napari_sam2.policies``."""
POLICIES.register("sam2", Sam2Policy)
POLICIES.register("score", ScorePolicy)
POLICIES.register("motion", MotionPolicy)
POLICIES.register("strided", StridedPolicy)
