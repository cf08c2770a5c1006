"""Memory policies: which memories are shown on a step, and which are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_sam2.core.errors import PlanError
from napari_sam2.core.plan import Step
from napari_sam2.core.protocols import MemoryPolicy
from napari_sam2.core.registry import Registry
from napari_sam2.core.result import Memory, Recall


@dataclass(frozen=True)
class Sam2Policy:
    """SAM 2's own rule (Ravi et al. 2024, section 4; its predictor's ``_prepare_memory_conditioned_features``).

    Every conditioning frame (the `conditioning` nearest ones, where limited), the last `recent` tracked frames in the
    walk's direction, and the object pointers of the last `pointers` frames; pointers of conditioning frames only where
    they lie behind the walk.
    """

    recent: int = 6
    pointers: int = 16
    conditioning: int | None = None
    name: str = "sam2"

    @property
    def reach(self) -> int:
        """Frames back in the walk's direction beyond which a tracked memory is never selected."""
        return max(self.recent, self.pointers - 1)

    def select(self, memories: Sequence[Memory], step: Step) -> list[Recall]:
        """Conditioning frames in slot 0, the n-th tracked frame back in slot n, older ones by their pointer alone.

        The frame asked about is not among them, also where it was prompted before: that answer comes as logits.
        """
        chosen = self._conditioning([memory for memory in memories if memory.frame != step.frame], step.frame)
        recalls = []
        for memory in chosen:
            age = _age(memory, step)
            recalls.append(Recall(memory, 0, age if age >= 0 else None))
        conditioned = {memory.frame for memory in chosen}
        for memory in memories:
            age = _age(memory, step)
            if memory.frame not in conditioned and 1 <= age <= self.reach:
                recalls.append(Recall(memory, age if age <= self.recent else None, age if age < self.pointers else None))
        return recalls

    def retain(self, memories: Sequence[Memory], step: Step) -> list[Memory]:
        """Conditioning frames whole, the last `recent` ones whole, pointers of the last `pointers`; nothing else."""
        kept = []
        for memory in memories:
            age = _age(memory, step)
            if memory.conditioning or 0 <= age < self.recent:
                kept.append(memory)
            elif 0 <= age < self.reach:
                kept.append(memory.without_features())
        return kept

    def _conditioning(self, memories: Sequence[Memory], frame: int) -> list[Memory]:
        found = [memory for memory in memories if memory.conditioning]
        if self.conditioning is None or len(found) <= self.conditioning:
            return found
        nearest = sorted(found, key=lambda memory: (abs(memory.frame - frame), memory.frame))[: self.conditioning]
        return sorted(nearest, key=lambda memory: memory.frame)


def _age(memory: Memory, step: Step) -> int:
    """Frames a memory lies behind the walk; below 0 where it lies ahead."""
    back = step.frame - memory.frame
    return back if step.forward else -back


POLICIES: Registry[MemoryPolicy] = Registry("policies", PlanError)
"""Memory policies by name; other packages add theirs under the entry point group ``napari_sam2.policies``."""
POLICIES.register("sam2", Sam2Policy)
