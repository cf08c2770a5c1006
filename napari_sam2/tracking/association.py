"""Association: how detections of single frames become tracks.

`SeedAssociation` links the detections of all frames. `ModelAssociation` propagates those of one
frame, and detects on the others what is not tracked yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import MaskPrompt, Prompt, PromptLog, renumber_prompt
from napari_sam2.core.track import Presence, Track
from napari_sam2.tracking.duplicates import filter_tracks
from napari_sam2.tracking.linker import Linker
from napari_sam2.tracking.predictor import TrackPredictor
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage
from napari_sam2.tracking.seeds import DetectionKey, SeedSelection, get_detection_keys
from napari_sam2.tracking.session_driver import group_by_frame
from napari_sam2.tracking.tracklets import Tracklet, finalize_tracklets

if TYPE_CHECKING:
    from napari_sam2.tracking.pipeline import TrackingPipeline

AssociationName = Literal["seeds", "model"]


class Association(Protocol):
    """How detections become tracks; the part of `TrackingPipeline` that can be exchanged."""

    def choose_frames(self, length: int, *, volume: bool) -> tuple[int, ...]:
        """Frames to detect on before tracking begins; `volume`: all of them are known at once."""
        ...

    @property
    def uses_volumes(self) -> bool:
        """Whether a detector may segment the whole volume."""
        ...

    def track(
        self, pipeline: TrackingPipeline, selection: SeedSelection
    ) -> Iterator[TrackingProgress]:
        """Prompt the tracks in the pipeline's session and propagate them."""
        ...


class SeedAssociation:
    """Link detections from frame to frame; propagate over the frames that they were missed on.

    Objects that the session knows are part of the tracks, and are not changed.
    """

    uses_volumes = True

    def choose_frames(self, length: int, *, volume: bool) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(length))

    def track(
        self, pipeline: TrackingPipeline, selection: SeedSelection
    ) -> Iterator[TrackingProgress]:
        """See `Association`."""
        linked = yield from _link(pipeline, selection)
        planned = _plan_tracks(pipeline, selection, linked)
        if pipeline.saved is not None:
            log = PromptLog(planned.prompts).describe(*planned.describe(pipeline.session.log))
            if planned.plan.ranges:
                log = log.add(planned.plan)
            pipeline.saved.save_planned(log)
        yield from pipeline.driver.add_tracks(
            planned.prompts,
            lambda: planned.describe(pipeline.session.log),
            planned.plan,
            f"{len(planned.tracks)} objects in all",
        )


@dataclass(frozen=True, eq=False)
class _LinkedTracklets:
    """Tracklets; `owners` are the tracks that the session knows, by detection."""

    tracklets: list[Tracklet]
    owners: dict[DetectionKey, int]
    known: frozenset[DetectionKey] = frozenset()


@dataclass(frozen=True, eq=False)
class _PlannedTracks:
    """What is to be prompted and propagated; `tracks` by tracklet."""

    prompts: tuple[Prompt, ...]
    tracks: dict[int, int]
    parents: dict[int, int | None]
    plan: Propagation
    category: str

    def describe(self, log: PromptLog) -> list[Track]:
        """Categories and parents that a log has not yet; what it has stays."""
        prompted = {*log.track_ids, *(prompt.track for prompt in self.prompts)}
        changed = []
        for tracklet, track in self.tracks.items():
            known = log.track(track)
            parent = self.tracks.get(self.parents[tracklet] or 0)
            wanted = replace(
                known,
                category=known.category or self.category,
                parent=known.parent if parent in (None, track) else parent,
            )
            if wanted != known and track in prompted:
                changed.append(wanted)
        return changed


def _link(
    pipeline: TrackingPipeline, selection: SeedSelection
) -> Generator[TrackingProgress, None, _LinkedTracklets]:
    if not pipeline.has_volume_labels:
        return (yield from _link_frame_by_frame(pipeline, selection))
    same = pipeline.find_known_objects()
    owners = {
        (seed.frame, seed.number): same[seed.label]
        for seed in selection.seeds
        if seed.label in same
    }
    return _LinkedTracklets(selection.group_by_label(), owners)


def _link_frame_by_frame(
    pipeline: TrackingPipeline, selection: SeedSelection
) -> Generator[TrackingProgress, None, _LinkedTracklets]:
    """Link seeds and the objects that the session knows together."""
    video, known = pipeline.session.video, dict[DetectionKey, int]()
    with TrackPredictor(video, pipeline.session.model) as predictor:
        linker = Linker(predictor, pipeline.linking)
        for frame in range(len(video)):
            prompts = [seed.prompt for seed in selection.seeds if seed.frame == frame]
            plane = pipeline.session.label_plane(frame)
            for track in np.unique(plane[plane > 0]).tolist():
                prompts.append(MaskPrompt(frame, len(prompts) + 1, plane == track))
                known[frame, len(prompts)] = track
            linker.add_frame(frame, prompts)
            yield TrackingProgress(
                TrackingStage.LINK,
                frame + 1,
                len(video),
                f"Linking frame {frame}: {len(linker.tracklets)} objects",
            )
    return _LinkedTracklets(linker.resolve_tracklets(), known, frozenset(known))


