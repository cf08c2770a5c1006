"""Desk: one Session at work in the background thread.

What each piece of work changed comes back as a Changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
from skimage.measure import label

from napari_sam2.api.count import CountResult, save_count_result
from napari_sam2.api.job import save_results
from napari_sam2.core.errors import PlanError, PromptError
from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import (
    BoxPrompt,
    Entry,
    Lock,
    MaskPrompt,
    PointPrompt,
    Prompt,
    PromptLog,
    Removal,
    renumber_prompt,
)
from napari_sam2.core.track import Track
from napari_sam2.gui.app.counting_task import (
    CountingTask,
    DetectionProgress,
    DetectionRequest,
    EditedSeed,
)
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.gui.app.session_steps import SessionSteps, count_common_entries
from napari_sam2.gui.app.session_update import PropagationRequest, SessionUpdate
from napari_sam2.propagation.overlaps import compute_mask
from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.propagation.session import Session
from napari_sam2.tracking.pipeline import filter_tracks


class SessionWorker(SessionSteps):
    """What can be done with a Session. Each action is one step of undo."""

    def read_frames(self, frames: Collection[int]) -> SessionUpdate:
        """These frames as they are now."""
        return self._add_session_state(
            SessionUpdate(self.session.log, self._collect_planes(frames))
        )

    def report_state(self, drawn_frames: Collection[int] = ()) -> SessionUpdate:
        """All that is known.

        Where the desk is new, frames that were `drawn_frames` before it, and those prompted, look
        otherwise now.
        """
        if not self._unreported:
            return self._make_update(())
        self._unreported = False
        known = {frame for _, frame in self.session.records()}
        notice, self._notice = self._notice, ""
        return replace(
            self._make_update(
                {*drawn_frames, *known, *(prompt.frame for prompt in self.session.log.prompts)}
            ),
            notice=notice,
        )

    def start_measuring(self) -> tuple[LiveTables, SessionUpdate]:
        """Measure from now on what is drawn; what was drawn before is stale, so that it is drawn and measured."""
        if self._live_tables is None:
            self._live_tables = LiveTables(self.session.video)
        known = frozenset(frame for _, frame in self.session.records())
        return self._live_tables, self._add_session_state(
            SessionUpdate(self.session.log, stale_frames=known)
        )

    def prompt(self, prompts: Iterable[Prompt], tracks: Iterable[Track] = ()) -> SessionUpdate:
        """Answer prompts, of tracks that may have names.

        Raises PromptError for one outside the video; then nothing is changed.
        """
        given = list(prompts)
        with self._undoable_action():
            segments = self.session.prompt_many(given)
        for track in tracks:
            self.session.describe(track)
        if len(segments) == 1 and len(segments[0].alternatives) > 1:
            self._ambiguous_answer = segments[0], self.session.log
        return self._make_update({each.frame for each in given}, complete=False)

    def choose_mask(self, number: int) -> SessionUpdate:
        """Take another of the masks that the model offered for the last prompt: 0 is its own choice. Part of the same step of undo."""
        if self._ambiguous_answer is None:
            raise PromptError("there is no other mask to choose: click an object first")
        segment, log = self._ambiguous_answer
        self._restore_log(log)
        if number:
            offered = replace(
                segment, logits=segment.alternatives[number].logits, presence_score=1.0
            )
            drawn = compute_mask(offered, self.session.video.shape[1:])
            if drawn.any():
                self.session.prompt(MaskPrompt(segment.frame, segment.track, drawn))
        return self._make_update({segment.frame})

    def edit_prompts(
        self, track: int, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]
    ) -> SessionUpdate:
        """Say something else about a track on a frame than was said.

        Where it was carried since, this frame is asked anew, and the rest is to be carried again;
        then raises PromptError where nothing is left that was said.
        """
        entries = self.session.log.entries
        old = [number for number, entry in enumerate(entries) if _is_prompt_on(entry, track, frame)]
        first = old[0] if old else len(entries)
        if any(isinstance(entry, Propagation) for entry in entries[first:]):
            return self._prompt_again(track, frame, prompts)
        kept = [
            entry for number, entry in enumerate(entries[first:], start=first) if number not in old
        ]
        with self._undoable_action():
            self._restore_log(PromptLog((*entries[:first], *prompts, *kept)))
        return self._make_update({frame})

    def _prompt_again(
        self, track: int, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]
    ) -> SessionUpdate:
        if not prompts:
            raise PromptError(
                "was carried on from this click: undo, or delete the object in the list",
                track=track,
                frame=frame,
            )
        given: list[Prompt] = list(prompts)
        if isinstance(
            given[0], PointPrompt
        ):  # a box takes the place of what was said before it anyway
            given[0] = PointPrompt(
                frame, track, given[0].yx, given[0].positive, replaces_previous=True
            )
        with self._undoable_action():
            self.session.prompt_many(given)
        return replace(
            self._make_update({frame}),
            notice="Asked again on this frame. Propagate (P) to carry that on.",
        )

    def lock(
        self, tracks: Iterable[int], frames: Iterable[int] | None = None, *, locked: bool = True
    ) -> SessionUpdate:
        """Accept tracks on these frames, or on all that they are on; or take that back."""
        known = sorted(self.session.records())
        with self._undoable_action():
            for track in tracks:
                for frame in (
                    [place for other, place in known if other == track]
                    if frames is None
                    else frames
                ):
                    self.session.lock(track, frame, locked=locked)
        return self._make_update(())

    def remove(self, tracks: Iterable[int]) -> SessionUpdate:
        """Take tracks out of the result."""
        gone = set(tracks)
        frames = {frame for track, frame in self.session.records() if track in gone}
        with self._undoable_action():
            for track in sorted(gone & set(self.session.log.track_ids)):
                self.session.remove(track)
        return self._make_update(frames)

    def merge(self, into: int, others: Sequence[int]) -> SessionUpdate:
        """Make one track of several: where others are seen, `into` has their pixels as well, as if they had been drawn."""
        frames = sorted({frame for track, frame in self.session.records() if track in others})
        shape = self.session.video.shape[1:]
        with self._undoable_action():
            drawn = []
            for frame in frames:
                parts = [
                    compute_mask(each, shape)
                    for each in self.session.segments(frame)
                    if each.track in (into, *others) and each.present
                ]
                if parts:
                    drawn.append(MaskPrompt(frame, into, np.logical_or.reduce(parts)))
            self.session.prompt_many(drawn)
            for track in others:
                self.session.remove(track)
        return self._make_update(frames)

    def split(self, track: int, frame: int, first_new_track: int) -> SessionUpdate:
        """Make tracks of their own, from id `first_new_track`, of all but the largest piece of a track on a frame."""
        found = [
            each for each in self.session.segments(frame) if each.track == track and each.present
        ]
        pieces = (
            label(compute_mask(found[0], self.session.video.shape[1:]))
            if found
            else np.zeros((1, 1), dtype=int)
        )
        if pieces.max() < 2:
            raise PromptError(
                "is in one piece here: click the part that is another object",
                track=track,
                frame=frame,
            )
        sizes = np.bincount(pieces.ravel())[1:]
        order = [int(piece) + 1 for piece in np.argsort(-sizes, kind="stable")]
        tracks = [track, *range(first_new_track, first_new_track + len(order) - 1)]
        return self.prompt(
            [
                MaskPrompt(frame, owner, pieces == piece)
                for owner, piece in zip(tracks, order, strict=True)
            ]
        )

    def split_at(
        self, track: int, frame: int, new_track: int, yx: tuple[float, float]
    ) -> SessionUpdate:
        """Make a track of its own of the part of `track` that was clicked."""
        return self.prompt(
            [PointPrompt(frame, new_track, [yx], [True]), PointPrompt(frame, track, [yx], [False])]
        )

    def describe(self, track: Track) -> SessionUpdate:
        """Name a track, or give it a category."""
        self.session.describe(track)
        if self._live_tables is not None:
            self._live_tables.set_descriptions(self.session.log.tracks)
        return self._make_update((), complete=False)

    def undo(self) -> SessionUpdate:
        """Take back the last action."""
        return self._move_in_history(self._undo_logs, self._redo_logs)

    def redo(self) -> SessionUpdate:
        """Do the last action again that was taken back.

        A propagation is only begun: `step` does the rest.
        """
        return self._move_in_history(self._redo_logs, self._undo_logs)

    def start_propagation(self, request: PropagationRequest) -> SessionUpdate:
        """Begin to carry; `step` does one frame.

        Goes on with what was cancelled, unless something else is asked for.

        Raises PlanError where there is nothing to carry.
        """
        self.stop()
        plan = None
        if not (self.session.unfinished and request == PropagationRequest()):
            plan = self.session.plan(
                direction=request.direction, frames=request.frames, tracks=request.tracks
            )
            if not any(leg.frames for leg in plan.ranges):
                raise PlanError(
                    "everything is carried already: correct an object, or add one, then carry on"
                )
        with self._undoable_action():
            self._start_run(plan)
        return self._make_update((), complete=False)

    def start_detection(self, request: DetectionRequest) -> SessionUpdate:
        """Begin to look for objects that nobody clicked; `step` looks at one frame.

        See `CountingTask` for what is raised.
        """
        self.stop()
        self._counting_task = CountingTask(self.session, request)
        self._remaining_steps, self._task_running = self._counting_task.detect(), True
        return self._add_session_state(
            SessionUpdate(self.session.log, total=len(self._counting_task.frames))
        )

    def start_counting(
        self, edited_seeds: Sequence[EditedSeed], *, first_new_track: int, category: str = ""
    ) -> SessionUpdate:
        """Begin to make objects of seeds, as they lie now, numbered from `first_new_track`; `step` does one frame.

        Where seeds are of one frame only, they are carried, and then what is found elsewhere and
        not explained, until nothing new appears. Raises PlanError where nothing was looked for.
        """
        self.stop()
        if self._counting_task is None:
            raise PlanError("nothing was looked for yet with this model: find seeds first")
        telling = (
            self._link_and_commit
            if self._counting_task.request.links_frames
            else self._propagate_in_rounds
        )
        self._remaining_steps, self._task_running = (
            telling(self._counting_task, edited_seeds, first_new_track, category),
            True,
        )
        return self._add_session_state(
            SessionUpdate(self.session.log, total=len(self.session.video))
        )

    def save(self, folder: Path) -> Path:
        """Write labels, tables, picture, prompts and provenance into `folder`, and the report where objects were counted.

        Raises PlanError where nothing was prompted, OutputError where the folder cannot be written
        to.
        """
        if not self.session.log.track_ids:
            raise PlanError("there is nothing to save: click an object first")
        search = self._counting_task
        if search is None:
            save_results(self.session.collect_results(), folder)
        else:
            save_count_result(
                CountResult(self.session.run(Propagation(())), search.notes),
                folder,
                settings=search.request.counting.model_dump(mode="json"),
            )
        return folder

    def _move_in_history(
        self, source_logs: list[PromptLog], target_logs: list[PromptLog]
    ) -> SessionUpdate:
        if not source_logs:
            return self._make_update(())
        self.stop()
        self._ambiguous_answer = None
        before, log, target = self.session.records(), self.session.log, source_logs.pop()
        target_logs.append(log)
        self._restore_log(target)
        walked = {frame for (_, frame), _ in before.items() ^ self.session.records().items()}
        said = {
            entry.frame
            for one in (log, target)
            for entry in one.entries[count_common_entries(log, target) :]
            if isinstance(entry, Prompt | Lock)
        }
        return self._make_update(walked | said)

    def _link_and_commit(
        self,
        task: CountingTask,
        edited_seeds: Sequence[EditedSeed],
        first_new_track: int,
        category: str,
    ) -> Iterator[PropagationStep | DetectionProgress]:
        """Join, tell, and carry over the frames that objects were missed on: one step of undo.

        Where it is stopped before, nothing.
        """
        yield from task.link(edited_seeds)
        before = self.session.log
        try:
            yield from task.commit_tracks(first_new_track, category=category)
        except BaseException:  # a generator that is closed is told so by an exception
            self._restore_log(before)
            raise
        yield from self._propagate(before, task.plan)

    def _propagate_in_rounds(
        self,
        task: CountingTask,
        edited_seeds: Sequence[EditedSeed],
        first_new_track: int,
        category: str,
    ) -> Iterator[PropagationStep | DetectionProgress]:
        """Carry what was found, look frame by frame for what is not explained, carry that, until nothing new appears."""
        session, ours = self.session, list[int]()
        rounds = chain(
            [[seed.prompt for seed in task.apply_edits(edited_seeds)]],
            map(task.detect_unexplained, range(len(session.video))),
        )
        for frame, fresh in enumerate(rounds, start=-1):
            new = [
                renumber_prompt(prompt, first_new_track + len(ours) + number)
                for number, prompt in enumerate(fresh)
            ]
            before, ours = session.log, [*ours, *(prompt.track for prompt in new)]
            session.prompt_many(new)
            for prompt in new if category else ():
                session.describe(Track(prompt.track, category=category))
            told = f"Frame {max(frame, 0)}: {len(new)} new, {len(ours)} in all"
            yield DetectionProgress(
                told,
                frame + 1,
                len(session.video) + 1,
                frames=tuple({prompt.frame for prompt in new}),
            )
            if not new:
                continue
            yield from self._propagate(
                before, session.plan(tracks=[prompt.track for prompt in new])
            )
            if self._stopping:
                return
        double = sorted(
            set(ours)
            - set(filter_tracks(session, min(task.linking_options.min_frames, len(session.video))))
        )
        if double:
            gone = {frame for track, frame in session.records() if track in double}
            with self._undoable_action():
                for track in double:
                    session.remove(track)
            yield DetectionProgress(
                f"{len(double)} found twice or on too few frames: taken out",
                1,
                1,
                frames=tuple(sorted(gone)),
            )


def filter_prompts(log: PromptLog) -> PromptLog:
    """What another model can be asked with: prompts, removals, and locks of what was prompted, without what this one made of them."""
    said = {(prompt.track, prompt.frame) for prompt in log.prompts}
    locks = {
        entry for entry in log if isinstance(entry, Lock) and (entry.track, entry.frame) in said
    }
    return PromptLog(
        tuple(entry for entry in log if isinstance(entry, Prompt | Removal) or entry in locks),
        log.tracks,
    )


def make_transfer_log(session: Session) -> PromptLog:
    """What another model takes up of a session: what was said, and the masks of frames that were accepted, with their locks."""
    log, shape = filter_prompts(session.log), session.video.shape[1:]
    said = {(prompt.track, prompt.frame) for prompt in log.prompts}
    for track, frame in sorted(
        {(entry.track, entry.frame) for entry in session.log if isinstance(entry, Lock)} - said
    ):
        segment = next(
            (each for each in session.segments(frame) if each.track == track and each.present), None
        )
        drawn = (
            compute_mask(segment, shape)
            if segment is not None and session.log.is_locked(track, frame)
            else np.zeros(shape, dtype=bool)
        )
        if drawn.any():
            log = log.add(MaskPrompt(frame, track, drawn)).add(Lock(frame, track))
    return log


def _is_prompt_on(entry: Entry, track: int, frame: int) -> bool:
    return isinstance(entry, PointPrompt | BoxPrompt) and (entry.track, entry.frame) == (
        track,
        frame,
    )
