"""The propagation loop: one step per frame, all tracks of a frame in one model call."""

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
    """The model, memory policy, embeddings and segment store of a propagation.

    `memory_banks` are those of corrections since the last propagation, which can reuse their
    memories.
    """

    model: VideoModel
    policy: MemoryPolicy
    embedding_cache: EmbeddingCache
    segment_store: SegmentStore
    memory_banks: dict[int, MemoryBank] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PropagationStep:
    """A finished step, number `position` of `total`, and its new segments."""

    position: int
    total: int
    step: Step
    segments: tuple[Segment, ...]


def propagate(
    context: PropagationContext, plan: Propagation, *, entry: int, patience: int | None
) -> Iterator[PropagationStep]:
    """Execute a plan frame by frame, continuing where an earlier run of the same entry stopped.

    Each step is stored before it is yielded. Prompted and locked frames stay as they are.

    Parameters
    ----------
    entry
        Index of the plan in the log.
    patience
        See `SessionSettings`.
    """
    steps = list(plan.iterate_steps())
    active = ActiveTracks(plan, patience)
    banks: dict[int, MemoryBank] = {}
    older = dict(context.memory_banks)
    context.memory_banks.clear()
    done = context.segment_store.load_state(entry)
    if done:
        active.restore_state(done["walkers"])  # the name in files of all versions
    for position in range(done["position"] if done else 0, len(steps)):
        step = steps[position]
        next_step = steps[position + 1] if position + 1 < len(steps) else None
        started = set(active.start(step))
        tracks = active.get_tracks(step)
        for track in tracks:
            if track in started or track not in banks:
                banks[track] = load_memory_bank(
                    context, step, track, banks.get(track) or older.pop(track, None)
                )
        segments = _propagate_step(
            context, step, {track: banks[track] for track in tracks}, active, next_step
        )
        state = {"position": position + 1, "total": len(steps), "walkers": active.export_state()}
        context.segment_store.put(segments, entry, forward=step.forward, state=state)
        yield PropagationStep(position + 1, len(steps), step, tuple(segments))


def load_memory_bank(
    context: PropagationContext, step: Step, track: int, previous: MemoryBank | None = None
) -> MemoryBank:
    """The bank of a track that starts at this step: conditioning and previous memories."""
    bank = MemoryBank.of(context.segment_store, track)
    bank.load_previous(context.segment_store, step, context.policy.reach)
    bank.reuse_features(previous)
    return bank


def select_memories(
    context: PropagationContext, step: Step, memory_banks: Mapping[int, MemoryBank]
) -> dict[int, tuple[MemoryReference, ...]]:
    """The memories each track gets on this step; missing features are encoded again."""
    chosen = {
        track: context.policy.select(bank.memories, step) for track, bank in memory_banks.items()
    }
    _reencode_memories(context, memory_banks, chosen)
    return {track: memory_banks[track].fill_features(each) for track, each in chosen.items()}


def _propagate_step(
    context: PropagationContext,
    step: Step,
    memory_banks: Mapping[int, MemoryBank],
    active_tracks: ActiveTracks,
    next_step: Step | None,
) -> list[Segment]:
    """Segment the tracks of one step and encode their memories, without conditioning frames."""
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
    references = select_memories(context, step, free)
    segments = context.model.segment(
        embedding,
        [
            Query(
                track,
                memory_references=references[track],
                video_length=context.embedding_cache.length,
            )
            for track in free
        ],
    )
    for segment, features in zip(
        segments, context.model.encode_memory(embedding, segments), strict=True
    ):
        free[segment.track].add(segment, features)
        free[segment.track].retain(context.policy, step)
        _update_active_track(context, step, segment, active_tracks)
    return segments


def _update_active_track(
    context: PropagationContext, step: Step, segment: Segment, active_tracks: ActiveTracks
) -> None:
    """Register a segment; compare it with the stored one if its track may stop early."""
    old = record = None
    if active_tracks.can_stop_when_unchanged(segment.track, step):
        old = context.segment_store.get(segment.track, step.frame)
        record = context.segment_store.get_record(segment.track, step.frame) if old else None
    reversed_direction = record is not None and record.forward not in (None, step.forward)
    active_tracks.update(step, segment, old, reversed_direction=reversed_direction)


def _reencode_memories(
    context: PropagationContext,
    memory_banks: Mapping[int, MemoryBank],
    references: Mapping[int, Sequence[MemoryReference]],
) -> None:
    """Encode the missing features of selected memories, all tracks of a frame together."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for track, selected in references.items():
        for each in selected:
            if each.slot is not None and each.memory.features is None:
                wanted[each.memory.frame].append(track)
    for frame, tracks in sorted(wanted.items()):
        segments = [
            segment for track in tracks if (segment := context.segment_store.get(track, frame))
        ]
        made = context.model.encode_memory(context.embedding_cache.get(frame), segments)
        for segment, features in zip(segments, made, strict=True):
            memory_banks[segment.track].update_features(frame, features)
