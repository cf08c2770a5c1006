"""Finding: objects nobody clicked, found frame by frame, joined to tracks, and said to a Session as prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import find_objects

from napari_sam2.core.plan import Leg, Propagation
from napari_sam2.core.prompt import MaskPrompt, Prompt, PromptLog, renumbered
from napari_sam2.core.protocols import PromptSource, VolumeSource
from napari_sam2.core.track import Track
from napari_sam2.detection.seeds import mask_prompt
from napari_sam2.propagation.session import Session
from napari_sam2.tracking.linker import Joining, Linker
from napari_sam2.tracking.tracklets import Chain, settled

Told = Callable[[str], None]

_DOUBLE_IOU = 0.5  # from here on two masks are of one object


def find_tracks(
    session: Session, source: PromptSource, joining: Joining, stage: Told
) -> list[Chain]:
    """Every object of the session's video, on every frame it is found on.

    The session's log is empty before and after.

    A source that sees the whole volume says itself which is which. Otherwise objects are linked
    from frame to frame by overlap; where masks alone do not tell, the model is shown the track on
    the last frame it was on and asked for it on the next.
    """
    volume = _volume_chains(session, source)
    if volume is not None:
        return settled(volume, len(session.video), least=joining.least)
    return _linked(session, source, joining, stage)


def tell(session: Session, chains: Sequence[Chain], *, category: str = "") -> Propagation:
    """Say all chains to an empty session, and give the plan that carries tracks over the frames they were missed on."""
    prompts = [
        renumbered(prompt, chain.number)
        for chain in chains
        for _, prompt in sorted(chain.prompts.items())
    ]
    session.prompt_many(sorted(prompts, key=lambda prompt: (prompt.frame, prompt.track)))
    session.describe(
        *(
            Track(chain.number, category=category, parent=chain.mother)
            for chain in chains
            if chain.mother is not None or category
        )
    )
    return Propagation(
        tuple(
            Leg(chain.number, before, after - 1)
            for chain in chains
            for before, after in chain.gaps()
        )
    )


def explain(session: Session, source: PromptSource, stage: Told, *, least: int) -> None:
    """Prompt what is found on the first frame, carry it through, look on the next for what is not explained, and so on to the end.

    What is found twice (two tracks that are one object on most frames they share), or on fewer than
    `least` frames, is told once or not at all.
    """
    volume = _volume_chains(session, source)
    if volume is not None:
        chains = settled(volume, len(session.video), least=least)
        session.prompt_many([renumbered(_middle(chain), chain.number) for chain in chains])
        session.run(session.plan() if chains else Propagation(())).finish()
        stage(f"{len(chains)} objects, each prompted on one frame")
        return
    for frame in range(len(session.video)):
        plane = session.plane(frame)
        first = max(session.log.track_ids, default=0) + 1
        prompts = source.prompts(session.video, frame, first=first, taken=plane > 0)
        if prompts:
            stage(f"frame {frame}: {len(prompts)} new")
            session.prompt_many(prompts)
            session.run(session.plan(tracks=[prompt.track for prompt in prompts])).finish()
    kept = worthy(session, min(least, len(session.video)))
    if len(kept) == len(session.log.track_ids):
        return
    stage(
        f"{len(session.log.track_ids) - len(kept)} tracks found twice or too short, told again "
        "without them"
    )
    wanted = {track: number for number, track in enumerate(kept, start=1)}
    prompts = [
        renumbered(prompt, wanted[prompt.track])
        for prompt in session.log.prompts
        if prompt.track in wanted
    ]
    session.resume(PromptLog())
    session.prompt_many(prompts)
    if prompts:
        session.run(session.plan()).finish()


def _volume_chains(session: Session, source: PromptSource) -> list[Chain] | None:
    """The chains of a source that knows which object is which; None where it does not."""
    planes = source.labels(session.video) if isinstance(source, VolumeSource) else None
    if planes is None:
        return None
    chains: dict[int, Chain] = {}
    for frame in range(len(session.video)):
        plane = planes(frame)
        codes = np.unique(plane[plane > 0]).tolist()
        for label, box in zip(
            codes, find_objects(np.searchsorted([0, *codes], plane)), strict=True
        ):
            corner = (box[0].start, box[1].start)
            prompt = mask_prompt(plane[box] == label, corner, plane.shape, frame, label, "mask")
            chains.setdefault(label, Chain(label)).prompts[frame] = prompt
    return list(chains.values())


def _middle(chain: Chain) -> Prompt:
    """What a chain is where it is largest."""
    return max(
        chain.prompts.values(),
        key=lambda prompt: int(prompt.crop.sum()) if isinstance(prompt, MaskPrompt) else 0,
    )


def _linked(session: Session, source: PromptSource, joining: Joining, stage: Told) -> list[Chain]:
    linker = Linker(session, joining)
    for frame in range(len(session.video)):
        prompts = source.prompts(session.video, frame)
        fresh = linker.take(frame, prompts)
        stage(f"frame {frame}: {len(prompts)} objects, {fresh} of them new")
    return settled(linker.joined(), len(session.video), least=joining.least)


def worthy(session: Session, least: int) -> list[int]:
    """Tracks that are on at least so many frames, and are no double of an earlier one."""
    shared: dict[tuple[int, int], int] = {}
    alone: dict[int, int] = {}
    for frame in range(len(session.video)):
        plane = np.zeros(session.video.shape[1:], dtype=np.int32)
        area: dict[int, int] = {}
        for segment in session.segments(frame):
            if not segment.present:
                continue
            rows, columns = segment.window.region(segment.logits, session.video.shape[1:])
            inside = segment.window.paste(segment.logits, rows, columns) > 0
            area[segment.track] = int(np.count_nonzero(inside))
            alone[segment.track] = alone.get(segment.track, 0) + (area[segment.track] > 0)
            for rival, n in zip(
                *np.unique(plane[rows, columns][inside], return_counts=True), strict=True
            ):
                if rival and n >= _DOUBLE_IOU * (area[int(rival)] + area[segment.track] - n):
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
        if track not in doubles and alone.get(track, 0) >= least
    ]
