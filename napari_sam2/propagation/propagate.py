"""Walk: the propagation loop.

One step is one frame; all tracks of a frame go through the model together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from napari_sam2.core.plan import Propagation, Step
from napari_sam2.core.protocols import MemoryPolicy, VideoModel
from napari_sam2.core.result import Query, Recall, Segment
from napari_sam2.propagation.active_tracks import Walkers
from napari_sam2.propagation.embedding_cache import Embeddings
from napari_sam2.propagation.memory_bank import Bank
from napari_sam2.propagation.segment_store import Trail


@dataclass(frozen=True)
class Ground:
    """What a walk stands on: the model, the rule of its memory, the frames, and where it leaves its answers.

    `banks` are those of corrections answered since the last walk, which will want the same
    memories.
    """

    model: VideoModel
    policy: MemoryPolicy
    embeddings: Embeddings
    trail: Trail
    banks: dict[int, Bank] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Stepped:
    """One step done: `position` of `total`, the Step, and the new Segments (none where nothing was left to compute)."""

    position: int
    total: int
    step: Step
    segments: tuple[Segment, ...]


def walk(
    ground: Ground, plan: Propagation, *, entry: int, patience: int | None
) -> Iterator[Stepped]:
    """Carry out a plan as log entry `entry`, frame by frame; it goes on where an earlier walk of that entry stopped.

    Each step is on disk before it is yielded. Prompted and locked frames stay as they are.
    """
    steps = list(plan.steps())
    walkers = Walkers(plan, patience)
    banks: dict[int, Bank] = {}
    older = dict(ground.banks)
    ground.banks.clear()
    done = ground.trail.state(entry)
    if done:
        walkers.restore(done["walkers"])
    for position in range(done["position"] if done else 0, len(steps)):
        step, after = steps[position], steps[position + 1] if position + 1 < len(steps) else None
        begun = set(walkers.begin(step))
        tracks = walkers.on(step)
        for track in tracks:
            if track in begun or track not in banks:
                banks[track] = bank_behind(
                    ground, step, track, banks.get(track) or older.pop(track, None)
                )
        segments = _step(ground, step, {track: banks[track] for track in tracks}, walkers, after)
        state = {"position": position + 1, "total": len(steps), "walkers": walkers.state()}
        ground.trail.put(segments, entry, forward=step.forward, state=state)
        yield Stepped(position + 1, len(steps), step, tuple(segments))


def bank_behind(ground: Ground, step: Step, track: int, older: Bank | None = None) -> Bank:
    """The bank of a track that comes to this step: conditioning memories, and what lies behind."""
    bank = Bank.of(ground.trail, track)
    bank.load_behind(ground.trail, step, ground.policy.reach)
    bank.adopt(older)
    return bank


def recall(ground: Ground, step: Step, banks: Mapping[int, Bank]) -> dict[int, tuple[Recall, ...]]:
    """What each track is shown on this step; features that are not held are made again from the Trail."""
    chosen = {track: ground.policy.select(bank.memories, step) for track, bank in banks.items()}
    _remember_again(ground, banks, chosen)
    return {track: banks[track].filled(recalls) for track, recalls in chosen.items()}


def _step(
    ground: Ground, step: Step, banks: Mapping[int, Bank], walkers: Walkers, after: Step | None
) -> list[Segment]:
    """The new answers of one step, remembered; tracks that stay as they are on this frame have none."""
    free = {track: bank for track, bank in banks.items() if not bank.conditioned(step.frame)}
    for track in banks.keys() - free.keys():
        walkers.passed(step, track)
    if not free:
        return []
    embedding = ground.embeddings.get(step.frame, ahead=after.frame if after else None)
    recalls = recall(ground, step, free)
    segments = ground.model.segment(
        embedding,
        [Query(track, recalls=recalls[track], length=ground.embeddings.length) for track in free],
    )
    for segment, features in zip(segments, ground.model.remember(embedding, segments), strict=True):
        free[segment.track].keep(segment, features)
        free[segment.track].retain(ground.policy, step)
        old = (
            ground.trail.get(segment.track, step.frame)
            if walkers.settles(segment.track, step)
            else None
        )
        trace = ground.trail.trace(segment.track, step.frame) if old else None
        turned = trace is not None and trace.forward is not None and trace.forward != step.forward
        walkers.met(step, segment, old, turned=turned)
    return segments


def _remember_again(
    ground: Ground, banks: Mapping[int, Bank], chosen: Mapping[int, Sequence[Recall]]
) -> None:
    """Make the features that are shown but not held, all tracks of a frame together."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for track, recalls in chosen.items():
        for each in recalls:
            if each.slot is not None and each.memory.features is None:
                wanted[each.memory.frame].append(track)
    for frame, tracks in sorted(wanted.items()):
        segments = [segment for track in tracks if (segment := ground.trail.get(track, frame))]
        made = ground.model.remember(ground.embeddings.get(frame), segments)
        for segment, features in zip(segments, made, strict=True):
            banks[segment.track].refresh(frame, features)
