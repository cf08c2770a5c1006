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
from napari_sam2.core.plan import Direction, Leg, Propagation, Step
from napari_sam2.core.presence import Presence
from napari_sam2.core.prompt import Lock, Prompt, PromptLog, Removal, Said, check_prompt
from napari_sam2.core.protocols import MemoryPolicy, VideoModel
from napari_sam2.core.result import Query, Segment
from napari_sam2.core.track import Track
from napari_sam2.core.video import Video
from napari_sam2.propagation.embedding_cache import Embeddings
from napari_sam2.propagation.embedding_disk_cache import Disk
from napari_sam2.propagation.memory_policies import Sam2Policy
from napari_sam2.propagation.overlaps import label_plane, label_type
from napari_sam2.propagation.propagate import Ground, Stepped, bank_behind, recall, walk
from napari_sam2.propagation.run import Progress, Run
from napari_sam2.propagation.segment_store import Trace, Trail

# SAM 2 clamps the previous logits it is shown with a correction (its ``add_new_points_or_box``)
LOGIT_CLAMP = 32.0

EMBEDDINGS = "embeddings"
"""Folder of what was made of frames; it may be removed, and is made again."""


@dataclass(frozen=True)
class Settings:
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
        See `Settings`.
    noted
        Called with each new log, before anything is carried: to save it.

    Results are read per frame (`plane`, `segments`), so nothing ever holds the whole stack.
    """

    def __init__(
        self,
        video: Video,
        model: VideoModel,
        *,
        policy: MemoryPolicy | None = None,
        settings: Settings | None = None,
        noted: Callable[[PromptLog], None] | None = None,
    ) -> None:
        self.video = video
        self.model = model
        self.settings = settings or Settings()
        self.policy = policy or Sam2Policy(
            recent=model.card.memory_slots - 1, pointers=model.card.pointers
        )
        folder = self.settings.folder
        if self.settings.embedding_disk_bytes and folder is None:
            raise PlanError("embedding_disk_bytes needs a folder: give Settings(folder=…)")
        self._trail = Trail(folder / "trail.sqlite" if folder else None)
        self._stand()
        self._log = PromptLog()
        self._noted = noted

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
            and not self._finished(last)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of memory, threads and files; what is in a folder stays there."""
        self._embeddings.close()
        self._trail.close()

    def take_up(self, model: VideoModel) -> None:
        """Go on with the same model loaded anew, where the one that was used is gone, as with a worker elsewhere that died.

        Nothing that was said or answered is lost; image features and memories are made again as
        they are wanted. A propagation that was broken off goes on with `run`. Raises ModelError for
        another model.
        """
        if model.card.answers != self.model.card.answers:
            raise ModelError(
                f"{model.card.name} is another model, or looks or computes another way, than "
                f"{self.model.card.name}: expected the same"
            )
        self._embeddings.close()
        self.model = model
        self._stand()

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
        for places in _rounds(given):
            log, first = self.log.add(*(given[place] for place in places)), len(self.log)
            segments = self._ask(log, [given[place] for place in places])
            self._trail.put_said(segments, first)
            self._note(log)
            answers.update(zip(places, segments, strict=True))
        return [answers[place] for place in range(len(given))]

    def describe(self, *tracks: Track) -> None:
        """Name tracks, give them a category or a parent."""
        self._note(self.log.describe(*tracks))

    def lock(self, track: int, frame: int, *, locked: bool = True) -> None:
        """Accept what a track is on a frame: no propagation overwrites it, and others are conditioned on it."""
        segment = self._trail.get(track, frame)
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
        self._trail.put_said([replace(segment, presence=presence)], len(self.log))
        self._note(self.log.add(Lock(frame, track, locked)))

    def remove(self, track: int) -> None:
        """Take a track out of the result; `undo` brings it back as it was."""
        if track not in self.log.track_ids:
            raise PromptError(
                f"is not there: expected one of {list(self.log.track_ids)!r}", track=track
            )
        self._note(self.log.add(Removal(track)))

    def undo(self) -> bool:
        """Take back the last prompt, lock or removal and what was carried since; False where there is nothing to undo."""
        shorter = self.log.without_last()
        if len(shorter) == len(self.log):
            return False
        self._trail.forget(len(shorter))
        self._note(shorter)
        return True

    def replay(
        self,
        log: PromptLog,
        *,
        stops: Mapping[int, int] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Do again all that a log says; on a session that was resumed, only what is not there yet.

        `stops` are propagations that were cancelled, by log entry, and the steps each had done:
        they are cancelled there again, for what was said next depends on how far they came.

        Raises PromptError where this session's log is not the beginning of that one.
        """
        if log.entries[: len(self.log)] != self.log.entries:
            raise PromptError(
                "this session holds other prompts: start a new one to replay that log"
            )
        if self.unfinished:
            _finish(self.run(), (stops or {}).get(len(self.log) - 1), progress)
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
                _finish(self.run(entry), (stops or {}).get(len(self.log) - 1), progress)
        self.prompt_many(pending)
        self._note(replace(self.log, tracks=log.tracks))

    def plan(
        self,
        *,
        direction: Direction = "both",
        frames: tuple[int, int] | None = None,
        tracks: Sequence[int] | None = None,
        again: bool = False,
    ) -> Propagation:
        """What there is to carry: new tracks both ways from their first prompt, corrected ones both ways from the correction.

        `again`: all of them from their first prompt, also where they were carried before.

        Raises PlanError where nothing was prompted, or a track is asked for that was not.
        """
        known = self.log.track_ids
        if not known:
            raise PlanError("nothing to carry: prompt an object on one frame first")
        unknown = sorted(set(tracks or ()) - set(known))
        if unknown:
            raise PlanError(f"tracks {unknown!r} have no prompt: expected some of {list(known)!r}")
        wanted = known if tracks is None else tuple(tracks)
        carried = {} if again else self._carried()
        fresh = {track: [self.log.first_frame(track)] for track in wanted if track not in carried}
        corrected = {
            track: places for track, places in self._corrections(carried).items() if track in wanted
        }
        legs: list[Leg] = []
        for starts, settles in ((fresh, False), (corrected, True)):
            part = Propagation.outward(
                starts, length=len(self.video), direction=direction, frames=frames, settles=settles
            )
            legs += part.legs
        return Propagation(tuple(legs))

    def run(self, plan: Propagation | None = None) -> Run:
        """A Run that carries out `plan`; where none is given, what a cancelled or killed one has left, else `self.plan()`."""
        return Run(*self._steps(plan))

    def resume(self, log: PromptLog) -> None:
        """Take up a log whose answers lie in this session's folder; answers to more than it says are forgotten."""
        self._log = log
        self._trail.forget(len(log))

    def resumable(self, log: PromptLog) -> PromptLog:
        """The beginning of a log whose answers lie in this session's folder: what `resume` can take up, the rest being replayed."""
        count = self._trail.entries()
        while 0 < count < len(log) and isinstance(log.entries[count], Propagation):
            count += 1  # it was cancelled before its first frame
        return replace(log, entries=log.entries[:count])

    def segments(self, frame: int) -> list[Segment]:
        """The answers of all tracks on a frame that were not removed, ascending by track."""
        removed = self.log.removed
        return [segment for segment in self._trail.on_frame(frame) if segment.track not in removed]

    def plane(self, frame: int) -> np.ndarray:
        """(H, W) labels of a frame, overlaps settled, uint16 or uint32.

        Masks that were drawn come out as they were drawn.
        """
        dtype = label_type(max(self.log.track_ids, default=0))
        return label_plane(
            self.segments(frame), self.video.shape[1:], given=self.log.drawn(frame), dtype=dtype
        )

    def traces(self) -> dict[tuple[int, int], Trace]:
        """Presence and score by (track, frame) of the tracks that were not removed."""
        removed = self.log.removed
        return {key: trace for key, trace in self._trail.traces().items() if key[0] not in removed}

    def _stand(self) -> None:
        """What walks stand on, with nothing kept yet of what the model makes."""
        folder, most = self.settings.folder, self.settings.embedding_disk_bytes
        disk = (
            Disk(folder / EMBEDDINGS, self.video, self.model.card, most)
            if folder and most
            else None
        )
        self._embeddings = Embeddings(
            self.video, self.model, budget=self.settings.embedding_bytes, disk=disk
        )
        self._ground = Ground(self.model, self.policy, self._embeddings, self._trail)

    def _steps(self, plan: Propagation | None) -> tuple[Propagation, Iterator[Stepped]]:
        """The plan to carry out, noted in the log, and its steps."""
        if plan is None and self.unfinished:
            plan = cast(Propagation, self.log.entries[-1])
        else:
            plan = plan or self.plan()
            if plan.legs:
                self._note(self.log.add(plan))
        return plan, walk(
            self._ground, plan, entry=len(self.log) - 1, patience=self.settings.patience
        )

    def _note(self, log: PromptLog) -> None:
        self._log = log
        if self._noted:
            self._noted(log)

    def _ask(self, log: PromptLog, prompts: Sequence[Prompt]) -> list[Segment]:
        """One answer for each of these prompts, which are on one frame and of different tracks."""
        frame = prompts[0].frame
        queries = [
            self._query(prompt.track, frame, log.said(prompt.track, frame)) for prompt in prompts
        ]
        return list(self.model.segment(self._embeddings.get(frame), queries))

    def _query(self, track: int, frame: int, said: Said) -> Query:
        before = None if said.anew else self._trail.get(track, frame)
        logits = (
            None
            if before is None or said.mask is not None
            else np.clip(before.logits, -LOGIT_CLAMP, LOGIT_CLAMP)
        )
        forward = self._way(track, frame)
        window = None if before is None or logits is None else before.window
        if (
            forward is None or said.mask is not None or said.anew
        ):  # never tracked, or not like that: answered without memory
            return Query(track, said, logits=logits, window=window)
        step, banks = Step(frame, forward, (track,)), self._ground.banks
        banks[track] = bank_behind(self._ground, step, track, banks.get(track))
        recalls = recall(self._ground, step, {track: banks[track]})[track]
        return Query(track, said, recalls, logits, window, length=len(self.video))

    def _way(self, track: int, frame: int) -> bool | None:
        """The way a track was walked over a frame; None where it never was."""
        trace = self._trail.trace(track, frame)
        if trace is None or trace.forward is not None:
            return None if trace is None else trace.forward
        for entry in self.log.entries:
            if isinstance(entry, Propagation):
                for leg in entry.legs:
                    if leg.track == track and (frame == leg.start or frame in leg.frames):
                        return leg.forward
        return None

    def _carried(self) -> dict[int, int]:
        """The log entry of the last finished propagation of each track."""
        last = {}
        for number, entry in enumerate(self.log.entries):
            if isinstance(entry, Propagation) and self._finished(number):
                last.update(dict.fromkeys(entry.tracks, number))
        return last

    def _corrections(self, carried: Mapping[int, int]) -> dict[int, list[int]]:
        """Frames by track that were prompted since the track was last carried, ascending."""
        frames: dict[int, set[int]] = defaultdict(set)
        for number, entry in enumerate(self.log.entries):
            if isinstance(entry, Prompt) and number > carried.get(entry.track, number):
                frames[entry.track].add(entry.frame)
        return {track: sorted(places) for track, places in frames.items()}

    def _finished(self, number: int) -> bool:
        """Whether every step of the propagation that is log entry `number` is done."""
        entry, state = self.log.entries[number], self._trail.state(number)
        if state is None:
            return isinstance(entry, Propagation) and not any(leg.frames for leg in entry.legs)
        return bool(state["position"] >= state["total"])


def _finish(run: Run, stop: int | None, progress: Progress | None) -> None:
    """Carry out a Run, as far as `stop` steps where that is given."""
    if stop == 0:
        return
    for stepped in run:
        if progress:
            progress(stepped)
        if stop is not None and stepped.position >= stop:
            run.cancel()


def _rounds(prompts: Sequence[Prompt]) -> list[list[int]]:
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
