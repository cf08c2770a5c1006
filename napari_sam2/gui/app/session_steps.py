"""Steps: one Session with its steps of undo, and what goes on in it step by step: a run, or a search."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from napari_sam2.api.project import Project
from napari_sam2.api.session import Run, Session
from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import Prompt, PromptLog
from napari_sam2.core.result import Segment
from napari_sam2.gui.app.counting_task import Search, Sought
from napari_sam2.gui.app.live_tables import Measured
from napari_sam2.gui.app.session_update import Changed
from napari_sam2.measurement.track_status import Fact
from napari_sam2.propagation.propagate import Stepped

SAVE_EVERY_S = 4.0
"""Seconds between two savings of the label planes of a project."""

PIECE = 8
"""Frames that are drawn in one piece of work: so few that a click made meanwhile does not wait."""


class Steps:
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
        self._saved = time.monotonic()
        self._undo: list[PromptLog] = []
        self._redo: list[PromptLog] = []
        self._offered: tuple[Segment, PromptLog] | None = None
        self._new = True
        self._measured: Measured | None = None
        self._run: Run | None = None
        self._search: Search | None = None
        self._steps: Iterator[Stepped | Sought] = iter(())
        self._working = self._ending = False

    def close(self) -> None:
        """Let go of memory and files."""
        self.stop()
        if self._project is not None:
            self._project.close()
        self.session.close()

    def step(self) -> Changed | None:
        """One frame more; None at the end, or where no run is going on."""
        try:
            stepped = next(self._steps, None)
        except Exception:
            self._run, self._steps, self._working = None, iter(()), False
            raise
        if stepped is None:
            self.stop()
            return None
        if isinstance(stepped, Sought):
            facts = {
                key: fact for frame in stepped.frames for key, fact in self._facts(frame).items()
            }
            changed = Changed(
                self.session.log,
                self._planes(stepped.frames),
                facts,
                done=stepped.done,
                total=stepped.total,
            )
            return self._stated(replace(changed, message=stepped.message, seeds=stepped.seeds))
        frame = stepped.step.frame
        facts = {(each.track, frame): Fact(each.iou, each.presence) for each in stepped.segments}
        planes = self._planes([frame]) if stepped.segments else {}
        return self._stated(
            Changed(self.session.log, planes, facts, done=stepped.position, total=stepped.total)
        )

    def stop(self) -> Changed:
        """End the run; what is done stays, but objects that were found and only half told are taken back."""
        before, self._ending = self.session.log, True
        if self._run is not None:
            self._run.cancel()
            for _ in self._steps:
                pass
        elif isinstance(self._steps, Generator):
            self._steps.close()
        self._run, self._steps = None, iter(())
        self._working = self._ending = False
        if len(self.session.log) < len(before):
            return self._changed(
                {
                    entry.frame
                    for entry in before.entries[len(self.session.log) :]
                    if isinstance(entry, Prompt)
                }
            )
        return self._changed((), whole=False)

    @contextmanager
    def _action(self) -> Iterator[None]:
        """One step of undo. Where it fails, all is as it was before."""
        before, self._offered = self.session.log, None
        try:
            yield
        except Exception:
            self._restore(before)
            raise
        if self.session.log.entries != before.entries:
            self._undo.append(before)
            self._redo.clear()

    def _restore(self, target: PromptLog) -> None:
        """Bring the session to another log: what both begin with stays, what is more there is said again."""
        log = self.session.log
        common = shared(log, target)
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
            self._begin(entry)

    def _carried(self, before: PromptLog, plan: Propagation) -> Iterator[Stepped | Sought]:
        """Carry what was told since `before`; both are one step of undo."""
        if self.session.log.entries != before.entries:
            self._undo.append(before)
            self._redo.clear()
        if plan.legs:
            self._run = self.session.run(plan)
            yield from self._run
            self._run = None

    def _begin(self, plan: Propagation | None) -> None:
        self._run = self.session.run(plan)
        self._steps = iter(self._run)

    def _changed(self, frames: Collection[int], *, whole: bool = True) -> Changed:
        """What these frames are now.

        Many are not drawn at once: nothing ever holds the whole stack.
        """
        few = frames if len(frames) <= PIECE else ()
        if whole:
            facts = {
                key: Fact(trace.score, trace.presence)
                for key, trace in self.session.traces().items()
            }
        else:
            facts = {key: fact for frame in frames for key, fact in self._facts(frame).items()}
        total = sum(1 for _ in self._run.plan.steps()) if self._run else 0
        return self._stated(
            Changed(
                self.session.log,
                self._planes(few),
                facts,
                whole=whole,
                stale=frozenset(frames) - frozenset(few),
                total=total,
            )
        )

    def _planes(self, frames: Iterable[int]) -> dict[int, np.ndarray]:
        """The label planes of these frames, measured where that is wanted."""
        planes = {frame: self.session.plane(frame) for frame in sorted(frames)}
        if self._measured is not None:
            self._measured.describe(self.session.log.tracks)
            for frame, plane in planes.items():
                self._measured.measure(frame, plane, self._facts(frame))
        self._keep(planes)
        return planes

    def _keep(self, planes: Mapping[int, np.ndarray]) -> None:
        """Save the project every few seconds; prompts and answers are on disk at once."""
        if self._project is None:
            return
        for frame, plane in planes.items():
            self._project.put(frame, plane)
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self._project.save()
            self._saved = time.monotonic()

    def _facts(self, frame: int) -> dict[tuple[int, int], Fact]:
        return {
            (each.track, frame): Fact(each.iou, each.presence)
            for each in self.session.segments(frame)
        }

    def _stated(self, changed: Changed) -> Changed:
        notices: list[str] = getattr(
            self.session.model, "notices", []
        )  # of a model that had to do with less memory
        return replace(
            changed,
            notice=changed.notice or (notices.pop(0) if notices else ""),
            running=self._run is not None or self._working,
            offered=len(self._offered[0].alternatives) if self._offered else 0,
            undoable=bool(self._undo),
            redoable=bool(self._redo),
            unfinished=self.session.unfinished,
        )


def shared(one: PromptLog, other: PromptLog) -> int:
    """How many entries both begin with."""
    return next(
        (n for n, (ours, theirs) in enumerate(zip(one, other, strict=False)) if ours != theirs),
        min(len(one), len(other)),
    )
