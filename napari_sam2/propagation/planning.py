"""Which tracks a propagation covers: the new ones, and those that were corrected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from napari_sam2.core.errors import PlanError
from napari_sam2.core.plan import Direction, Propagation, PropagationRange
from napari_sam2.core.prompt import Prompt, PromptLog
from napari_sam2.propagation.segment_store import SegmentStore


def plan_propagation(
    log: PromptLog,
    segment_store: SegmentStore,
    length: int,
    *,
    direction: Direction = "both",
    frames: tuple[int, int] | None = None,
    tracks: Sequence[int] | None = None,
    from_first_prompt: bool = False,
) -> Propagation:
    """The plan of a propagation through a video of `length` frames; see `Session.plan`.

    New tracks propagate from their first prompt. Corrected tracks propagate from the correction,
    and may stop as soon as their masks do not change any more.

    Raises
    ------
    PlanError
        No object was prompted, or one of the tracks was not.
    """
    known = log.track_ids
    if not known:
        raise PlanError("nothing to propagate: prompt an object on one frame first")
    unknown = sorted(set(tracks or ()) - set(known))
    if unknown:
        raise PlanError(f"tracks {unknown!r} have no prompt: expected some of {list(known)!r}")
    wanted = known if tracks is None else tuple(tracks)
    propagated = {} if from_first_prompt else _find_propagated(log, segment_store)
    fresh = {track: [log.find_first_frame(track)] for track in wanted if track not in propagated}
    corrected = {
        track: places
        for track, places in _find_corrections(log, propagated).items()
        if track in wanted
    }
    ranges: list[PropagationRange] = []
    for starts, stop_when_unchanged in ((fresh, False), (corrected, True)):
        ranges += Propagation.outward(
            starts,
            length=length,
            direction=direction,
            frames=frames,
            stop_when_unchanged=stop_when_unchanged,
        ).ranges
    return Propagation(tuple(ranges))


def is_finished(log: PromptLog, segment_store: SegmentStore, entry_index: int) -> bool:
    """Whether every step of the propagation that is log entry `entry_index` is done."""
    entry, state = log.entries[entry_index], segment_store.load_state(entry_index)
    if state is None:
        return isinstance(entry, Propagation) and not any(each.frames for each in entry.ranges)
    return bool(state["position"] >= state["total"])


def _find_propagated(log: PromptLog, segment_store: SegmentStore) -> dict[int, int]:
    """The log entry of the last finished propagation of each track."""
    last = {}
    for number, entry in enumerate(log.entries):
        if isinstance(entry, Propagation) and is_finished(log, segment_store, number):
            last.update(dict.fromkeys(entry.tracks, number))
    return last


def _find_corrections(log: PromptLog, propagated: Mapping[int, int]) -> dict[int, list[int]]:
    """Ascending frames by track that were prompted after the track was last propagated."""
    frames: dict[int, set[int]] = defaultdict(set)
    for number, entry in enumerate(log.entries):
        if isinstance(entry, Prompt) and number > propagated.get(entry.track, number):
            frames[entry.track].add(entry.frame)
    return {track: sorted(places) for track, places in frames.items()}
