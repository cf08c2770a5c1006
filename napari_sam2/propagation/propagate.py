"""Walk: the propagation loop.

One step is one frame; all tracks of a frame go through the model together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from napari_sam2.core.plan import Propagation, Step
from napari_sam2.core.protocols import MemoryPolicy, VideoModel
from napari_sam2.core.result import MemoryReference, Query, Segment
from napari_sam2.propagation.active_tracks import ActiveTracks
from napari_sam2.propagation.embedding_cache import EmbeddingCache
from napari_sam2.propagation.memory_bank import MemoryBank
from napari_sam2.propagation.segment_store import SegmentStore


@dataclass(frozen=True)
class PropagationContext:
    """What a walk stands on: the model, the rule of its memory, the frames, and where it leaves its answers.

    `memory_banks` are those of corrections answered since the last walk, which will want the same
    memories.
    """

    model: VideoModel
    policy: MemoryPolicy
    embedding_cache: EmbeddingCache
    segment_store: SegmentStore
    memory_banks: dict[int, MemoryBank] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PropagationStep:
    """One step done: `position` of `total`, the Step, and the new Segments (none where nothing was left to compute)."""

    position: int
    total: int
    step: Step
    segments: tuple[Segment, ...]


def propagate(
    context: PropagationContext, plan: Propagation, *, entry: int, patience: int | None
) -> Iterator[PropagationStep]:
    """Carry out a plan as log entry `entry`, frame by frame; it goes on where an earlier walk of that entry stopped.

    Each step is on disk before it is yielded. Prompted and locked frames stay as they are.
    """
    steps = list(plan.steps())
    walkers = ActiveTracks(plan, patience)
    banks: dict[int, MemoryBank] = {}
    older = dict(context.memory_banks)
    context.memory_banks.clear()
    done = context.segment_store.load_state(entry)
    if done:
        walkers.restore_state(done["walkers"])
    for position in range(done["position"] if done else 0, len(steps)):
        step, after = steps[position], steps[position + 1] if position + 1 < len(steps) else None
        begun = set(walkers.start(step))
        tracks = walkers.get_tracks(step)
        for track in tracks:
            if track in begun or track not in banks:
                banks[track] = load_memory_bank(
                    context, step, track, banks.get(track) or older.pop(track, None)
                )
        segments = _propagate_step(
            context, step, {track: banks[track] for track in tracks}, walkers, after
        )
        state = {"position": position + 1, "total": len(steps), "walkers": walkers.export_state()}
        context.segment_store.put(segments, entry, forward=step.forward, state=state)
        yield PropagationStep(position + 1, len(steps), step, tuple(segments))


def load_memory_bank(
    context: PropagationContext, step: Step, track: int, previous: MemoryBank | None = None
) -> MemoryBank:
    """The bank of a track that comes to this step: conditioning memories, and what lies behind."""
    bank = MemoryBank.of(context.segment_store, track)
    bank.load_previous(context.segment_store, step, context.policy.reach)
    bank.reuse_features(previous)
    return bank


def select_memories(
    context: PropagationContext, step: Step, memory_banks: Mapping[int, MemoryBank]
) -> dict[int, tuple[MemoryReference, ...]]:
    """What each track is shown on this step; features that are not held are made again from the Trail."""
    chosen = {
        track: context.policy.select(bank.memories, step) for track, bank in memory_banks.items()
    }
    _reencode_memories(context, memory_banks, chosen)
    return {track: memory_banks[track].fill_features(recalls) for track, recalls in chosen.items()}


def _propagate_step(
    context: PropagationContext,
    step: Step,
    memory_banks: Mapping[int, MemoryBank],
    active_tracks: ActiveTracks,
    next_step: Step | None,
) -> list[Segment]:
    """The new answers of one step, remembered; tracks that stay as they are on this frame have none."""
    free = {
        track: bank for track, bank in memory_banks.items() if not bank.is_conditioning(step.frame)
    }
    for track in memory_banks.keys() - free.keys():
        active_tracks.pass_conditioning_frame(step, track)
    if not free:
        return []
    embedding = context.embedding_cache.get(
        step.frame, next_frame=next_step.frame if next_step else None
    )
    recalls = select_memories(context, step, free)
    segments = context.model.segment(
        embedding,
        [
            Query(
                track, memory_references=recalls[track], video_length=context.embedding_cache.length
            )
            for track in free
        ],
    )
    for segment, features in zip(
        segments, context.model.encode_memory(embedding, segments), strict=True
    ):
        free[segment.track].add(segment, features)
        free[segment.track].retain(context.policy, step)
        old = (
            context.segment_store.get(segment.track, step.frame)
            if active_tracks.can_stop_when_unchanged(segment.track, step)
            else None
        )
        trace = context.segment_store.get_record(segment.track, step.frame) if old else None
        turned = trace is not None and trace.forward is not None and trace.forward != step.forward
        active_tracks.update(step, segment, old, reversed_direction=turned)
    return segments


def _reencode_memories(
    context: PropagationContext,
    memory_banks: Mapping[int, MemoryBank],
    references: Mapping[int, Sequence[MemoryReference]],
) -> None:
    """Make the features that are shown but not held, all tracks of a frame together."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for track, recalls in references.items():
        for each in recalls:
            if each.slot is not None and each.memory.features is None:
                wanted[each.memory.frame].append(track)
    for frame, tracks in sorted(wanted.items()):
        segments = [
            segment for track in tracks if (segment := context.segment_store.get(track, frame))
        ]
        made = context.model.encode_memory(context.embedding_cache.get(frame), segments)
        for segment, features in zip(segments, made, strict=True):
            memory_banks[segment.track].update_features(frame, features)
