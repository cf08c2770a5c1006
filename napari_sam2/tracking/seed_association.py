"""SeedAssociation: links the detections of all frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import MaskPrompt, Prompt, PromptLog, renumber_prompt
from napari_sam2.core.track import Presence, Track
from napari_sam2.tracking.association import TrackingContext
from napari_sam2.tracking.linker import Linker
from napari_sam2.tracking.predictor import TrackPredictor
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage
from napari_sam2.tracking.seeds import DetectionKey, SeedSelection, get_detection_keys
from napari_sam2.tracking.tracklets import Tracklet, finalize_tracklets


class SeedAssociation:
    """Link detections from frame to frame; propagate over the frames that they were missed on.

    Objects that the session knows are part of the tracks, and are not changed.
    """

    uses_volumes = True

    def choose_frames(self, length: int, *, volume: bool) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(length))

    def track(
        self, context: TrackingContext, selection: SeedSelection
    ) -> Iterator[TrackingProgress]:
        """See `Association`."""
        linked = yield from _link(context, selection)
        planned = _plan_tracks(context, selection, linked)
        if context.saved is not None:
            log = PromptLog(planned.prompts).describe(*planned.describe(context.session.log))
            if planned.plan.ranges:
                log = log.add(planned.plan)
            context.saved.save_planned(log)
        yield from context.driver.add_tracks(
            planned.prompts,
            lambda: planned.describe(context.session.log),
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
            known = log.get_track(track)
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
    context: TrackingContext, selection: SeedSelection
) -> Generator[TrackingProgress, None, _LinkedTracklets]:
    if not context.has_volume_labels:
        return (yield from _link_frame_by_frame(context, selection))
    same = context.find_known_objects()
    owners = {
        (seed.frame, seed.number): same[seed.label]
        for seed in selection.seeds
        if seed.label in same
    }
    return _LinkedTracklets(selection.group_by_label(), owners)


def _link_frame_by_frame(
    context: TrackingContext, selection: SeedSelection
) -> Generator[TrackingProgress, None, _LinkedTracklets]:
    """Link seeds and the objects that the session knows together."""
    video, known = context.session.video, dict[DetectionKey, int]()
    with TrackPredictor(context.session) as predictor:
        linker = Linker(predictor, context.linking)
        for frame in range(len(video)):
            prompts = [seed.prompt for seed in selection.seeds if seed.frame == frame]
            plane = context.session.compute_label_plane(frame)
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
    context: TrackingContext, selection: SeedSelection, linked: _LinkedTracklets
) -> _PlannedTracks:
    """Number the tracks, and choose what to prompt and propagate."""
    length, min_frames = len(context.session.video), context.linking.min_frames

    def is_single(tracklet: Tracklet) -> bool:
        """Whether a person placed it, on too few frames to be linked."""
        return len(tracklet.prompts) < min_frames and selection.is_user_placed(tracklet)

    long = [tracklet for tracklet in linked.tracklets if not is_single(tracklet)]
    tracklets = finalize_tracklets(long, length, min_frames=min_frames)
    for tracklet in filter(is_single, linked.tracklets):
        number = max((each.id for each in tracklets), default=0) + 1
        tracklets.append(Tracklet(number, tracklet.prompts))
    tracks = _number_tracks(tracklets, linked.owners, context.first_track)
    starts = {tracks[each.id]: [each.first] for each in tracklets if is_single(each)}
    gaps = [
        PropagationRange(tracks[each.id], before, after - 1)
        for each in tracklets
        for before, after in each.find_gaps()
    ]
    return _PlannedTracks(
        _choose_prompts(context, tracklets, tracks, linked.known),
        tracks,
        {each.id: each.parent for each in tracklets},
        Propagation((*gaps, *Propagation.outward(starts, length=length).ranges)),
        context.category,
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
    context: TrackingContext,
    tracklets: Sequence[Tracklet],
    tracks: dict[int, int],
    known: frozenset[DetectionKey],
) -> tuple[Prompt, ...]:
    """Prompts by frame and track, without those of objects that the session has there."""
    present = {
        key
        for key, record in context.session.get_records().items()
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
