"""SessionWorker: one session at work in the background thread.

Each task returns its changes as a SessionUpdate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from skimage.measure import label

from napari_sam2.api.count import CountOutput, CountResult, save_count_result
from napari_sam2.api.counting_options import CountingOptions, get_object_scale
from napari_sam2.api.project import Project
from napari_sam2.api.results import save_results
from napari_sam2.core.errors import PlanError, PromptError
from napari_sam2.core.inference_options import InferenceOptions
from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import (
    BoxPrompt,
    Entry,
    Lock,
    MaskPrompt,
    PointPrompt,
    Prompt,
    PromptLog,
)
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.result import Segment
from napari_sam2.core.track import Track
from napari_sam2.detection.classical import ClassicalDetector
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.object_scale import ObjectScale
from napari_sam2.gui.app.counting_task import CountingTask, DetectionRequest
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.gui.app.session_update import PropagationRequest, SessionUpdate
from napari_sam2.gui.app.undo_history import UndoHistory, count_common_entries
from napari_sam2.measurement.track_status import TrackStatus
from napari_sam2.propagation.overlaps import compute_mask
from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.propagation.review import Review, review_session
from napari_sam2.propagation.session import Run, Session
from napari_sam2.tracking.progress import TrackingProgress
from napari_sam2.tracking.seeds import EditedSeed

SAVE_EVERY_S = 4.0
"""Seconds between two savings of a project's label planes."""

FRAMES_PER_PIECE = 8
"""Frames drawn by one piece of work: few, so that a click meanwhile does not wait."""

Statuses = dict[tuple[int, int], TrackStatus]


