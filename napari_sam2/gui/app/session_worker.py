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

from napari_sam2.api.count import Found, save_counted
from napari_sam2.api.job import save
from napari_sam2.api.session import Session
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
    renumbered,
)
from napari_sam2.core.track import Track
from napari_sam2.gui.app.counting_task import Placed, Search, Sought, Wanted
from napari_sam2.gui.app.live_tables import Measured
from napari_sam2.gui.app.session_steps import Steps, shared
from napari_sam2.gui.app.session_update import Carry, Changed
from napari_sam2.propagation.overlaps import mask
from napari_sam2.propagation.propagate import Stepped
from napari_sam2.tracking.pipeline import worthy


class Desk(Steps):
    """What can be done with a Session. Each action is one step of undo."""

    def shown(self, frames: Collection[int]) -> Changed:
        """These frames as they are now."""
        return self._stated(Changed(self.session.log, self._planes(frames)))

    def state(self, drawn: Collection[int] = ()) -> Changed:
        """All that is known.

        Where the desk is new, frames that were `drawn` before it, and those prompted, look
        otherwise now.
        """
        if not self._new:
            return self._changed(())
        self._new = False
        known = {frame for _, frame in self.session.traces()}
        notice, self._notice = self._notice, ""
        return replace(
            self._changed({*drawn, *known, *(prompt.frame for prompt in self.session.log.prompts)}),
            notice=notice,
        )

    def measure(self) -> tuple[Measured, Changed]:
        """Measure from now on what is drawn; what was drawn before is stale, so that it is drawn and measured."""
        if self._measured is None:
            self._measured = Measured(self.session.video)
        known = frozenset(frame for _, frame in self.session.traces())
        return self._measured, self._stated(Changed(self.session.log, stale=known))

    def prompt(self, prompts: Iterable[Prompt], tracks: Iterable[Track] = ()) -> Changed:
        """Answer prompts, of tracks that may have names.

        Raises PromptError for one outside the video; then nothing is changed.
        """
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
            offered = replace(
                segment, logits=segment.alternatives[number].logits, presence_score=1.0
            )
            drawn = mask(offered, self.session.video.shape[1:])
            if drawn.any():
                self.session.prompt(MaskPrompt(segment.frame, segment.track, drawn))
        return self._changed({segment.frame})

    def edit(self, track: int, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]) -> Changed:
        """Say something else about a track on a frame than was said.

        Where it was carried since, this frame is asked anew, and the rest is to be carried again;
        then raises PromptError where nothing is left that was said.
        """
        entries = self.session.log.entries
        old = [number for number, entry in enumerate(entries) if _says(entry, track, frame)]
        first = old[0] if old else len(entries)
        if any(isinstance(entry, Propagation) for entry in entries[first:]):
            return self._say_anew(track, frame, prompts)
        kept = [
            entry for number, entry in enumerate(entries[first:], start=first) if number not in old
        ]
        with self._action():
            self._restore(PromptLog((*entries[:first], *prompts, *kept)))
        return self._changed({frame})

    def _say_anew(
        self, track: int, frame: int, prompts: Sequence[PointPrompt | BoxPrompt]
    ) -> Changed:
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
            given[0] = PointPrompt(frame, track, given[0].yx, given[0].positive, anew=True)
        with self._action():
            self.session.prompt_many(given)
        return replace(
            self._changed({frame}),
            notice="Asked again on this frame. Propagate (P) to carry that on.",
        )

    def lock(
        self, tracks: Iterable[int], frames: Iterable[int] | None = None, *, locked: bool = True
    ) -> Changed:
        """Accept tracks on these frames, or on all that they are on; or take that back."""
        known = sorted(self.session.traces())
        with self._action():
            for track in tracks:
                for frame in (
                    [place for other, place in known if other == track]
                    if frames is None
                    else frames
                ):
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
                parts = [
                    mask(each, shape)
                    for each in self.session.segments(frame)
                    if each.track in (into, *others) and each.present
                ]
                if parts:
                    drawn.append(MaskPrompt(frame, into, np.logical_or.reduce(parts)))
            self.session.prompt_many(drawn)
            for track in others:
                self.session.remove(track)
        return self._changed(frames)

    def split(self, track: int, frame: int, first: int) -> Changed:
        """Make tracks of their own, from id `first`, of all but the largest piece of a track on a frame."""
        found = [
            each for each in self.session.segments(frame) if each.track == track and each.present
        ]
        pieces = (
            label(mask(found[0], self.session.video.shape[1:]))
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
        tracks = [track, *range(first, first + len(order) - 1)]
        return self.prompt(
            [
                MaskPrompt(frame, owner, pieces == piece)
                for owner, piece in zip(tracks, order, strict=True)
            ]
        )

    def split_at(self, track: int, frame: int, new: int, yx: tuple[float, float]) -> Changed:
        """Make a track of its own of the part of `track` that was clicked."""
        return self.prompt(
            [PointPrompt(frame, new, [yx], [True]), PointPrompt(frame, track, [yx], [False])]
        )

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
        """Do the last action again that was taken back.

        A propagation is only begun: `step` does the rest.
        """
        return self._travel(self._redo, self._undo)

    def start(self, carry: Carry) -> Changed:
        """Begin to carry; `step` does one frame.

        Goes on with what was cancelled, unless something else is asked for.

        Raises PlanError where there is nothing to carry.
        """
        self.stop()
        plan = None
        if not (self.session.unfinished and carry == Carry()):
            plan = self.session.plan(
                direction=carry.direction, frames=carry.frames, tracks=carry.tracks
            )
            if not any(leg.frames for leg in plan.legs):
                raise PlanError(
                    "everything is carried already: correct an object, or add one, then carry on"
                )
        with self._action():
            self._begin(plan)
        return self._changed((), whole=False)

    def look(self, wanted: Wanted) -> Changed:
        """Begin to look for objects that nobody clicked; `step` looks at one frame.

        See `Search` for what is raised.
        """
        self.stop()
        self._search = Search(self.session, wanted)
        self._steps, self._working = self._search.look(), True
        return self._stated(Changed(self.session.log, total=len(self._search.frames)))

    def count(self, placed: Sequence[Placed], *, first: int, category: str = "") -> Changed:
        """Begin to make objects of seeds, as they lie now, numbered from `first`; `step` does one frame.

        Where seeds are of one frame only, they are carried, and then what is found elsewhere and
        not explained, until nothing new appears. Raises PlanError where nothing was looked for.
        """
        self.stop()
        if self._search is None:
            raise PlanError("nothing was looked for yet with this model: find seeds first")
        telling = self._told if self._search.wanted.joined else self._rounds
        self._steps, self._working = telling(self._search, placed, first, category), True
        return self._stated(Changed(self.session.log, total=len(self.session.video)))

    def save(self, folder: Path) -> Path:
        """Write labels, tables, picture, prompts and provenance into `folder`, and the report where objects were counted.

        Raises PlanError where nothing was prompted, OutputError where the folder cannot be written
        to.
        """
        if not self.session.log.track_ids:
            raise PlanError("there is nothing to save: click an object first")
        run, search = self.session.run(Propagation(())), self._search
        if search is None:
            save(run, folder)
        else:
            save_counted(
                Found(run, search.notes),
                folder,
                settings=search.wanted.counting.model_dump(mode="json"),
            )
        return folder

    def _travel(self, back: list[PromptLog], forth: list[PromptLog]) -> Changed:
        if not back:
            return self._changed(())
        self.stop()
        self._offered = None
        before, log, target = self.session.traces(), self.session.log, back.pop()
        forth.append(log)
        self._restore(target)
        walked = {frame for (_, frame), _ in before.items() ^ self.session.traces().items()}
        said = {
            entry.frame
            for one in (log, target)
            for entry in one.entries[shared(log, target) :]
            if isinstance(entry, Prompt | Lock)
        }
        return self._changed(walked | said)

    def _told(
        self, search: Search, placed: Sequence[Placed], first: int, category: str
    ) -> Iterator[Stepped | Sought]:
        """Join, tell, and carry over the frames that objects were missed on: one step of undo.

        Where it is stopped before, nothing.
        """
        yield from search.join(placed)
        before = self.session.log
        try:
            yield from search.tell(first, category=category)
        except BaseException:  # a generator that is closed is told so by an exception
            self._restore(before)
            raise
        yield from self._carried(before, search.plan)

    def _rounds(
        self, search: Search, placed: Sequence[Placed], first: int, category: str
    ) -> Iterator[Stepped | Sought]:
        """Carry what was found, look frame by frame for what is not explained, carry that, until nothing new appears."""
        session, ours = self.session, list[int]()
        rounds = chain(
            [[seed.prompt for seed in search.taken(placed)]],
            map(search.unexplained, range(len(session.video))),
        )
        for frame, fresh in enumerate(rounds, start=-1):
            new = [
                renumbered(prompt, first + len(ours) + number)
                for number, prompt in enumerate(fresh)
            ]
            before, ours = session.log, [*ours, *(prompt.track for prompt in new)]
            session.prompt_many(new)
            for prompt in new if category else ():
                session.describe(Track(prompt.track, category=category))
            told = f"Frame {max(frame, 0)}: {len(new)} new, {len(ours)} in all"
            yield Sought(
                told,
                frame + 1,
                len(session.video) + 1,
                frames=tuple({prompt.frame for prompt in new}),
            )
            if not new:
                continue
            yield from self._carried(before, session.plan(tracks=[prompt.track for prompt in new]))
            if self._ending:
                return
        double = sorted(
            set(ours) - set(worthy(session, min(search.joining.least, len(session.video))))
        )
        if double:
            gone = {frame for track, frame in session.traces() if track in double}
            with self._action():
                for track in double:
                    session.remove(track)
            yield Sought(
                f"{len(double)} found twice or on too few frames: taken out",
                1,
                1,
                frames=tuple(sorted(gone)),
            )


def prompts_only(log: PromptLog) -> PromptLog:
    """What another model can be asked with: prompts, removals, and locks of what was prompted, without what this one made of them."""
    said = {(prompt.track, prompt.frame) for prompt in log.prompts}
    locks = {
        entry for entry in log if isinstance(entry, Lock) and (entry.track, entry.frame) in said
    }
    return PromptLog(
        tuple(entry for entry in log if isinstance(entry, Prompt | Removal) or entry in locks),
        log.tracks,
    )


def handed_over(session: Session) -> PromptLog:
    """What another model takes up of a session: what was said, and the masks of frames that were accepted, with their locks."""
    log, shape = prompts_only(session.log), session.video.shape[1:]
    said = {(prompt.track, prompt.frame) for prompt in log.prompts}
    for track, frame in sorted(
        {(entry.track, entry.frame) for entry in session.log if isinstance(entry, Lock)} - said
    ):
        segment = next(
            (each for each in session.segments(frame) if each.track == track and each.present), None
        )
        drawn = (
            mask(segment, shape)
            if segment is not None and session.log.locked(track, frame)
            else np.zeros(shape, dtype=bool)
        )
        if drawn.any():
            log = log.add(MaskPrompt(frame, track, drawn)).add(Lock(frame, track))
    return log


def _says(entry: Entry, track: int, frame: int) -> bool:
    return isinstance(entry, PointPrompt | BoxPrompt) and (entry.track, entry.frame) == (
        track,
        frame,
    )