def _plan_tracks(
    pipeline: TrackingPipeline, selection: SeedSelection, linked: _LinkedTracklets
) -> _PlannedTracks:
    """Number the tracks, and choose what to prompt and propagate."""
    length, min_frames = len(pipeline.session.video), pipeline.linking.min_frames

    def is_single(tracklet: Tracklet) -> bool:
        """Whether a person placed it, on too few frames to be linked."""
        return len(tracklet.prompts) < min_frames and selection.is_user_placed(tracklet)

    long = [tracklet for tracklet in linked.tracklets if not is_single(tracklet)]
    tracklets = finalize_tracklets(long, length, min_frames=min_frames)
    for tracklet in filter(is_single, linked.tracklets):
        number = max((each.id for each in tracklets), default=0) + 1
        tracklets.append(Tracklet(number, tracklet.prompts))
    tracks = _number_tracks(tracklets, linked.owners, pipeline.first_track)
    starts = {tracks[each.id]: [each.first] for each in tracklets if is_single(each)}
    gaps = [
        PropagationRange(tracks[each.id], before, after - 1)
        for each in tracklets
        for before, after in each.find_gaps()
    ]
    return _PlannedTracks(
        _choose_prompts(pipeline, tracklets, tracks, linked.known),
        tracks,
        {each.id: each.parent for each in tracklets},
        Propagation((*gaps, *Propagation.outward(starts, length=length).ranges)),
        pipeline.category,
    )


def _number_tracks(
    tracklets: Sequence[Tracklet], owners: dict[DetectionKey, int], first_track: int
) -> dict[int, int]:
    """Tracks by tracklet: the one that the session knows, or a new one from `first_track`."""
    tracks: dict[int, int] = {}
    for tracklet in tracklets:
        owner = _find_majority(owners.get(key) for key in get_detection_keys(tracklet))
        if owner:
            tracks[tracklet.id] = owner
    for tracklet in tracklets:
        if tracklet.id not in tracks:
            tracks[tracklet.id], first_track = first_track, first_track + 1
    return tracks


def _choose_prompts(
    pipeline: TrackingPipeline,
    tracklets: Sequence[Tracklet],
    tracks: dict[int, int],
    known: frozenset[DetectionKey],
) -> tuple[Prompt, ...]:
    """Prompts by frame and track, without those of objects that the session has there."""
    present = {
        key
        for key, record in pipeline.session.records().items()
        if record.presence != Presence.ABSENT
    }
    chosen: dict[tuple[int, int], Prompt] = {}
    for tracklet in tracklets:
        track = tracks[tracklet.id]
        for frame, prompt in tracklet.prompts.items():
            if (frame, prompt.track) not in known and (track, frame) not in present:
                chosen.setdefault((frame, track), renumber_prompt(prompt, track))
    return tuple(chosen[key] for key in sorted(chosen))


def _find_majority(votes: Iterable[int | None]) -> int | None:
    counts = Counter(vote for vote in votes if vote)
    return counts.most_common(1)[0][0] if counts else None


