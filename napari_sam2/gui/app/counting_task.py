"""Search: objects nobody clicked, found frame by frame as Seeds that a person may edit, then joined and told. No Qt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from napari_sam2.api.count import CountingOptions, collect_notes, make_counting_session
from napari_sam2.core.plan import Propagation, PropagationRange
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt, renumber_prompt
from napari_sam2.core.protocols import VolumeDetector
from napari_sam2.core.track import Presence
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.detection.prompts import make_label_prompts
from napari_sam2.detection.registry import open_detector
from napari_sam2.propagation.overlaps import compute_mask
from napari_sam2.propagation.session import Session, SessionSettings
from napari_sam2.tracking.linker import Linker
from napari_sam2.tracking.tracklets import Tracklet, finalize_tracklets

_MAX_UNMOVED_PX = 0.75  # a seed that lies so near where it was found was not moved
_SCRATCH_BYTES = 1 << 28  # image features of a session that only tells who is who
_MIN_KNOWN_FRACTION = (
    0.5  # of an object's pixels: where as many are of a known track, it is that track
)

DetectionKey = tuple[int, int]
"""A link of a chain: its frame, and its number among those of that frame."""


@dataclass(frozen=True, eq=False)
class DetectionRequest:
    """What a person wants found: how (`CountingOptions`), with the (frames, H, W) `labels` of a layer where those are the source.

    `frame` is where to begin, where objects are found on one frame and carried by the model.
    """

    counting: CountingOptions = field(default_factory=CountingOptions)
    labels: Any = None
    frame: int = 0

    @property
    def links_frames(self) -> bool:
        """Whether objects are found on every frame, and joined."""
        return self.counting.association == "seeds"


@dataclass(frozen=True, eq=False)
class Seed:
    """One Prompt that a source found, before it is told; `number` from 1.

    `label` says which object of a volume it is a slice of.
    """

    number: int
    prompt: Prompt
    label: int = 0

    @cached_property
    def yx(self) -> tuple[float, float]:
        """Where it is shown: the click, or the middle of the box or outline."""
        match self.prompt:
            case PointPrompt():
                return self.prompt.yx[0]
            case BoxPrompt():
                y, x, y2, x2 = self.prompt.box
                return (y + y2) / 2, (x + x2) / 2
            case MaskPrompt():
                return _find_middle_pixel(self.prompt)


@dataclass(frozen=True)
class EditedSeed:
    """A Seed as it lies in its layer now: its number (0: added by hand), frame and (y, x)."""

    number: int
    frame: int
    yx: tuple[float, float]


@dataclass(frozen=True, eq=False)
class DetectionProgress:
    """One step of a search: `frames` that look different now, seeds that were found, how far it is, and a sentence."""

    message: str
    done: int
    total: int
    frames: tuple[int, ...] = ()
    seeds: tuple[Seed, ...] = ()


class CountingTask:
    """What is looked for in a session, and what was found.

    What the session knows is taken into account and never changed.

    Raises PlanError, PromptError, LabelsError or SpacingError for a source that cannot look here.
    """

    def __init__(self, session: Session, request: DetectionRequest) -> None:
        counting = request.counting
        self.session, self.request, self._video = session, request, session.video
        examples = tuple(_make_examples(session)) if counting.seeds == "examples" else ()
        hints = DetectionOptions(
            counting.diameter_px,
            counting.diameter_um,
            counting.dark,
            counting.kind,
            session.model,
            request.labels,
            examples,
        )
        self.detector = open_detector(counting.seeds, hints)
        self.linking_options = counting.make_linking_options(self.detector, self._video)
        self.seeds: dict[int, Seed] = {}
        self.tracklets: list[Tracklet] = []
        self._has_volume_labels = False  # a source that sees a volume said which is which
        self._track_votes: dict[
            int, Counter[int]
        ] = {}  # pixels by track of what a volume's object was found to be, by its label
        self._known_tracks: dict[
            DetectionKey, int
        ] = {}  # tracks of those links of chains that the session knows already
        self._user_placed: set[DetectionKey] = set()  # links that a person pointed at
        self._track_by_tracklet: dict[int, int] = {}  # tracks by chain

    @property
    def frames(self) -> tuple[int, ...]:
        """Those that are looked at."""
        return (
            tuple(range(len(self._video))) if self.request.links_frames else (self.request.frame,)
        )

    def detect(self) -> Iterator[DetectionProgress]:
        """Find seeds, frame by frame; what the session knows already is none."""
        source = self.detector
        planes = (
            source.detect_volume(self._video)
            if self.request.links_frames and isinstance(source, VolumeDetector)
            else None
        )
        self._has_volume_labels = planes is not None
        for done, frame in enumerate(self.frames, start=1):
            known = self.session.label_plane(frame)
            if planes is None:
                found = [
                    (prompt, 0) for prompt in source.detect(self._video, frame, occupied=known > 0)
                ]
            else:
                found = self._make_slice_prompts(planes(frame), frame, known)
            fresh = tuple(
                Seed(len(self.seeds) + n, prompt, label)
                for n, (prompt, label) in enumerate(found, start=1)
            )
            self.seeds.update((seed.number, seed) for seed in fresh)
            yield DetectionProgress(
                f"Frame {frame}: {len(fresh)} found, {len(self.seeds)} in all",
                done,
                len(self.frames),
                seeds=fresh,
            )

    def detect_unexplained(self, frame: int) -> list[Prompt]:
        """What is found on a frame that the session does not know."""
        return self.detector.detect(
            self._video, frame, occupied=self.session.label_plane(frame) > 0
        )

    def apply_edits(self, edited_seeds: Iterable[EditedSeed]) -> list[Seed]:
        """Seeds as a person left them, numbered from 1 on each frame: those that were moved or added are clicks."""
        found, used = list[Seed](), set[int]()
        count: Counter[int] = Counter()
        self._user_placed = set()
        for each in edited_seeds:
            count[each.frame] += 1
            number = count[each.frame]
            seed = (
                self.seeds.get(each.number) if each.number not in used else None
            )  # a copy is a new one
            used.add(each.number)
            if (
                seed is not None
                and seed.prompt.frame == each.frame
                and np.hypot(*np.subtract(seed.yx, each.yx)) <= _MAX_UNMOVED_PX
            ):
                found.append(
                    replace(seed, number=number, prompt=renumber_prompt(seed.prompt, number))
                )
            else:
                click = PointPrompt(
                    each.frame, number, [_clip_to_frame(each.yx, self._video.shape[1:])], [True]
                )
                self._user_placed.add((each.frame, number))
                found.append(Seed(number, click))
        return found

    def link(self, edited_seeds: Iterable[EditedSeed]) -> Iterator[DetectionProgress]:
        """Join seeds to `tracklets`, frame by frame.

        Objects that the session knows are links of them.
        """
        seeds = self.apply_edits(edited_seeds)
        self._known_tracks = {}
        if self._has_volume_labels:
            found, owners = _group_by_label(seeds), self._match_known_tracks(seeds)
        else:
            found, owners = (yield from self._link_seeds(seeds)), self._known_tracks
        alone = {
            chain.id
            for chain in found
            if len(chain.prompts) < self.linking_options.min_frames and self._is_user_placed(chain)
        }
        kept = [chain for chain in found if chain.id not in alone]
        self.tracklets = finalize_tracklets(
            kept, len(self._video), min_frames=self.linking_options.min_frames
        )
        for chain in found:
            if chain.id in alone:
                self.tracklets.append(
                    Tracklet(
                        max((each.id for each in self.tracklets), default=0) + 1, chain.prompts
                    )
                )
        self._track_by_tracklet = {
            chain.id: track
            for chain in self.tracklets
            if (track := _find_majority(owners.get(key) for key in _get_detection_keys(chain)))
        }

    def commit_tracks(
        self, first_new_track: int, *, category: str = ""
    ) -> Iterator[DetectionProgress]:
        """Say the chains to the session, those that are not known as tracks from `first_new_track`; `plan` is what there is to carry then."""
        for chain in self.tracklets:
            if chain.id not in self._track_by_tracklet:
                self._track_by_tracklet[chain.id], first_new_track = (
                    first_new_track,
                    first_new_track + 1,
                )
        there = {
            key
            for key, trace in self.session.records().items()
            if trace.presence != Presence.ABSENT
        }
        by_frame: dict[int, dict[int, Prompt]] = {}
        for chain in self.tracklets:
            track = self._track_by_tracklet[chain.id]
            for frame, prompt in chain.prompts.items():
                if (frame, prompt.track) not in self._known_tracks and (track, frame) not in there:
                    by_frame.setdefault(frame, {}).setdefault(track, prompt)
        for done, frame in enumerate(sorted(by_frame), start=1):
            self.session.prompt_many(
                [
                    renumber_prompt(prompt, track)
                    for track, prompt in sorted(by_frame[frame].items())
                ]
            )
            yield DetectionProgress(
                f"{len(self.tracklets)} objects: frame {frame} is drawn",
                done,
                len(by_frame),
                frames=(frame,),
            )
        for chain in self.tracklets:
            self._describe_track(
                self._track_by_tracklet[chain.id],
                self._track_by_tracklet.get(chain.parent or 0),
                category,
            )

    @property
    def plan(self) -> Propagation:
        """Over the frames that objects were missed on; and both ways for what was pointed at by hand and found on too few frames."""
        legs = [
            PropagationRange(self._track_by_tracklet[chain.id], a, b - 1)
            for chain in self.tracklets
            for a, b in chain.find_gaps()
        ]
        alone = [
            chain
            for chain in self.tracklets
            if len(chain.prompts) < self.linking_options.min_frames and self._is_user_placed(chain)
        ]
        starts = {self._track_by_tracklet[chain.id]: [chain.first] for chain in alone}
        return Propagation((*legs, *Propagation.outward(starts, length=len(self._video)).ranges))

    @property
    def notes(self) -> tuple[str, ...]:
        """Decisions that were taken for the person, as the command line notes them."""
        return collect_notes(
            self.detector, self._video, self.request.counting, self.linking_options
        )

    def _describe_track(self, track: int, parent: int | None, category: str) -> None:
        known = self.session.log.track(track)
        wanted = replace(
            known,
            category=known.category or category,
            parent=parent if parent not in (None, track) else known.parent,
        )
        if wanted != known and track in self.session.log.track_ids:
            self.session.describe(wanted)

    def _is_user_placed(self, tracklet: Tracklet) -> bool:
        return any(key in self._user_placed for key in _get_detection_keys(tracklet))

    def _match_known_tracks(self, seeds: Iterable[Seed]) -> dict[DetectionKey, int]:
        """Which track a slice of a volume's object is of, where other slices of it are known."""
        same = {label: tracks.most_common(1)[0][0] for label, tracks in self._track_votes.items()}
        return {
            (seed.prompt.frame, seed.number): same[seed.label]
            for seed in seeds
            if seed.label in same
        }

    def _make_slice_prompts(
        self, plane: np.ndarray, frame: int, known_labels: np.ndarray
    ) -> list[tuple[Prompt, int]]:
        """The slices of a volume's objects on a frame, with their labels; of those that are known it is noted which they are."""
        found = list[tuple[Prompt, int]]()
        labels = [int(label) for label in np.unique(plane) if label]
        for label, prompt in zip(
            labels, make_label_prompts(plane, frame, "mask", 1, None), strict=True
        ):
            assert isinstance(prompt, MaskPrompt)
            y, x, y2, x2 = prompt.rectangle
            tracks = known_labels[y:y2, x:x2][prompt.crop]
            if np.count_nonzero(tracks) > _MIN_KNOWN_FRACTION * tracks.size:
                self._track_votes.setdefault(label, Counter()).update(tracks[tracks > 0].tolist())
            else:
                found.append((prompt, label))
        return found

    def _link_seeds(
        self, seeds: Sequence[Seed]
    ) -> Generator[DetectionProgress, None, list[Tracklet]]:
        """Chains by overlap from frame to frame, seeds and what the session knows together."""
        video = self._video
        with make_counting_session(
            video, self.session.model, SessionSettings(patience=8, embedding_bytes=_SCRATCH_BYTES)
        ) as scratch:
            linker = Linker(scratch, self.linking_options)
            for frame in range(len(video)):
                found = [seed.prompt for seed in seeds if seed.prompt.frame == frame]
                plane = self.session.label_plane(frame)
                for track in np.unique(plane[plane > 0]).tolist():
                    found.append(MaskPrompt(frame, len(found) + 1, plane == track))
                    self._known_tracks[frame, len(found)] = track
                linker.add_frame(frame, found)
                yield DetectionProgress(
                    f"Joining frame {frame}: {len(linker.tracklets)} objects", frame + 1, len(video)
                )
        return linker.resolve_tracklets()


