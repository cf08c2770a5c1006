"""Session: one Video, one model, one PromptLog. Prompt, carry, correct, undo."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

import numpy as np

from napari_sam2.core.byte_limited_cache import DEFAULT_BYTES
from napari_sam2.core.errors import ModelError, PlanError, PromptError
from napari_sam2.core.plan import Direction, Propagation, PropagationRange, Step
from napari_sam2.core.prompt import FramePrompts, Lock, Prompt, PromptLog, Removal, check_prompt
from napari_sam2.core.protocols import MemoryPolicy, VideoModel
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.sam2_constants import MAX_PREVIOUS_LOGIT
from napari_sam2.core.stack import Video
from napari_sam2.core.track import Presence, Track
from napari_sam2.propagation.embedding_cache import EmbeddingCache
from napari_sam2.propagation.embedding_disk_cache import EmbeddingDiskCache
from napari_sam2.propagation.memory_policies import Sam2Policy
from napari_sam2.propagation.overlaps import choose_label_dtype, compose_label_plane
from napari_sam2.propagation.propagate import (
    PropagationContext,
    PropagationStep,
    load_memory_bank,
    propagate,
    select_memories,
)
from napari_sam2.propagation.run import Progress, Run
from napari_sam2.propagation.segment_store import SegmentRecord, SegmentStore

EMBEDDINGS_FOLDER = "embeddings"
"""Folder of what was made of frames; it may be removed, and is made again."""


@dataclass(frozen=True)
class SessionSettings:
    """How a Session keeps and walks.

    Parameters
    ----------
    patience
        Frames in a row a track may be absent before it leaves the walk; None: it walks to the end.
    embedding_bytes
        Memory that image features may take.
    folder
        Where results are kept so that a killed session can be resumed; a temporary file where None.
    embedding_disk_bytes
        Disk that they may take in `folder` too: corrections in long stacks, or days later, encode
        nothing again. 0: none is kept there.
    """

    patience: int | None = 8
    embedding_bytes: int = DEFAULT_BYTES
    folder: Path | None = None
    embedding_disk_bytes: int = 0


class Session:
    """Prompts on one Video, answered and carried by one model.

    Parameters
    ----------
    video, model
        What is looked at, and who looks.
    policy
        Which memories are shown; SAM 2's own rule, sized by the model's card, where not given.
    settings
        See `SessionSettings`.
    on_log_change
        Called with each new log, before anything is carried: to save it.

    Results are read per frame (`label_plane`, `segments`), so nothing ever holds the whole stack.
    """

    def __init__(
        self,
        video: Video,
        model: VideoModel,
        *,
        policy: MemoryPolicy | None = None,
        settings: SessionSettings | None = None,
        on_log_change: Callable[[PromptLog], None] | None = None,
    ) -> None:
        self.video = video
        self.model = model
        self.settings = settings or SessionSettings()
        self.policy = policy or Sam2Policy(
            recent=model.card.memory_slots - 1, pointers=model.card.pointers
        )
        folder = self.settings.folder
        if self.settings.embedding_disk_bytes and folder is None:
            raise PlanError("embedding_disk_bytes needs a folder: give Settings(folder=…)")
        self._segment_store = SegmentStore(folder / "trail.sqlite" if folder else None)
        self._create_context()
        self._log = PromptLog()
        self._on_log_change = on_log_change

    @property
    def log(self) -> PromptLog:
        """All that was said so far."""
        return self._log

    @property
    def unfinished(self) -> bool:
        """Whether the last thing that happened is a propagation that was cancelled or killed."""
        last = len(self.log) - 1
        return (
            last >= 0
            and isinstance(self.log.entries[last], Propagation)
            and not self._is_finished(last)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of memory, threads and files; what is in a folder stays there."""
        self._embedding_cache.close()
        self._segment_store.close()

    def reconnect_model(self, model: VideoModel) -> None:
        """Go on with the same model loaded anew, where the one that was used is gone, as with a worker elsewhere that died.

        Nothing that was said or answered is lost; image features and memories are made again as
        they are wanted. A propagation that was broken off goes on with `run`. Raises ModelError for
        another model.
        """
        if model.card.inference_identity != self.model.card.inference_identity:
            raise ModelError(
                f"{model.card.name} is another model, or looks or computes another way, than "
                f"{self.model.card.name}: expected the same"
            )
        self._embedding_cache.close()
        self.model = model
        self._create_context()

    def prompt(self, prompt: Prompt) -> Segment:
        """Answer one prompt: the mask of that track on that frame, with the other masks the model offers.

        Raises PromptError for a prompt outside the video.
        """
        return self.prompt_many([prompt])[0]

    def prompt_many(self, prompts: Iterable[Prompt]) -> list[Segment]:
        """Answer many prompts, those of one frame together: the same answers as one by one, sooner."""
        given = list(prompts)
        for prompt in given:
            check_prompt(prompt, self.video.shape)
        answers: dict[int, Segment] = {}
        for places in _group_prompts(given):
            log, first = self.log.add(*(given[place] for place in places)), len(self.log)
            segments = self._segment_prompts(log, [given[place] for place in places])
            self._segment_store.put_prompted(segments, first)
            self._set_log(log)
            answers.update(zip(places, segments, strict=True))
        return [answers[place] for place in range(len(given))]

    def describe(self, *tracks: Track) -> None:
        """Name tracks, give them a category or a parent."""
        self._set_log(self.log.describe(*tracks))

    def lock(self, track: int, frame: int, *, locked: bool = True) -> None:
        """Accept what a track is on a frame: no propagation overwrites it, and others are conditioned on it."""
        segment = self._segment_store.get(track, frame)
        if segment is None:
            raise PromptError(
                "nothing to lock: the track was never carried to this frame",
                track=track,
                frame=frame,
            )
        said = frame in self.log.prompted_frames(track)
        presence = (
            Presence.LOCKED
            if locked
            else Presence.PROMPTED
            if said
            else Presence.TRACKED
            if segment.present
            else Presence.ABSENT
        )
        self._segment_store.put_prompted([replace(segment, presence=presence)], len(self.log))
        self._set_log(self.log.add(Lock(frame, track, locked)))

    def remove(self, track: int) -> None:
        """Take a track out of the result; `undo` brings it back as it was."""
        if track not in self.log.track_ids:
            raise PromptError(
                f"is not there: expected one of {list(self.log.track_ids)!r}", track=track
            )
        self._set_log(self.log.add(Removal(track)))

    def undo(self) -> bool:
        """Take back the last prompt, lock or removal and what was carried since; False where there is nothing to undo."""
        shorter = self.log.without_last()
        if len(shorter) == len(self.log):
            return False
        self._segment_store.delete_from(len(shorter))
        self._set_log(shorter)
        return True

    def replay(
        self,
        log: PromptLog,
        *,
        steps_done: Mapping[int, int] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Do again all that a log says; on a session that was resumed, only what is not there yet.

        `steps_done` are propagations that were cancelled, by log entry, and the steps each had done:
        they are cancelled there again, for what was said next depends on how far they came.

        Raises PromptError where this session's log is not the beginning of that one.
        """
        if log.entries[: len(self.log)] != self.log.entries:
            raise PromptError(
                "this session holds other prompts: start a new one to replay that log"
            )
        if self.unfinished:
            _execute_run(self.run(), (steps_done or {}).get(len(self.log) - 1), progress)
        pending: list[Prompt] = []
        for entry in log.entries[len(self.log) :]:
            if isinstance(entry, Prompt):
                pending.append(entry)
                continue
            self.prompt_many(pending)
            pending = []
            if isinstance(entry, Lock):
                self.lock(entry.track, entry.frame, locked=entry.locked)
            elif isinstance(entry, Removal):
                self.remove(entry.track)
            else:
                _execute_run(self.run(entry), (steps_done or {}).get(len(self.log) - 1), progress)
        self.prompt_many(pending)
        self._set_log(replace(self.log, tracks=log.tracks))

    def plan(
        self,
        *,
        direction: Direction = "both",
        frames: tuple[int, int] | None = None,
        tracks: Sequence[int] | None = None,
        from_first_prompt: bool = False,
    ) -> Propagation:
        """What there is to carry: new tracks both ways from their first prompt, corrected ones both ways from the correction.

        `from_first_prompt`: all of them from their first prompt, also where they were carried before.

        Raises PlanError where nothing was prompted, or a track is asked for that was not.
        """
        known = self.log.track_ids
        if not known:
            raise PlanError("nothing to carry: prompt an object on one frame first")
        unknown = sorted(set(tracks or ()) - set(known))
        if unknown:
            raise PlanError(f"tracks {unknown!r} have no prompt: expected some of {list(known)!r}")
        wanted = known if tracks is None else tuple(tracks)
        carried = {} if from_first_prompt else self._find_propagated()
        fresh = {track: [self.log.first_frame(track)] for track in wanted if track not in carried}
        corrected = {
            track: places
            for track, places in self._find_corrections(carried).items()
            if track in wanted
        }
        legs: list[PropagationRange] = []
        for starts, settles in ((fresh, False), (corrected, True)):
            part = Propagation.outward(
                starts,
                length=len(self.video),
                direction=direction,
                frames=frames,
                stop_when_unchanged=settles,
            )
            legs += part.ranges
        return Propagation(tuple(legs))

    def run(self, plan: Propagation | None = None) -> Run:
        """A Run that carries out `plan`; where none is given, what a cancelled or killed one has left, else `self.plan()`."""
        return Run(*self._start_propagation(plan))

    def resume(self, log: PromptLog) -> None:
        """Take up a log whose answers lie in this session's folder; answers to more than it says are forgotten."""
        self._log = log
        self._segment_store.delete_from(len(log))

    def find_resumable_log(self, log: PromptLog) -> PromptLog:
        """The beginning of a log whose answers lie in this session's folder: what `resume` can take up, the rest being replayed."""
        count = self._segment_store.count_entries()
        while 0 < count < len(log) and isinstance(log.entries[count], Propagation):
            count += 1  # it was cancelled before its first frame
        return replace(log, entries=log.entries[:count])

    def segments(self, frame: int) -> list[Segment]:
        """The answers of all tracks on a frame that were not removed, ascending by track."""
        removed = self.log.removed
        return [
            segment
            for segment in self._segment_store.get_frame(frame)
            if segment.track not in removed
        ]

    def label_plane(self, frame: int) -> np.ndarray:
        """(H, W) labels of a frame, overlaps settled, uint16 or uint32.

        Masks that were drawn come out as they were drawn.
        """
        dtype = choose_label_dtype(max(self.log.track_ids, default=0))
        return compose_label_plane(
            self.segments(frame),
            self.video.shape[1:],
            drawn_masks=self.log.drawn_masks(frame),
            dtype=dtype,
        )

    def records(self) -> dict[tuple[int, int], SegmentRecord]:
        """Presence and score by (track, frame) of the tracks that were not removed."""
        removed = self.log.removed
        return {
            key: trace
            for key, trace in self._segment_store.get_records().items()
            if key[0] not in removed
        }

    def _create_context(self) -> None:
        """What walks stand on, with nothing kept yet of what the model makes."""
        folder, most = self.settings.folder, self.settings.embedding_disk_bytes
        disk = (
            EmbeddingDiskCache(folder / EMBEDDINGS_FOLDER, self.video, self.model.card, most)
            if folder and most
            else None
        )
        self._embedding_cache = EmbeddingCache(
            self.video, self.model, budget=self.settings.embedding_bytes, disk_cache=disk
        )
        self._context = PropagationContext(
            self.model, self.policy, self._embedding_cache, self._segment_store
        )

    def _start_propagation(
        self, plan: Propagation | None
    ) -> tuple[Propagation, Iterator[PropagationStep]]:
        """The plan to carry out, noted in the log, and its steps."""
        if plan is None and self.unfinished:
            plan = cast(Propagation, self.log.entries[-1])
        else:
            plan = plan or self.plan()
            if plan.ranges:
                self._set_log(self.log.add(plan))
        return plan, propagate(
            self._context, plan, entry=len(self.log) - 1, patience=self.settings.patience
        )

    def _set_log(self, log: PromptLog) -> None:
        self._log = log
        if self._on_log_change:
            self._on_log_change(log)

    def _segment_prompts(self, log: PromptLog, prompts: Sequence[Prompt]) -> list[Segment]:
        """One answer for each of these prompts, which are on one frame and of different tracks."""
        frame = prompts[0].frame
        queries = [
            self._make_query(prompt.track, frame, log.frame_prompts(prompt.track, frame))
            for prompt in prompts
        ]
        return list(self.model.segment(self._embedding_cache.get(frame), queries))

    def _make_query(self, track: int, frame: int, frame_prompts: FramePrompts) -> Query:
        before = None if frame_prompts.replaces_previous else self._segment_store.get(track, frame)
        logits = (
            None
            if before is None or frame_prompts.mask is not None
            else np.clip(before.logits, -MAX_PREVIOUS_LOGIT, MAX_PREVIOUS_LOGIT)
        )
        forward = self._find_direction(track, frame)
        window = None if before is None or logits is None else before.window
        if (
            forward is None or frame_prompts.mask is not None or frame_prompts.replaces_previous
        ):  # never tracked, or not like that: answered without memory
            return Query(track, frame_prompts, logits=logits, window=window)
        step, banks = Step(frame, forward, (track,)), self._context.memory_banks
        banks[track] = load_memory_bank(self._context, step, track, banks.get(track))
        recalls = select_memories(self._context, step, {track: banks[track]})[track]
        return Query(track, frame_prompts, recalls, logits, window, video_length=len(self.video))

    def _find_direction(self, track: int, frame: int) -> bool | None:
        """The way a track was walked over a frame; None where it never was."""
        trace = self._segment_store.get_record(track, frame)
        if trace is None or trace.forward is not None:
            return None if trace is None else trace.forward
        for entry in self.log.entries:
            if isinstance(entry, Propagation):
                for leg in entry.ranges:
                    if leg.track == track and (frame == leg.start or frame in leg.frames):
                        return leg.forward
        return None

    def _find_propagated(self) -> dict[int, int]:
        """The log entry of the last finished propagation of each track."""
        last = {}
        for number, entry in enumerate(self.log.entries):
            if isinstance(entry, Propagation) and self._is_finished(number):
                last.update(dict.fromkeys(entry.tracks, number))
        return last

    def _find_corrections(self, propagated: Mapping[int, int]) -> dict[int, list[int]]:
        """Frames by track that were prompted since the track was last carried, ascending."""
        frames: dict[int, set[int]] = defaultdict(set)
        for number, entry in enumerate(self.log.entries):
            if isinstance(entry, Prompt) and number > propagated.get(entry.track, number):
                frames[entry.track].add(entry.frame)
        return {track: sorted(places) for track, places in frames.items()}

    def _is_finished(self, entry_index: int) -> bool:
        """Whether every step of the propagation that is log entry `entry_index` is done."""
        entry, state = self.log.entries[entry_index], self._segment_store.load_state(entry_index)
        if state is None:
            return isinstance(entry, Propagation) and not any(leg.frames for leg in entry.ranges)
        return bool(state["position"] >= state["total"])


def _execute_run(run: Run, max_steps: int | None, progress: Progress | None) -> None:
    """Carry out a Run, as far as `max_steps` steps where that is given."""
    if max_steps == 0:
        return
    for stepped in run:
        if progress:
            progress(stepped)
        if max_steps is not None and stepped.position >= max_steps:
            run.cancel()


def _group_prompts(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Places of prompts that can be answered together: one frame, each track once, the order of each track kept."""
    rounds: list[list[int]] = []
    open_rounds: dict[int, int] = {}
    latest: dict[int, int] = {}
    for place, prompt in enumerate(prompts):
        number = open_rounds.get(prompt.frame)
        if number is None or latest.get(prompt.track, -1) >= number:
            number = len(rounds)
            rounds.append([])
            open_rounds[prompt.frame] = number
        rounds[number].append(place)
        latest[prompt.track] = number
    return rounds