class SessionWorker:
    """What can be done with a session. Each action is one step of undo.

    Parameters
    ----------
    session
        The session.
    project
        The project that keeps all of it; None if nothing is kept.
    notice
        A sentence about the project for the person.
    """

    def __init__(
        self, session: Session, *, project: Project | None = None, notice: str = ""
    ) -> None:
        self.session = session
        self.options = get_options(session.model)
        self.evidence = "none" if session.evidence is None else session.settings.evidence
        self._project = project
        self._notice = notice
        self._last_save_s = time.monotonic()
        self._history = UndoHistory()
        self._ambiguous_answer: tuple[Segment, PromptLog] | None = None
        self._unreported = True
        self._live_tables: LiveTables | None = None
        self._run: Run | None = None
        self._counting_task: CountingTask | None = None
        self._remaining_steps: Iterator[PropagationStep | TrackingProgress] = iter(())
        self._task_running = False

    def close(self) -> None:
        """Release memory and files."""
        self.stop()
        if self._project is not None:
            self._project.close()
        self.session.close()

    # state

    def read_frames(self, frames: Collection[int]) -> SessionUpdate:
        """These frames as they are now."""
        return self._add_session_state(
            SessionUpdate(self.session.log, self._collect_planes(frames))
        )

    def report_state(self, drawn_frames: Collection[int] = ()) -> SessionUpdate:
        """The whole state.

        The first report of a worker marks `drawn_frames`, which another worker drew before, and
        all frames with objects as changed.
        """
        if not self._unreported:
            return self._make_update(())
        self._unreported = False
        known = {frame for _, frame in self.session.get_records()}
        prompted = {prompt.frame for prompt in self.session.log.prompts}
        notice, self._notice = self._notice, ""
        return replace(self._make_update({*drawn_frames, *known, *prompted}), notice=notice)

    def start_measuring(self) -> tuple[LiveTables, SessionUpdate]:
        """Measure frames when they are drawn from now on, and have those with objects redrawn."""
        if self._live_tables is None:
            self._live_tables = LiveTables(self.session.video)
        known = frozenset(frame for _, frame in self.session.get_records())
        return self._live_tables, self._add_session_state(
            SessionUpdate(self.session.log, stale_frames=known)
        )

    def estimate_scale(
        self, *, learned: bool = True, dark: bool | None = None
    ) -> ObjectScale | None:
        """Estimate how large the objects of the video are; None if that is not possible."""
        name = LearnedDetector.name if learned else ClassicalDetector.name
        detector = CountingOptions(dark=dark).make_detector(name, self.session.model)
        return get_object_scale(detector, self.session.video)

    def review(self) -> Review:
        """Find the frames that a person should check."""
        return review_session(self.session)

    def save(self, folder: Path) -> Path:
        """Write labels, tables, picture, prompts and provenance into `folder`.

        A report comes with them if objects were counted. Raises PlanError if nothing was
        prompted, OutputError if the folder cannot be written.
        """
        if not self.session.log.track_ids:
            raise PlanError("there is nothing to save: click an object first")
        task = self._counting_task
        if task is None:
            save_results(self.session.collect_results(), folder)
        else:
            result = CountResult(self.session.run(Propagation(())), task.notes)
            settings = task.request.counting.model_dump(mode="json")
            save_count_result(result, CountOutput(folder, settings=settings))
        return folder

    # actions

    def prompt(self, prompts: Iterable[Prompt], tracks: Iterable[Track] = ()) -> SessionUpdate:
        """Segment prompts; `tracks` are names and categories of their objects.

        Raises PromptError for a prompt outside the video; then nothing changes.
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
        """Use another mask that the model offered for the last prompt; 0 is its own choice.

        This belongs to the same step of undo as the prompt.
        """
        if self._ambiguous_answer is None:
            raise PromptError("there is no other mask to choose: click an object first")
        segment, log = self._ambiguous_answer
        self._restore_log(log)
        if number:
            offered = replace(
                segment, logits=segment.alternatives[number].logits, presence_score=1.0
            )
            mask = compute_mask(offered, self.session.video.shape[1:])
            if mask.any():
                self.session.prompt(MaskPrompt(segment.frame, segment.track, mask))
        return self._make_update({segment.frame})

    def edit_prompts(
        self, track: int, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]
    ) -> SessionUpdate:
        """Replace the clicks and boxes of a track on a frame.

        If the track was propagated since, only this frame is segmented again, and PromptError is
        raised if no prompt is left.
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

    def lock(
        self, tracks: Iterable[int], frames: Iterable[int] | None = None, *, locked: bool = True
    ) -> SessionUpdate:
        """Lock or unlock tracks on these frames; on all frames with the track by default."""
        known = sorted(self.session.get_records())
        with self._undoable_action():
            for track in tracks:
                own = [frame for other, frame in known if other == track]
                for frame in own if frames is None else frames:
                    self.session.lock(track, frame, locked=locked)
        return self._make_update(())

    def remove(self, tracks: Iterable[int]) -> SessionUpdate:
        """Delete tracks."""
        gone = set(tracks)
        frames = {frame for track, frame in self.session.get_records() if track in gone}
        with self._undoable_action():
            for track in sorted(gone & set(self.session.log.track_ids)):
                self.session.remove(track)
        return self._make_update(frames)

    def merge(self, into: int, others: Sequence[int]) -> SessionUpdate:
        """Merge tracks: `into` gets the pixels of the others, as mask prompts."""
        frames = sorted({frame for track, frame in self.session.get_records() if track in others})
        shape = self.session.video.shape[1:]
        with self._undoable_action():
            prompts = []
            for frame in frames:
                parts = [
                    compute_mask(each, shape)
                    for each in self.session.get_segments(frame)
                    if each.track in (into, *others) and each.present
                ]
                if parts:
                    prompts.append(MaskPrompt(frame, into, np.logical_or.reduce(parts)))
            self.session.prompt_many(prompts)
            for track in others:
                self.session.remove(track)
        return self._make_update(frames)

    def split(self, track: int, frame: int, first_new_track: int) -> SessionUpdate:
        """Split a track on a frame: all pieces but the largest become new tracks.

        Raises PromptError if the track is in one piece.
        """
        shape = self.session.video.shape[1:]
        masks = [
            compute_mask(each, shape)
            for each in self.session.get_segments(frame)
            if each.track == track and each.present
        ]
        pieces = label(masks[0]) if masks else np.zeros((1, 1), dtype=int)
        if pieces.max() < 2:
            raise PromptError(
                "is in one piece on this frame: click the part that is another object",
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
        """Make the part of `track` that was clicked a new track."""
        return self.prompt(
            [PointPrompt(frame, new_track, [yx], [True]), PointPrompt(frame, track, [yx], [False])]
        )

    def describe(self, track: Track) -> SessionUpdate:
        """Set the name and category of a track."""
        self.session.describe(track)
        if self._live_tables is not None:
            self._live_tables.set_descriptions(self.session.log.tracks)
        return self._make_update((), complete=False)

    def undo(self) -> SessionUpdate:
        """Undo the last action."""
        self.stop()
        return self._move_to_log(self._history.undo)

    def redo(self) -> SessionUpdate:
        """Redo the action that was undone last.

        A propagation is only started: `step` does the rest.
        """
        self.stop()
        return self._move_to_log(self._history.redo)

    # runs

    def start_propagation(self, request: PropagationRequest) -> SessionUpdate:
        """Start to propagate; `step` does one frame.

        The default request resumes a propagation that was stopped. Raises PlanError if there is
        nothing to propagate.
        """
        self.stop()
        plan = None
        if not (self.session.unfinished and request == PropagationRequest()):
            plan = self.session.plan(
                direction=request.direction, frames=request.frames, tracks=request.tracks
            )
            if not any(each.frames for each in plan.ranges):
                raise PlanError(
                    "everything is propagated already: correct or add an object, then propagate "
                    "again"
                )
        with self._undoable_action():
            self._start_run(plan)
        return self._make_update((), complete=False)

    def start_detection(self, request: DetectionRequest) -> SessionUpdate:
        """Start to detect objects that nobody clicked; `step` does one frame.

        See `CountingTask` for what is raised.
        """
        self.stop()
        self._counting_task = CountingTask(self.session, request, self._note_action)
        self._remaining_steps, self._task_running = self._counting_task.detect(), True
        return self._add_session_state(
            SessionUpdate(self.session.log, total=len(self._counting_task.pipeline.frames))
        )

    def start_counting(
        self, edited_seeds: Sequence[EditedSeed], *, first_new_track: int, category: str = ""
    ) -> SessionUpdate:
        """Start to make objects of seeds, numbered from `first_new_track`; `step` does one frame.

        If the seeds are of one frame, they are propagated, and so is what is detected on other
        frames, until nothing new appears. Raises PlanError if no seeds were detected before.
        """
        self.stop()
        if self._counting_task is None:
            raise PlanError("no seeds were detected with this model yet: detect seeds first")
        self._remaining_steps = self._counting_task.track(
            edited_seeds, first_track=first_new_track, category=category
        )
        self._task_running = True
        return self._add_session_state(
            SessionUpdate(self.session.log, total=len(self.session.video))
        )

    def step(self) -> SessionUpdate | None:
        """Do one step; None at the end, or if no run is going on."""
        try:
            step = next(self._remaining_steps, None)
        except Exception:
            self._run, self._remaining_steps, self._task_running = None, iter(()), False
            raise
        if step is None:
            self.stop()
            return None
        if isinstance(step, TrackingProgress):
            if step.step is None:
                return replace(self._report_count(step), notice=step.doubt)
            step = step.step
        frame = step.step.frame
        statuses = {
            (each.track, frame): TrackStatus(each.iou, each.presence) for each in step.segments
        }
        planes = self._collect_planes([frame]) if step.segments else {}
        return self._add_session_state(
            SessionUpdate(self.session.log, planes, statuses, done=step.position, total=step.total)
        )

    def stop(self) -> SessionUpdate:
        """End the run. Finished frames are kept; objects that were added in part are not."""
        before = self.session.log
        if self._cancel_propagation():
            for _ in self._remaining_steps:
                pass
        elif isinstance(self._remaining_steps, Generator):
            self._remaining_steps.close()
        self._run, self._remaining_steps, self._task_running = None, iter(()), False
        if len(self.session.log) < len(before):
            removed = before.entries[len(self.session.log) :]
            return self._make_update(
                {entry.frame for entry in removed if isinstance(entry, Prompt)}
            )
        return self._make_update((), complete=False)

    def _cancel_propagation(self) -> bool:
        """Cancel the propagation, if one is going on: its generator then ends by itself."""
        if self._run is not None:
            self._run.cancel()
            return True
        task = self._counting_task
        if task is None or task.pipeline.driver.run is None:
            return False
        task.pipeline.cancel()
        return True

    def _note_action(self, before: PromptLog) -> None:
        self._history.add_action(before, self.session.log)

    def _report_count(self, progress: TrackingProgress) -> SessionUpdate:
        statuses: Statuses = {}
        for frame in progress.changed_frames:
            statuses.update(self._read_statuses(frame))
        return self._add_session_state(
            SessionUpdate(
                self.session.log,
                self._collect_planes(progress.changed_frames),
                statuses,
                done=progress.done,
                total=progress.total,
                message=progress.message,
                seeds=progress.seeds,
            )
        )

    def _prompt_again(
        self, track: int, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]
    ) -> SessionUpdate:
        if not prompts:
            raise PromptError(
                "was propagated from this click: undo, or delete the object in the list",
                track=track,
                frame=frame,
            )
        given: list[Prompt] = list(prompts)
        first = given[0]
        if isinstance(first, PointPrompt):  # a box replaces older prompts anyway
            given[0] = PointPrompt(frame, track, first.yx, first.positive, replaces_previous=True)
        with self._undoable_action():
            self.session.prompt_many(given)
        return replace(
            self._make_update({frame}),
            notice="This frame was segmented again. Press P to propagate the change.",
        )

    def _move_to_log(self, move: Callable[[PromptLog], PromptLog | None]) -> SessionUpdate:
        """Undo or redo, as `move` says."""
        before, log = self.session.get_records(), self.session.log
        target = move(log)
        if target is None:
            return self._make_update(())
        self._ambiguous_answer = None
        self._restore_log(target)
        changed = {frame for (_, frame), _ in before.items() ^ self.session.get_records().items()}
        common = count_common_entries(log, target)
        prompted = {
            entry.frame
            for entry in (*log.entries[common:], *target.entries[common:])
            if isinstance(entry, Prompt | Lock)
        }
        return self._make_update(changed | prompted)

    @contextmanager
    def _undoable_action(self) -> Iterator[None]:
        """One step of undo. If it fails, everything is as before."""
        before, self._ambiguous_answer = self.session.log, None
        try:
            yield
        except Exception:
            self._restore_log(before)
            raise
        self._history.add_action(before, self.session.log)

    def _restore_log(self, target: PromptLog) -> None:
        """Bring the session to another log: keep what both begin with, and replay the rest."""
        log = self.session.log
        common = count_common_entries(log, target)
        if common < len(log):
            self.session.resume(PromptLog(log.entries[:common], log.tracks))
        rest = list(target.entries[common:])
        prompts = next(
            (n for n, entry in enumerate(rest) if isinstance(entry, Propagation)), len(rest)
        )
        self.session.replay(PromptLog((*target.entries[:common], *rest[:prompts]), log.tracks))
        for entry in rest[prompts:]:
            # each action is a step of its own, so at most the last entry is a propagation
            assert isinstance(entry, Propagation) and entry is rest[-1]
            self._start_run(entry)

    def _start_run(self, plan: Propagation | None) -> None:
        self._run = self.session.run(plan)
        self._remaining_steps = iter(self._run)

    def _make_update(self, frames: Collection[int], *, complete: bool = True) -> SessionUpdate:
        """An update about these frames, with all statuses if it is `complete`.

        Many frames are not drawn at once, so that no update holds the whole stack.
        """
        few = frames if len(frames) <= FRAMES_PER_PIECE else ()
        statuses: Statuses = {}
        if complete:
            for key, record in self.session.get_records().items():
                statuses[key] = TrackStatus(record.iou, record.presence)
        else:
            for frame in frames:
                statuses.update(self._read_statuses(frame))
        return self._add_session_state(
            SessionUpdate(
                self.session.log,
                self._collect_planes(few),
                statuses,
                complete=complete,
                stale_frames=frozenset(frames) - frozenset(few),
                total=sum(1 for _ in self._run.plan.iterate_steps()) if self._run else 0,
            )
        )

    def _collect_planes(self, frames: Iterable[int]) -> dict[int, np.ndarray]:
        """The label planes of these frames, which are measured and saved too."""
        planes = {frame: self.session.compute_label_plane(frame) for frame in sorted(frames)}
        if self._live_tables is not None:
            self._live_tables.set_descriptions(self.session.log.tracks)
            for frame, plane in planes.items():
                self._live_tables.measure_frame(frame, plane, self._read_statuses(frame))
        if self._project is not None:
            self._save_planes(self._project, planes)
        return planes

    def _save_planes(self, project: Project, planes: Mapping[int, np.ndarray]) -> None:
        """Save label planes every few seconds; prompts and masks are on disk at once."""
        for frame, plane in planes.items():
            project.put_labels(frame, plane)
        if time.monotonic() - self._last_save_s > SAVE_EVERY_S:
            project.save()
            self._last_save_s = time.monotonic()

    def _read_statuses(self, frame: int) -> Statuses:
        return {
            (each.track, frame): TrackStatus(each.iou, each.presence)
            for each in self.session.get_segments(frame)
        }

    def _add_session_state(self, update: SessionUpdate) -> SessionUpdate:
        # a model that ran out of memory and went on with smaller batches says so here
        notices: list[str] = getattr(self.session.model, "notices", [])
        masks = self._ambiguous_answer[0].alternatives if self._ambiguous_answer else ()
        return replace(
            update,
            notice=update.notice or (notices.pop(0) if notices else ""),
            running=self._run is not None or self._task_running,
            alternative_count=len(masks),
            undoable=self._history.undoable,
            redoable=self._history.redoable,
            unfinished=self.session.unfinished,
        )


def _is_prompt_on(entry: Entry, track: int, frame: int) -> bool:
    return isinstance(entry, PointPrompt | BoxPrompt) and (entry.track, entry.frame) == (
        track,
        frame,
    )


def get_options(model: VideoModel) -> InferenceOptions:
    """The options that a model computes with."""
    card = model.card
    return InferenceOptions(model.device, card.attention, card.precision, card.windows)
