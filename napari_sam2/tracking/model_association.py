"""ModelAssociation: propagates detections, and detects what is not tracked yet."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from napari_sam2.core.plan import Propagation
from napari_sam2.core.prompt import MaskPrompt, Prompt, PromptLog, renumber_prompt
from napari_sam2.core.track import Track
from napari_sam2.tracking.association import TrackingContext
from napari_sam2.tracking.duplicates import filter_tracks
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage
from napari_sam2.tracking.seeds import SeedSelection
from napari_sam2.tracking.session_driver import group_by_frame
from napari_sam2.tracking.tracklets import Tracklet, finalize_tracklets


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
        self, context: TrackingContext, selection: SeedSelection
    ) -> Iterator[TrackingProgress]:
        """See `Association`."""
        length, min_frames = len(context.session.video), context.linking.min_frames
        if context.has_volume_labels:
            tracklets = finalize_tracklets(
                selection.group_by_label(), length, min_frames=min_frames
            )
            prompts = [renumber_prompt(_find_largest(each), each.id) for each in tracklets]
            yield from self._track_again(context, prompts)
            return
        ours = yield from self._run_rounds(context, selection)
        if context.driver.cancelled:
            return
        kept = filter_tracks(context.session, min(min_frames, length))
        dropped = sorted(set(ours) - set(kept))
        if not dropped:
            if context.saved is not None:
                context.saved.save_planned(context.session.log)
        elif self.keep_log:
            yield self._remove(context, dropped)
        else:
            numbers = {track: number for number, track in enumerate(kept, start=1)}
            prompts = [
                renumber_prompt(prompt, numbers[prompt.track])
                for prompt in context.session.log.prompts
                if prompt.track in numbers
            ]
            yield _make_dropped_progress(len(dropped))
            yield from self._track_again(context, prompts)

    def _run_rounds(
        self, context: TrackingContext, selection: SeedSelection
    ) -> Generator[TrackingProgress, None, list[int]]:
        """Propagate seeds, and detect and propagate on each frame; the tracks made."""
        session, length = context.session, len(context.session.video)
        ours, first = list[int](), 0
        if context.saved is not None:
            ours, first = yield from self._resume_rounds(context, context.saved.load_rounds())
        if self.start_frame is not None:
            prompts = [seed.prompt for seed in selection.seeds]
            yield from self._run_round(context, -1, prompts, ours)
        for frame in range(first, length):
            if context.driver.cancelled:
                break
            occupied = session.compute_label_plane(frame) > 0
            prompts = context.detector.detect(session.video, frame, occupied=occupied)
            yield from self._run_round(context, frame, prompts, ours)
        return ours

    def _resume_rounds(
        self, context: TrackingContext, log: PromptLog
    ) -> Generator[TrackingProgress, None, tuple[list[int], int]]:
        """Finish the rounds that were begun: the tracks made, and the next frame."""
        session = context.session
        yield from context.driver.resume(log)
        propagated = {
            track
            for entry in session.log.entries
            if isinstance(entry, Propagation)
            for track in entry.tracks
        }
        ours = list(session.log.track_ids)
        waiting = [track for track in ours if track not in propagated]
        if waiting:
            yield from context.driver.propagate(session.plan(tracks=waiting))
        return ours, 1 + max((prompt.frame for prompt in session.log.prompts), default=-1)

    def _run_round(
        self, context: TrackingContext, frame: int, prompts: Sequence[Prompt], ours: list[int]
    ) -> Iterator[TrackingProgress]:
        session, before = context.session, context.session.log
        first = context.first_track + len(ours)
        new = [renumber_prompt(prompt, number) for number, prompt in enumerate(prompts, first)]
        ours += [prompt.track for prompt in new]
        session.prompt_many(new)
        if context.category:
            session.describe(*(Track(each.track, category=context.category) for each in new))
        if new and context.saved is not None:
            context.saved.save_rounds(session.log)
        yield TrackingProgress(
            TrackingStage.DETECT,
            frame + 1,
            len(session.video) + 1,
            f"Frame {max(frame, 0)}: {len(new)} new, {len(ours)} in all",
            changed_frames=tuple({prompt.frame for prompt in new}),
        )
        if not new:
            return
        context.driver.finish_action(before)
        plan = session.plan(tracks=[prompt.track for prompt in new])
        if context.saved is not None:
            context.saved.save_rounds(session.log.add(plan) if plan.ranges else session.log)
        yield from context.driver.propagate(plan)

    def _track_again(
        self, context: TrackingContext, prompts: Sequence[Prompt]
    ) -> Iterator[TrackingProgress]:
        """Track these prompts alone, each both ways from its frame."""
        session = context.session
        starts = {prompt.track: [prompt.frame] for prompt in prompts}
        plan = Propagation.outward(starts, length=len(session.video))
        tracks = [Track(track, category=context.category) for track in starts if context.category]
        session.resume(PromptLog())
        if context.saved is not None:
            ordered = chain.from_iterable(group_by_frame(prompts).values())
            log = PromptLog(tuple(ordered)).describe(*tracks)
            context.saved.save_planned(log.add(plan) if plan.ranges else log)
        yield from context.driver.add_tracks(prompts, lambda: tracks, plan, "")

    def _remove(self, context: TrackingContext, tracks: Sequence[int]) -> TrackingProgress:
        session, before = context.session, context.session.log
        frames = {frame for track, frame in session.get_records() if track in tracks}
        for track in tracks:
            session.remove(track)
        context.driver.finish_action(before)
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
