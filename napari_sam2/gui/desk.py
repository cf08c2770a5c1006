"""Desk: one Session at work in the background thread. What each piece of work changed comes back as a Changed."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from skimage.measure import label

from napari_sam2.api.job import save
from napari_sam2.api.project import Project
from napari_sam2.api.session import Run, Session
from napari_sam2.core.errors import PlanError, PromptError
from napari_sam2.core.plan import Direction, Propagation
from napari_sam2.core.prompt import BoxPrompt, Entry, Lock, MaskPrompt, PointPrompt, Prompt, PromptLog, Removal
from napari_sam2.core.result import Segment
from napari_sam2.core.track import Track
from napari_sam2.engine.overlap import mask
from napari_sam2.engine.walk import Stepped
from napari_sam2.gui.measured import Measured
from napari_sam2.measurement.facts import Fact

SAVE_EVERY_S = 4.0
"""Seconds between two savings of the label planes of a project."""

PIECE = 8
"""Frames that are drawn in one piece of work: so few that a click made meanwhile does not wait."""


@dataclass(frozen=True, eq=False)
class Changed:
    """What a piece of work changed.

    `planes` are the (H, W) labels of frames that look different, `stale` are more of them: ask for these (`Desk.shown`).
    `facts` are new ones, or with `whole` all there are. `running`: a run was begun, do its steps.
    `offered` is how many masks the model offers for the last prompt, 0 where only one. `done` of `total` steps of a run.
    """

    log: PromptLog
    planes: Mapping[int, np.ndarray] = field(default_factory=dict)
    facts: Mapping[tuple[int, int], Fact] = field(default_factory=dict)
    whole: bool = False
    stale: frozenset[int] = frozenset()
    running: bool = False
    notice: str = ""
    offered: int = 0
    undoable: bool = False
    redoable: bool = False
    unfinished: bool = False
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Carry:
    """What a person asked to be carried: which way, which frames (as in a slice), which tracks; None: all."""

    direction: Direction = "both"
    frames: tuple[int, int] | None = None
    tracks: tuple[int, ...] | None = None


class Desk:
    """A Session, the run it is in, and the logs to go back and forth to. Each action is one step of undo.

    `project` is where all of it is kept, None where nowhere; `notice` a sentence about it for the person.
    """

    def __init__(self, session: Session, *, project: Project | None = None, notice: str = "") -> None:
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
        self._steps: Iterator[Stepped] = iter(())

    def close(self) -> None:
        """Let go of memory and files."""
        self.stop()
        if self._project is not None:
            self._project.close()
        self.session.close()

    def shown(self, frames: Collection[int]) -> Changed:
        """These frames as they are now."""
        return self._stated(Changed(self.session.log, self._planes(frames)))

    def state(self, drawn: Collection[int] = ()) -> Changed:
        """All that is known. Where the desk is new, frames that were `drawn` before it, and those prompted, look otherwise now."""
        if not self._new:
            return self._changed(())
        self._new = False
        known = {frame for _, frame in self.session.traces()}
        notice, self._notice = self._notice, ""
        return replace(self._changed({*drawn, *known, *(prompt.frame for prompt in self.session.log.prompts)}), notice=notice)

    def measure(self) -> tuple[Measured, Changed]:
        """Measure from now on what is drawn; what was drawn before is stale, so that it is drawn and measured."""
        if self._measured is None:
            self._measured = Measured(self.session.video)
        known = frozenset(frame for _, frame in self.session.traces())
        return self._measured, self._stated(Changed(self.session.log, stale=known))

    def prompt(self, prompts: Iterable[Prompt], tracks: Iterable[Track] = ()) -> Changed:
        """Answer prompts, of tracks that may have names. Raises PromptError for one outside the video; then nothing is changed."""
        given = list(prompts)
        with self._action():
            segments = self.session.prompt_many(given)
        for track in tracks:
            self.session.describe(track)
        if len(segments) == 1 and len(segments[0].alternatives) > 1:
            self._offered = segments[0], self.session.log
        return self._changed({each.frame for each in given}, whole=False)

    def choose(self, number: int) -> Changed:
        """Take another of the masks that the model offered for the last prompt: 0 is its own choice. Part of the same step of undo."""
        if self._offered is None:
            raise PromptError("there is no other mask to choose: click an object first")
        segment, log = self._offered
        self._restore(log)
        if number:
            offered = replace(segment, logits=segment.alternatives[number].logits, presence_score=1.0)
            drawn = mask(offered, self.session.video.shape[1:])
            if drawn.any():
                self.session.prompt(MaskPrompt(segment.frame, segment.track, drawn))
        return self._changed({segment.frame})

    def edit(self, track: int, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]) -> Changed:
        """Say something else about a track on a frame than was said. Raises PromptError where it was carried since."""
        entries = self.session.log.entries
        old = [number for number, entry in enumerate(entries) if _says(entry, track, frame)]
        first = old[0] if old else len(entries)
        if any(isinstance(entry, Propagation) for entry in entries[first:]):
            raise PromptError("was carried on from this prompt: add a click where it is wrong, or undo", track=track, frame=frame)
        kept = [entry for number, entry in enumerate(entries[first:], start=first) if number not in old]
        with self._action():
            self._restore(PromptLog((*entries[:first], *prompts, *kept)))
        return self._changed({frame})

    def lock(self, tracks: Iterable[int], frames: Iterable[int] | None = None, *, locked: bool = True) -> Changed:
        """Accept tracks on these frames, or on all that they are on; or take that back."""
        known = sorted(self.session.traces())
        with self._action():
            for track in tracks:
                for frame in [place for other, place in known if other == track] if frames is None else frames:
                    self.session.lock(track, frame, locked=locked)
        return self._changed(())

    def remove(self, tracks: Iterable[int]) -> Changed:
        """Take tracks out of the result."""
        gone = set(tracks)
        frames = {frame for track, frame in self.session.traces() if track in gone}
        with self._action():
            for track in sorted(gone & set(self.session.log.track_ids)):
                self.session.remove(track)
        return self._changed(frames)

    def merge(self, into: int, others: Sequence[int]) -> Changed:
        """Make one track of several: where others are seen, `into` has their pixels as well, as if they had been drawn."""
        frames = sorted({frame for track, frame in self.session.traces() if track in others})
        shape = self.session.video.shape[1:]
        with self._action():
            drawn = []
            for frame in frames:
                parts = [mask(each, shape) for each in self.session.segments(frame) if each.track in (into, *others) and each.present]
                if parts:
                    drawn.append(MaskPrompt(frame, into, np.logical_or.reduce(parts)))
            self.session.prompt_many(drawn)
            for track in others:
                self.session.remove(track)
        return self._changed(frames)

    def split(self, track: int, frame: int, first: int) -> Changed:
        """Make tracks of their own, from id `first`, of all but the largest piece of a track on a frame."""
        found = [each for each in self.session.segments(frame) if each.track == track and each.present]
        pieces = label(mask(found[0], self.session.video.shape[1:])) if found else np.zeros((1, 1), dtype=int)
        if pieces.max() < 2:
            raise PromptError("is in one piece here: click the part that is another object", track=track, frame=frame)
        sizes = np.bincount(pieces.ravel())[1:]
        order = [int(piece) + 1 for piece in np.argsort(-sizes, kind="stable")]
        tracks = [track, *range(first, first + len(order) - 1)]
        return self.prompt([MaskPrompt(frame, owner, pieces == piece) for owner, piece in zip(tracks, order, strict=True)])

    def split_at(self, track: int, frame: int, new: int, yx: tuple[float, float]) -> Changed:
        """Make a track of its own of the part of `track` that was clicked."""
        return self.prompt([PointPrompt(frame, new, [yx], [True]), PointPrompt(frame, track, [yx], [False])])

    def describe(self, track: Track) -> Changed:
        """Name a track, or give it a category."""
        self.session.describe(track)
        if self._measured is not None:
            self._measured.describe(self.session.log.tracks)
        return self._changed((), whole=False)

    def undo(self) -> Changed:
        """Take back the last action."""
        return self._travel(self._undo, self._redo)

    def redo(self) -> Changed:
        """Do the last action again that was taken back. A propagation is only begun: `step` does the rest."""
        return self._travel(self._redo, self._undo)

    def start(self, carry: Carry) -> Changed:
        """Begin to carry; `step` does one frame. Goes on with what was cancelled, unless something else is asked for.

        Raises PlanError where there is nothing to carry.
        """
        self.stop()
        plan = None
        if not (self.session.unfinished and carry == Carry()):
            plan = self.session.plan(direction=carry.direction, frames=carry.frames, tracks=carry.tracks)
            if not any(leg.frames for leg in plan.legs):
                raise PlanError("everything is carried already: correct an object, or add one, then carry on")
        with self._action():
            self._begin(plan)
        return self._changed((), whole=False)

    def step(self) -> Changed | None:
        """One frame more; None at the end, or where no run is going on."""
        stepped = next(self._steps, None)
        if stepped is None:
            self.stop()
            return None
        frame = stepped.step.frame
        facts = {(each.track, frame): Fact(each.iou, each.presence) for each in stepped.segments}
        planes = self._planes([frame]) if stepped.segments else {}
        return self._stated(Changed(self.session.log, planes, facts, done=stepped.position, total=stepped.total))

    def stop(self) -> Changed:
        """End the run; what is done stays."""
        if self._run is not None:
            self._run.cancel()
            for _ in self._steps:
                pass
        self._run, self._steps = None, iter(())
        return self._changed((), whole=False)

    def save(self, folder: Path, *, notes: tuple[str, ...] = ()) -> Path:
        """Write labels, tables, picture, prompts and provenance into `folder`. Raises PlanError where nothing was prompted."""
        if not self.session.log.track_ids:
            raise PlanError("there is nothing to save: click an object first")
        save(self.session.run(Propagation(())), folder, notes=notes)
        return folder

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

    def _travel(self, back: list[PromptLog], forth: list[PromptLog]) -> Changed:
        if not back:
            return self._changed(())
        self.stop()
        self._offered = None
        before, log, target = self.session.traces(), self.session.log, back.pop()
        forth.append(log)
        self._restore(target)
        walked = {frame for (_, frame), _ in before.items() ^ self.session.traces().items()}
        said = {entry.frame for one in (log, target) for entry in one.entries[_common(log, target) :] if isinstance(entry, Prompt | Lock)}
        return self._changed(walked | said)

    def _restore(self, target: PromptLog) -> None:
        """Bring the session to another log: what both begin with stays, what is more there is said again."""
        log = self.session.log
        common = _common(log, target)
        if common < len(log):
            self.session.resume(PromptLog(log.entries[:common], log.tracks))
        rest = list(target.entries[common:])
        said = next((n for n, entry in enumerate(rest) if isinstance(entry, Propagation)), len(rest))
        self.session.replay(PromptLog((*target.entries[:common], *rest[:said]), log.tracks))
        for entry in rest[said:]:
            assert isinstance(entry, Propagation) and entry is rest[-1]  # each action is a step of its own
            self._begin(entry)

    def _begin(self, plan: Propagation | None) -> None:
        self._run = self.session.run(plan)
        self._steps = iter(self._run)

    def _changed(self, frames: Collection[int], *, whole: bool = True) -> Changed:
        """What these frames are now. Many are not drawn at once: nothing ever holds the whole stack."""
        few = frames if len(frames) <= PIECE else ()
        if whole:
            facts = {key: Fact(trace.score, trace.presence) for key, trace in self.session.traces().items()}
        else:
            facts = {key: fact for frame in frames for key, fact in self._facts(frame).items()}
        total = sum(1 for _ in self._run.plan.steps()) if self._run else 0
        return self._stated(
            Changed(self.session.log, self._planes(few), facts, whole=whole, stale=frozenset(frames) - frozenset(few), total=total)
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
        return {(each.track, frame): Fact(each.iou, each.presence) for each in self.session.segments(frame)}

    def _stated(self, changed: Changed) -> Changed:
        return replace(
            changed,
            running=self._run is not None,
            offered=len(self._offered[0].alternatives) if self._offered else 0,
            undoable=bool(self._undo),
            redoable=bool(self._redo),
            unfinished=self.session.unfinished,
        )


def prompts_only(log: PromptLog) -> PromptLog:
    """What another model can be asked with: prompts and removals, without what this one made of them."""
    return PromptLog(tuple(entry for entry in log if isinstance(entry, Prompt | Removal)), log.tracks)


def _common(one: PromptLog, other: PromptLog) -> int:
    """How many entries both begin with."""
    return next((n for n, (ours, theirs) in enumerate(zip(one, other, strict=False)) if ours != theirs), min(len(one), len(other)))


def _says(entry: Entry, track: int, frame: int) -> bool:
    return isinstance(entry, PointPrompt | BoxPrompt) and (entry.track, entry.frame) == (track, frame)
