"""Steps: one Session with its steps of undo, and what goes on in it step by step: a run, or a search."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from napari_sam2.api.project import Project
from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import Prompt, PromptLog
from napari_sam2.core.result import Segment
from napari_sam2.gui.app.counting_task import CountingTask, DetectionProgress
from napari_sam2.gui.app.live_tables import LiveTables
from napari_sam2.gui.app.session_update import SessionUpdate
from napari_sam2.measurement.track_status import TrackStatus
from napari_sam2.propagation.propagate import PropagationStep
from napari_sam2.propagation.session import Run, Session

SAVE_EVERY_S = 4.0
"""Seconds between two savings of the label planes of a project."""

FRAMES_PER_PIECE = 8
"""Frames that are drawn in one piece of work: so few that a click made meanwhile does not wait."""


class SessionSteps:
    """A Session, the run it is in, and the logs to go back and forth to.

    What is done is saved as it goes.

    `project` is where all of it is kept, None where nowhere; `notice` a sentence about it for the
    person.
    """

    def __init__(
        self, session: Session, *, project: Project | None = None, notice: str = ""
    ) -> None:
        self.session = session
        self._project = project
        self._notice = notice
        self._last_save_s = time.monotonic()
        self._undo_logs: list[PromptLog] = []
        self._redo_logs: list[PromptLog] = []
        self._ambiguous_answer: tuple[Segment, PromptLog] | None = None
        self._unreported = True
        self._live_tables: LiveTables | None = None
        self._run: Run | None = None
        self._counting_task: CountingTask | None = None
        self._remaining_steps: Iterator[PropagationStep | DetectionProgress] = iter(())
        self._task_running = self._stopping = False

    def close(self) -> None:
        """Let go of memory and files."""
        self.stop()
        if self._project is not None:
            self._project.close()
        self.session.close()

    def step(self) -> SessionUpdate | None:
        """One frame more; None at the end, or where no run is going on."""
        try:
            stepped = next(self._remaining_steps, None)
        except Exception:
            self._run, self._remaining_steps, self._task_running = None, iter(()), False
            raise
        if stepped is None:
            self.stop()
            return None
        if isinstance(stepped, DetectionProgress):
            facts = {
                key: fact
                for frame in stepped.frames
                for key, fact in self._read_statuses(frame).items()
            }
            changed = SessionUpdate(
                self.session.log,
                self._collect_planes(stepped.frames),
                facts,
                done=stepped.done,
                total=stepped.total,
            )
            return self._add_session_state(
                replace(changed, message=stepped.message, seeds=stepped.seeds)
            )
        frame = stepped.step.frame
        facts = {
            (each.track, frame): TrackStatus(each.iou, each.presence) for each in stepped.segments
        }
        planes = self._collect_planes([frame]) if stepped.segments else {}
        return self._add_session_state(
            SessionUpdate(
                self.session.log, planes, facts, done=stepped.position, total=stepped.total
            )
        )

    def stop(self) -> SessionUpdate:
        """End the run; what is done stays, but objects that were found and only half told are taken back."""
        before, self._stopping = self.session.log, True
        if self._run is not None:
            self._run.cancel()
            for _ in self._remaining_steps:
                pass
        elif isinstance(self._remaining_steps, Generator):
            self._remaining_steps.close()
        self._run, self._remaining_steps = None, iter(())
        self._task_running = self._stopping = False
        if len(self.session.log) < len(before):
            return self._make_update(
                {
                    entry.frame
                    for entry in before.entries[len(self.session.log) :]
                    if isinstance(entry, Prompt)
                }
            )
        return self._make_update((), complete=False)

    @contextmanager
    def _undoable_action(self) -> Iterator[None]:
        """One step of undo. Where it fails, all is as it was before."""
        before, self._ambiguous_answer = self.session.log, None
        try:
            yield
        except Exception:
            self._restore_log(before)
            raise
        if self.session.log.entries != before.entries:
            self._undo_logs.append(before)
            self._redo_logs.clear()

    def _restore_log(self, target: PromptLog) -> None:
        """Bring the session to another log: what both begin with stays, what is more there is said again."""
        log = self.session.log
        common = count_common_entries(log, target)
        if common < len(log):
            self.session.resume(PromptLog(log.entries[:common], log.tracks))
        rest = list(target.entries[common:])
        said = next(
            (n for n, entry in enumerate(rest) if isinstance(entry, Propagation)), len(rest)
        )
        self.session.replay(PromptLog((*target.entries[:common], *rest[:said]), log.tracks))
        for entry in rest[said:]:
            assert (
                isinstance(entry, Propagation) and entry is rest[-1]
            )  # each action is a step of its own
            self._start_run(entry)

    def _propagate(
        self, before: PromptLog, plan: Propagation
    ) -> Iterator[PropagationStep | DetectionProgress]:
        """Carry what was told since `before`; both are one step of undo."""
        if self.session.log.entries != before.entries:
            self._undo_logs.append(before)
            self._redo_logs.clear()
        if plan.ranges:
            self._run = self.session.run(plan)
            yield from self._run
            self._run = None

    def _start_run(self, plan: Propagation | None) -> None:
        self._run = self.session.run(plan)
        self._remaining_steps = iter(self._run)

    def _make_update(self, frames: Collection[int], *, complete: bool = True) -> SessionUpdate:
        """What these frames are now.

        Many are not drawn at once: nothing ever holds the whole stack.
        """
        few = frames if len(frames) <= FRAMES_PER_PIECE else ()
        if complete:
            facts = {
                key: TrackStatus(trace.iou, trace.presence)
                for key, trace in self.session.records().items()
            }
        else:
            facts = {
                key: fact for frame in frames for key, fact in self._read_statuses(frame).items()
            }
        total = sum(1 for _ in self._run.plan.steps()) if self._run else 0
        return self._add_session_state(
            SessionUpdate(
                self.session.log,
                self._collect_planes(few),
                facts,
                complete=complete,
                stale_frames=frozenset(frames) - frozenset(few),
                total=total,
            )
        )

    def _collect_planes(self, frames: Iterable[int]) -> dict[int, np.ndarray]:
        """The label planes of these frames, measured where that is wanted."""
        planes = {frame: self.session.label_plane(frame) for frame in sorted(frames)}
        if self._live_tables is not None:
            self._live_tables.set_descriptions(self.session.log.tracks)
            for frame, plane in planes.items():
                self._live_tables.measure_frame(frame, plane, self._read_statuses(frame))
        self._save_planes(planes)
        return planes

    def _save_planes(self, planes: Mapping[int, np.ndarray]) -> None:
        """Save the project every few seconds; prompts and answers are on disk at once."""
        if self._project is None:
            return
        for frame, plane in planes.items():
            self._project.put_labels(frame, plane)
        if time.monotonic() - self._last_save_s > SAVE_EVERY_S:
            self._project.save()
            self._last_save_s = time.monotonic()

    def _read_statuses(self, frame: int) -> dict[tuple[int, int], TrackStatus]:
        return {
            (each.track, frame): TrackStatus(each.iou, each.presence)
            for each in self.session.segments(frame)
        }

    def _add_session_state(self, update: SessionUpdate) -> SessionUpdate:
        notices: list[str] = getattr(
            self.session.model, "notices", []
        )  # of a model that had to do with less memory
        return replace(
            update,
            notice=update.notice or (notices.pop(0) if notices else ""),
            running=self._run is not None or self._task_running,
            alternative_count=len(self._ambiguous_answer[0].alternatives)
            if self._ambiguous_answer
            else 0,
            undoable=bool(self._undo_logs),
            redoable=bool(self._redo_logs),
            unfinished=self.session.unfinished,
        )


def count_common_entries(one: PromptLog, other: PromptLog) -> int:
    """How many entries both begin with."""
    return next(
        (n for n, (ours, theirs) in enumerate(zip(one, other, strict=False)) if ours != theirs),
        min(len(one), len(other)),
    )