@dataclass(frozen=True)
class ModelAssociation:
    """Propagate what is detected; detect, frame by frame, what is not tracked yet.

    Tracks that follow one object twice, or are too short, are dropped at the end.

    Parameters
    ----------
    start_frame
        Frame whose detections come first; None: begin with frame 0. A volume is then detected as
        one.
    keep_log
        Drop tracks by an entry of the log that can be undone. Else the log is written again
        without them, numbered from 1.
    """

    start_frame: int | None = None
    keep_log: bool = False

    @property
    def uses_volumes(self) -> bool:
        """Only if it begins with no frame of its own."""
        return self.start_frame is None

    def choose_frames(self, length: int, *, volume: bool) -> tuple[int, ...]:
        """The start frame, or all frames of a volume; else tracking itself detects."""
        if volume:
            return tuple(range(length))
        return () if self.start_frame is None else (self.start_frame,)

    def track(
        self, pipeline: TrackingPipeline, selection: SeedSelection
    ) -> Iterator[TrackingProgress]:
        """See `Association`."""
        length, min_frames = len(pipeline.session.video), pipeline.linking.min_frames
        if pipeline.has_volume_labels:
            tracklets = finalize_tracklets(
                selection.group_by_label(), length, min_frames=min_frames
            )
            prompts = [renumber_prompt(_find_largest(each), each.id) for each in tracklets]
            yield from self._track_again(pipeline, prompts)
            return
        ours = yield from self._run_rounds(pipeline, selection)
        if pipeline.driver.cancelled:
            return
        kept = filter_tracks(pipeline.session, min(min_frames, length))
        dropped = sorted(set(ours) - set(kept))
        if not dropped:
            if pipeline.saved is not None:
                pipeline.saved.save_planned(pipeline.session.log)
        elif self.keep_log:
            yield self._remove(pipeline, dropped)
        else:
            numbers = {track: number for number, track in enumerate(kept, start=1)}
            prompts = [
                renumber_prompt(prompt, numbers[prompt.track])
                for prompt in pipeline.session.log.prompts
                if prompt.track in numbers
            ]
            yield _make_dropped_progress(len(dropped))
            yield from self._track_again(pipeline, prompts)

    def _run_rounds(
        self, pipeline: TrackingPipeline, selection: SeedSelection
    ) -> Generator[TrackingProgress, None, list[int]]:
        """Propagate seeds, and detect and propagate on each frame; the tracks made."""
        session, length = pipeline.session, len(pipeline.session.video)
        ours, first = list[int](), 0
        if pipeline.saved is not None:
            ours, first = yield from self._resume_rounds(pipeline, pipeline.saved.load_rounds())
        if self.start_frame is not None:
            prompts = [seed.prompt for seed in selection.seeds]
            yield from self._run_round(pipeline, -1, prompts, ours)
        for frame in range(first, length):
            if pipeline.driver.cancelled:
                break
            occupied = session.label_plane(frame) > 0
            prompts = pipeline.detector.detect(session.video, frame, occupied=occupied)
            yield from self._run_round(pipeline, frame, prompts, ours)
        return ours

    def _resume_rounds(
        self, pipeline: TrackingPipeline, log: PromptLog
    ) -> Generator[TrackingProgress, None, tuple[list[int], int]]:
        """Finish the rounds that were begun: the tracks made, and the next frame."""
        session = pipeline.session
        yield from pipeline.driver.resume(log)
        propagated = {
            track
            for entry in session.log.entries
            if isinstance(entry, Propagation)
            for track in entry.tracks
        }
        ours = list(session.log.track_ids)
        waiting = [track for track in ours if track not in propagated]
        if waiting:
            yield from pipeline.driver.propagate(session.plan(tracks=waiting))
        return ours, 1 + max((prompt.frame for prompt in session.log.prompts), default=-1)

    def _run_round(
        self, pipeline: TrackingPipeline, frame: int, prompts: Sequence[Prompt], ours: list[int]
    ) -> Iterator[TrackingProgress]:
        session, before = pipeline.session, pipeline.session.log
        first = pipeline.first_track + len(ours)
        new = [renumber_prompt(prompt, number) for number, prompt in enumerate(prompts, first)]
        ours += [prompt.track for prompt in new]
        session.prompt_many(new)
        if pipeline.category:
            session.describe(*(Track(each.track, category=pipeline.category) for each in new))
        if new and pipeline.saved is not None:
            pipeline.saved.save_rounds(session.log)
        yield TrackingProgress(
            TrackingStage.DETECT,
            frame + 1,
            len(session.video) + 1,
            f"Frame {max(frame, 0)}: {len(new)} new, {len(ours)} in all",
            changed_frames=tuple({prompt.frame for prompt in new}),
        )
        if not new:
            return
        pipeline.driver.finish_action(before)
        plan = session.plan(tracks=[prompt.track for prompt in new])
        if pipeline.saved is not None:
            pipeline.saved.save_rounds(session.log.add(plan) if plan.ranges else session.log)
        yield from pipeline.driver.propagate(plan)

    def _track_again(
        self, pipeline: TrackingPipeline, prompts: Sequence[Prompt]
    ) -> Iterator[TrackingProgress]:
        """Track these prompts alone, each both ways from its frame."""
        session = pipeline.session
        starts = {prompt.track: [prompt.frame] for prompt in prompts}
        plan = Propagation.outward(starts, length=len(session.video))
        tracks = [Track(track, category=pipeline.category) for track in starts if pipeline.category]
        session.resume(PromptLog())
        if pipeline.saved is not None:
            ordered = chain.from_iterable(group_by_frame(prompts).values())
            log = PromptLog(tuple(ordered)).describe(*tracks)
            pipeline.saved.save_planned(log.add(plan) if plan.ranges else log)
        yield from pipeline.driver.add_tracks(prompts, lambda: tracks, plan, "")

    def _remove(self, pipeline: TrackingPipeline, tracks: Sequence[int]) -> TrackingProgress:
        session, before = pipeline.session, pipeline.session.log
        frames = {frame for track, frame in session.records() if track in tracks}
        for track in tracks:
            session.remove(track)
        pipeline.driver.finish_action(before)
        return replace(_make_dropped_progress(len(tracks)), changed_frames=tuple(sorted(frames)))


def _make_dropped_progress(count: int) -> TrackingProgress:
    return TrackingProgress(
        TrackingStage.FINALISE, 1, 1, f"{count} duplicate or short tracks dropped"
    )


def _find_largest(tracklet: Tracklet) -> Prompt:
    """The prompt with the largest mask."""
    return max(
        tracklet.prompts.values(),
        key=lambda prompt: int(prompt.crop.sum()) if isinstance(prompt, MaskPrompt) else 0,
    )
