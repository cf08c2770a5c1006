"""Finding: objects nobody clicked, found frame by frame, joined to tracks, and said to a Session as prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import find_objects

from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import MaskPrompt, Prompt, PromptLog, renumber_prompt
from napari_sam2.core.protocols import Detector, VolumeDetector
from napari_sam2.core.track import Track
from napari_sam2.detection.prompts import make_prompt
from napari_sam2.propagation.session import Session
from napari_sam2.tracking.linker import Linker, LinkingOptions
from napari_sam2.tracking.tracklets import Tracklet, finalize_tracklets

Report = Callable[[str], None]

_DUPLICATE_IOU = 0.5  # from here on two masks are of one object


def detect_tracks(
    session: Session, detector: Detector, linking: LinkingOptions, report: Report
) -> list[Tracklet]:
    """Every object of the session's video, on every frame it is found on.

    The session's log is empty before and after.

    A source that sees the whole volume says itself which is which. Otherwise objects are linked
    from frame to frame by overlap; where masks alone do not tell, the model is shown the track on
    the last frame it was on and asked for it on the next.
    """
    volume = _detect_volume_tracklets(session, detector)
    if volume is not None:
        return finalize_tracklets(volume, len(session.video), min_frames=linking.min_frames)
    return _link_detections(session, detector, linking, report)


def commit_tracks(
    session: Session, tracklets: Sequence[Tracklet], *, category: str = ""
) -> Propagation:
    """Say all chains to an empty session, and give the plan that carries tracks over the frames they were missed on."""
    prompts = [
        renumber_prompt(prompt, chain.id)
        for chain in tracklets
        for _, prompt in sorted(chain.prompts.items())
    ]
    session.prompt_many(sorted(prompts, key=lambda prompt: (prompt.frame, prompt.track)))
    session.describe(
        *(
            Track(chain.id, category=category, parent=chain.parent)
            for chain in tracklets
            if chain.parent is not None or category
        )
    )
    return Propagation(
        tuple(
            PropagationRange(chain.id, before, after - 1)
            for chain in tracklets
            for before, after in chain.find_gaps()
        )
    )


def detect_unexplained(
    session: Session, detector: Detector, report: Report, *, min_frames: int
) -> None:
    """Prompt what is found on the first frame, carry it through, look on the next for what is not explained, and so on to the end.

    What is found twice (two tracks that are one object on most frames they share), or on fewer than
    `min_frames` frames, is told once or not at all.
    """
    volume = _detect_volume_tracklets(session, detector)
    if volume is not None:
        chains = finalize_tracklets(volume, len(session.video), min_frames=min_frames)
        session.prompt_many(
            [renumber_prompt(_get_largest_prompt(chain), chain.id) for chain in chains]
        )
        session.run(session.plan() if chains else Propagation(())).finish()
        report(f"{len(chains)} objects, each prompted on one frame")
        return
    for frame in range(len(session.video)):
        plane = session.label_plane(frame)
        first = max(session.log.track_ids, default=0) + 1
        prompts = detector.detect(session.video, frame, first_track=first, occupied=plane > 0)
        if prompts:
            report(f"frame {frame}: {len(prompts)} new")
            session.prompt_many(prompts)
            session.run(session.plan(tracks=[prompt.track for prompt in prompts])).finish()
    kept = filter_tracks(session, min(min_frames, len(session.video)))
    if len(kept) == len(session.log.track_ids):
        return
    report(
        f"{len(session.log.track_ids) - len(kept)} tracks found twice or too short, told again "
        "without them"
    )
    wanted = {track: number for number, track in enumerate(kept, start=1)}
    prompts = [
        renumber_prompt(prompt, wanted[prompt.track])
        for prompt in session.log.prompts
        if prompt.track in wanted
    ]
    session.resume(PromptLog())
    session.prompt_many(prompts)
    if prompts:
        session.run(session.plan()).finish()


def _detect_volume_tracklets(session: Session, detector: Detector) -> list[Tracklet] | None:
    """The chains of a source that knows which object is which; None where it does not."""
    planes = detector.detect_volume(session.video) if isinstance(detector, VolumeDetector) else None
    if planes is None:
        return None
    chains: dict[int, Tracklet] = {}
    for frame in range(len(session.video)):
        plane = planes(frame)
        codes = np.unique(plane[plane > 0]).tolist()
        for label, box in zip(
            codes, find_objects(np.searchsorted([0, *codes], plane)), strict=True
        ):
            corner = (box[0].start, box[1].start)
            prompt = make_prompt(plane[box] == label, corner, plane.shape, frame, label, "mask")
            chains.setdefault(label, Tracklet(label)).prompts[frame] = prompt
    return list(chains.values())


def _get_largest_prompt(tracklet: Tracklet) -> Prompt:
    """What a chain is where it is largest."""
    return max(
        tracklet.prompts.values(),
        key=lambda prompt: int(prompt.crop.sum()) if isinstance(prompt, MaskPrompt) else 0,
    )


def _link_detections(
    session: Session, detector: Detector, linking: LinkingOptions, report: Report
) -> list[Tracklet]:
    linker = Linker(session, linking)
    for frame in range(len(session.video)):
        prompts = detector.detect(session.video, frame)
        fresh = linker.add_frame(frame, prompts)
        report(f"frame {frame}: {len(prompts)} objects, {fresh} of them new")
    return finalize_tracklets(
        linker.resolve_tracklets(), len(session.video), min_frames=linking.min_frames
    )


def filter_tracks(session: Session, min_frames: int) -> list[int]:
    """Tracks that are on at least so many frames, and are no double of an earlier one."""
    shared: dict[tuple[int, int], int] = {}
    alone: dict[int, int] = {}
    for frame in range(len(session.video)):
        plane = np.zeros(session.video.shape[1:], dtype=np.int32)
        area: dict[int, int] = {}
        for segment in session.segments(frame):
            if not segment.present:
                continue
            rows, columns = segment.window.find_positive_region(
                segment.logits, session.video.shape[1:]
            )
            inside = segment.window.paste(segment.logits, rows, columns) > 0
            area[segment.track] = int(np.count_nonzero(inside))
            alone[segment.track] = alone.get(segment.track, 0) + (area[segment.track] > 0)
            for rival, n in zip(
                *np.unique(plane[rows, columns][inside], return_counts=True), strict=True
            ):
                if rival and n >= _DUPLICATE_IOU * (area[int(rival)] + area[segment.track] - n):
                    shared[segment.track, int(rival)] = (
                        shared.get((segment.track, int(rival)), 0) + 1
                    )
            free = inside & (plane[rows, columns] == 0)
            plane[rows, columns][free] = segment.track
    doubles = {
        track for (track, rival), n in shared.items() if 2 * n > min(alone[track], alone[rival])
    }
    return [
        track
        for track in session.log.track_ids
        if track not in doubles and alone.get(track, 0) >= min_frames
    ]