def _make_examples(session: Session) -> Iterator[MaskPrompt]:
    """What every object of a session looks like where it was prompted first."""
    for track in session.log.track_ids:
        frame = session.log.first_frame(track)
        segment = next(
            (each for each in session.segments(frame) if each.track == track and each.present), None
        )
        drawn = (
            compute_mask(segment, session.video.shape[1:])
            if segment is not None
            else np.zeros((1, 1), dtype=bool)
        )
        if drawn.any():
            yield MaskPrompt(frame, track, drawn)


def _group_by_label(seeds: Sequence[Seed]) -> list[Tracklet]:
    """Chains of seeds that say which object they are of; each of the others is one of its own."""
    chains: dict[int, Tracklet] = {}
    free = max((seed.label for seed in seeds), default=0) + 1
    for seed in seeds:
        label = seed.label or free
        free += not seed.label
        chains.setdefault(label, Tracklet(label)).prompts[seed.prompt.frame] = seed.prompt
    return list(chains.values())


def _get_detection_keys(tracklet: Tracklet) -> list[DetectionKey]:
    return [(frame, prompt.track) for frame, prompt in tracklet.prompts.items()]


def _find_majority(votes: Iterable[int | None]) -> int | None:
    """The number that comes most often; None where there is none."""
    found = Counter(vote for vote in votes if vote)
    return found.most_common(1)[0][0] if found else None


def _find_middle_pixel(prompt: MaskPrompt) -> tuple[float, float]:
    """The pixel of a mask nearest to its centre of mass: of a crescent that lies outside."""
    y, x, _, _ = prompt.rectangle
    inside = np.argwhere(prompt.crop)
    nearest = inside[np.hypot(*(inside - inside.mean(axis=0)).T).argmin()]
    return float(y + nearest[0]), float(x + nearest[1])


def _clip_to_frame(yx: tuple[float, float], shape: tuple[int, ...]) -> tuple[float, float]:
    y, x = np.clip(yx, 0, np.subtract(shape, 1))
    return float(y), float(x)
