"""Memory policies: which memories are shown on a step, and which are kept."""

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

_GATE_LOOKBACK_FRAMES = 2  # frames that a gate looks back from a memory


@dataclass(frozen=True)
class Sam2Policy:
    """SAM 2's own rule (Ravi et al.

    2024, section 4; its predictor's ``_prepare_memory_conditioned_features``).

    Every conditioning frame (the `max_conditioning` nearest ones, where limited), the last `recent`
    tracked frames in the walk's direction, and the object pointers of the last `pointers` frames;
    pointers of conditioning frames only where they lie behind the walk.
    """

    recent: int = RECENT_MEMORIES
    pointers: int = OBJECT_POINTERS
    max_conditioning: int | None = None
    name: str = "sam2"

    @property
    def reach(self) -> int:
        """Frames back in the walk's direction beyond which a tracked memory is never selected."""
        return max(self.recent, self.pointers - 1)

    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        """Conditioning frames in slot 0, the n-th tracked frame back in slot n, older ones by their pointer alone.

        The frame asked about is not among them, also where it was prompted before: that answer
        comes as logits.
        """
        chosen = self._select_conditioning(
            [memory for memory in memories if memory.frame != step.frame], step.frame
        )
        recalls = []
        for memory in chosen:
            age = _compute_age(memory, step)
            recalls.append(MemoryReference(memory, 0, age if age >= 0 else None))
        conditioned = {memory.frame for memory in chosen}
        for memory in memories:
            age = _compute_age(memory, step)
            if memory.frame not in conditioned and 1 <= age <= self.reach:
                recalls.append(
                    MemoryReference(
                        memory,
                        age if age <= self.recent else None,
                        age if age < self.pointers else None,
                    )
                )
        return recalls

    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        """Conditioning frames whole, the last `recent` ones whole, pointers of the last `pointers`; nothing else."""
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
    """SAM 2's rule over those memories that are trusted: the last `recent` of them, up to `horizon` frames back.

    What is not trusted is shown neither by its mask nor by its pointer. The frame just walked is
    shown by its mask always: without it a track would be lost where nothing is trusted for long.
    """

    recent: int = RECENT_MEMORIES
    pointers: int = OBJECT_POINTERS
    horizon: int = 24

    @property
    def name(self) -> str:
        """What it goes by in the provenance."""
        raise NotImplementedError("a GatedPolicy is one of its subclasses")

    @property
    def reach(self) -> int:
        """See `MemoryPolicy`."""
        return self.horizon

    def is_trusted(
        self, memory: Memory, memories_by_frame: Mapping[int, Memory], step: Step
    ) -> bool:
        """Whether a tracked memory is shown; `memories_by_frame` are those of the track by frame."""
        raise NotImplementedError("a GatedPolicy is one of its subclasses")

    def select(self, memories: Sequence[Memory], step: Step) -> list[MemoryReference]:
        """Conditioning frames in slot 0, then the last trusted ones in slots 1, 2, …, older ones by their pointer alone."""
        recalls = [
            MemoryReference(memory, 0, age if (age := _compute_age(memory, step)) >= 0 else None)
            for memory in memories
            if memory.conditioning and memory.frame != step.frame
        ]
        for slot, (memory, shown) in enumerate(self._select_candidates(memories, step), start=1):
            age = _compute_age(memory, step)
            pointer = age if shown and age < self.pointers else None
            if slot <= self.recent or pointer is not None:
                recalls.append(
                    MemoryReference(memory, slot if slot <= self.recent else None, pointer)
                )
        return recalls

    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        """Conditioning frames whole, the last trusted ones whole, of all others within the horizon what a gate may ask for."""
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
        """Tracked memories within the horizon, the last first, and whether each is trusted: all that are, and the very last."""
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
    """Trusts what is present and whose predicted IoU is at least `min_iou`."""

    min_iou: float = 0.6
    name: str = "score"

    def is_trusted(
        self, memory: Memory, memories_by_frame: Mapping[int, Memory], step: Step
    ) -> bool:
        """See `GatedPolicy`."""
        return memory.present and memory.iou >= self.min_iou


@dataclass(frozen=True)
class MotionPolicy(GatedPolicy):
    """Trusts what is where a constant velocity leads, within `gate` widths of the object: no look-alike next to it.

    A velocity is that of the two frames before; where these are not known, the object is expected
    where it was.
    """

    gate: float = 0.75
    name: str = "motion"

    def is_trusted(
        self, memory: Memory, memories_by_frame: Mapping[int, Memory], step: Step
    ) -> bool:
        """See `GatedPolicy`."""
        if memory.position is None:
            return False
        way = 1 if step.forward else -1
        last, before = (
            (
                earlier.position
                if (earlier := memories_by_frame.get(memory.frame - way * n))
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
    """Trusts every `stride`-th frame: memories of slow stacks differ more then, and reach further back."""

    stride: int = 3
    name: str = "strided"

    def is_trusted(
        self, memory: Memory, memories_by_frame: Mapping[int, Memory], step: Step
    ) -> bool:
        """See `GatedPolicy`."""
        return memory.frame % self.stride == 0


def _compute_age(memory: Memory, step: Step) -> int:
    """Frames a memory lies behind the walk; below 0 where it lies ahead."""
    back = step.frame - memory.frame
    return back if step.forward else -back


POLICIES: Registry[MemoryPolicy] = Registry("policies", PlanError)
"""Memory policies by name; other packages add theirs under the entry point group ``napari_sam2.policies``."""
POLICIES.register("sam2", Sam2Policy)
POLICIES.register("score", ScorePolicy)
POLICIES.register("motion", MotionPolicy)
POLICIES.register("strided", StridedPolicy)
