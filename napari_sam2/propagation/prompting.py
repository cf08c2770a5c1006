"""Answering prompts: with or without memory, and with or without the previous mask."""

from __future__ import annotations

from collections.abc import Sequence

from napari_sam2.core.plan import Propagation, Step
from napari_sam2.core.prompt import Prompt, PromptLog
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.sam2_constants import MAX_PREVIOUS_LOGIT
from napari_sam2.propagation.propagate import (
    PropagationContext,
    load_memory_bank,
    select_memories,
)


def segment_prompts(
    context: PropagationContext, log: PromptLog, prompts: Sequence[Prompt]
) -> list[Segment]:
    """One segment per prompt; all prompts are on one frame, each of another track."""
    frame = prompts[0].frame
    queries = [_make_query(context, log, prompt.track, frame) for prompt in prompts]
    return list(context.model.segment(context.embedding_cache.get(frame), queries))


def group_prompts(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Indices of prompts that can be answered together, in the order to answer them.

    The prompts of a group are on one frame, at most one of each track. The prompts of each track
    stay in order.
    """
    groups: list[list[int]] = []
    open_groups: dict[int, int] = {}
    latest: dict[int, int] = {}
    for index, prompt in enumerate(prompts):
        number = open_groups.get(prompt.frame)
        if number is None or latest.get(prompt.track, -1) >= number:
            number = len(groups)
            groups.append([])
            open_groups[prompt.frame] = number
        groups[number].append(index)
        latest[prompt.track] = number
    return groups


def _make_query(context: PropagationContext, log: PromptLog, track: int, frame: int) -> Query:
    """The query for all prompts of a track on a frame.

    A correction comes with the previous logits. Memory is used only on a frame the track was
    propagated over, and not with a mask, which needs none.
    """
    prompts = log.combine_prompts(track, frame)
    previous = None if prompts.replaces_previous else context.segment_store.get(track, frame)
    if prompts.mask is not None:
        previous = None
    logits = (
        None if previous is None else previous.logits.clip(-MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT)
    )
    window = None if previous is None else previous.window
    forward = _find_direction(context, log, track, frame)
    if forward is None or prompts.mask is not None or prompts.replaces_previous:
        return Query(track, prompts, logits=logits, window=window)
    step, banks = Step(frame, forward, (track,)), context.memory_banks
    banks[track] = load_memory_bank(context, step, track, banks.get(track))
    references = select_memories(context, step, {track: banks[track]})[track]
    length = context.embedding_cache.length
    return Query(track, prompts, references, logits, window, video_length=length)


def _find_direction(
    context: PropagationContext, log: PromptLog, track: int, frame: int
) -> bool | None:
    """Whether a track was propagated over a frame forward; None if it never was."""
    record = context.segment_store.get_record(track, frame)
    if record is None or record.forward is not None:
        return None if record is None else record.forward
    for entry in log.entries:
        if isinstance(entry, Propagation):
            for each in entry.ranges:
                if each.track == track and (frame == each.start or frame in each.frames):
                    return each.forward
    return None
