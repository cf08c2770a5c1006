"""Search: objects nobody clicked, found frame by frame as Seeds that a person may edit, then joined and told. No Qt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from napari_sam2.api.count import Counting, counted_session, notes_of
from napari_sam2.api.session import Session
from napari_sam2.core.plan import Leg, Propagation
from napari_sam2.core.presence import Presence
from napari_sam2.core.prompt import BoxPrompt, MaskPrompt, PointPrompt, Prompt, renumbered
from napari_sam2.core.protocols import VolumeSource
from napari_sam2.detection.options import Hints
from napari_sam2.detection.registry import open_source
from napari_sam2.detection.seeds import label_prompts
from napari_sam2.propagation.overlaps import mask
from napari_sam2.propagation.session import Settings
from napari_sam2.tracking.linker import Linker
from napari_sam2.tracking.tracklets import Chain, settled

_STAYED_PX = 0.75  # a seed that lies so near where it was found was not moved
_SCRATCH_BYTES = 1 << 28  # image features of a session that only tells who is who
_KNOWN = 0.5  # of an object's pixels: where as many are of a known track, it is that track

Key = tuple[int, int]
"""A link of a chain: its frame, and its number among those of that frame."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a person wants found: how (`Counting`), with the (frames, H, W) `labels` of a layer where those are the source.

    `frame` is where to begin, where objects are found on one frame and carried by the model.
    """

    counting: Counting = field(default_factory=Counting)
    labels: Any = None
    frame: int = 0

    @property
    def joined(self) -> bool:
        """Whether objects are found on every frame, and joined."""
        return self.counting.trust == "seeds"


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
                return _middle(self.prompt)


@dataclass(frozen=True)
class Placed:
    """A Seed as it lies in its layer now: its number (0: added by hand), frame and (y, x)."""

    number: int
    frame: int
    yx: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Sought:
    """One step of a search: `frames` that look different now, seeds that were found, how far it is, and a sentence."""

    message: str
    done: int
    total: int
    frames: tuple[int, ...] = ()
    seeds: tuple[Seed, ...] = ()


class Search:
    """What is looked for in a session, and what was found.

    What the session knows is taken into account and never changed.

    Raises PlanError, PromptError, LabelsError or SpacingError for a source that cannot look here.
    """

    def __init__(self, session: Session, wanted: Wanted) -> None:
        counting = wanted.counting
        self.session, self.wanted, self._video = session, wanted, session.video
        examples = tuple(_examples(session)) if counting.seeds == "examples" else ()
        hints = Hints(
            counting.diameter_px,
            counting.diameter_um,
            counting.dark,
            counting.kind,
            session.model,
            wanted.labels,
            examples,
        )
        self.source = open_source(counting.seeds, hints)
        self.joining = counting.joining(self.source, self._video)
        self.seeds: dict[int, Seed] = {}
        self.chains: list[Chain] = []
        self._by_label = False  # a source that sees a volume said which is which
        self._same: dict[
            int, Counter[int]
        ] = {}  # pixels by track of what a volume's object was found to be, by its label
        self._known: dict[
            Key, int
        ] = {}  # tracks of those links of chains that the session knows already
        self._hand: set[Key] = set()  # links that a person pointed at
        self._told: dict[int, int] = {}  # tracks by chain

    @property
    def frames(self) -> tuple[int, ...]:
        """Those that are looked at."""
        return tuple(range(len(self._video))) if self.wanted.joined else (self.wanted.frame,)

    def look(self) -> Iterator[Sought]:
        """Find seeds, frame by frame; what the session knows already is none."""
        source = self.source
        planes = (
            source.labels(self._video)
            if self.wanted.joined and isinstance(source, VolumeSource)
            else None
        )
        self._by_label = planes is not None
        for done, frame in enumerate(self.frames, start=1):
            known = self.session.plane(frame)
            if planes is None:
                found = [
                    (prompt, 0) for prompt in source.prompts(self._video, frame, taken=known > 0)
                ]
            else:
                found = self._slices(planes(frame), frame, known)
            fresh = tuple(
                Seed(len(self.seeds) + n, prompt, label)
                for n, (prompt, label) in enumerate(found, start=1)
            )
            self.seeds.update((seed.number, seed) for seed in fresh)
            yield Sought(
                f"Frame {frame}: {len(fresh)} found, {len(self.seeds)} in all",
                done,
                len(self.frames),
                seeds=fresh,
            )

    def unexplained(self, frame: int) -> list[Prompt]:
        """What is found on a frame that the session does not know."""
        return self.source.prompts(self._video, frame, taken=self.session.plane(frame) > 0)

    def taken(self, placed: Iterable[Placed]) -> list[Seed]:
        """Seeds as a person left them, numbered from 1 on each frame: those that were moved or added are clicks."""
        found, used = list[Seed](), set[int]()
        count: Counter[int] = Counter()
        self._hand = set()
        for each in placed:
            count[each.frame] += 1
            number = count[each.frame]
            seed = (
                self.seeds.get(each.number) if each.number not in used else None
            )  # a copy is a new one
            used.add(each.number)
            if (
                seed is not None
                and seed.prompt.frame == each.frame
                and np.hypot(*np.subtract(seed.yx, each.yx)) <= _STAYED_PX
            ):
                found.append(replace(seed, number=number, prompt=renumbered(seed.prompt, number)))
            else:
                click = PointPrompt(
                    each.frame, number, [_inside(each.yx, self._video.shape[1:])], [True]
                )
                self._hand.add((each.frame, number))
                found.append(Seed(number, click))
        return found

    def join(self, placed: Iterable[Placed]) -> Iterator[Sought]:
        """Join seeds to `chains`, frame by frame.

        Objects that the session knows are links of them.
        """
        seeds = self.taken(placed)
        self._known = {}
        if self._by_label:
            found, owners = _labelled(seeds), self._owners(seeds)
        else:
            found, owners = (yield from self._linked(seeds)), self._known
        alone = {
            chain.number
            for chain in found
            if len(chain.prompts) < self.joining.least and self._pointed_at(chain)
        }
        kept = [chain for chain in found if chain.number not in alone]
        self.chains = settled(kept, len(self._video), least=self.joining.least)
        for chain in found:
            if chain.number in alone:
                self.chains.append(
                    Chain(max((each.number for each in self.chains), default=0) + 1, chain.prompts)
                )
        self._told = {
            chain.number: track
            for chain in self.chains
            if (track := _most(owners.get(key) for key in _keys(chain)))
        }

    def tell(self, first: int, *, category: str = "") -> Iterator[Sought]:
        """Say the chains to the session, those that are not known as tracks from `first`; `plan` is what there is to carry then."""
        for chain in self.chains:
            if chain.number not in self._told:
                self._told[chain.number], first = first, first + 1
        there = {
            key for key, trace in self.session.traces().items() if trace.presence != Presence.ABSENT
        }
        by_frame: dict[int, dict[int, Prompt]] = {}
        for chain in self.chains:
            track = self._told[chain.number]
            for frame, prompt in chain.prompts.items():
                if (frame, prompt.track) not in self._known and (track, frame) not in there:
                    by_frame.setdefault(frame, {}).setdefault(track, prompt)
        for done, frame in enumerate(sorted(by_frame), start=1):
            self.session.prompt_many(
                [renumbered(prompt, track) for track, prompt in sorted(by_frame[frame].items())]
            )
            yield Sought(
                f"{len(self.chains)} objects: frame {frame} is drawn",
                done,
                len(by_frame),
                frames=(frame,),
            )
        for chain in self.chains:
            self._describe(self._told[chain.number], self._told.get(chain.mother or 0), category)

    @property
    def plan(self) -> Propagation:
        """Over the frames that objects were missed on; and both ways for what was pointed at by hand and found on too few frames."""
        legs = [
            Leg(self._told[chain.number], a, b - 1)
            for chain in self.chains
            for a, b in chain.gaps()
        ]
        alone = [
            chain
            for chain in self.chains
            if len(chain.prompts) < self.joining.least and self._pointed_at(chain)
        ]
        starts = {self._told[chain.number]: [chain.first] for chain in alone}
        return Propagation((*legs, *Propagation.outward(starts, length=len(self._video)).legs))

    @property
    def notes(self) -> tuple[str, ...]:
        """Decisions that were taken for the person, as the command line notes them."""
        return notes_of(self.source, self._video, self.wanted.counting, self.joining)

    def _describe(self, track: int, parent: int | None, category: str) -> None:
        known = self.session.log.track(track)
        wanted = replace(
            known,
            category=known.category or category,
            parent=parent if parent not in (None, track) else known.parent,
        )
        if wanted != known and track in self.session.log.track_ids:
            self.session.describe(wanted)

    def _pointed_at(self, chain: Chain) -> bool:
        return any(key in self._hand for key in _keys(chain))

    def _owners(self, seeds: Iterable[Seed]) -> dict[Key, int]:
        """Which track a slice of a volume's object is of, where other slices of it are known."""
        same = {label: tracks.most_common(1)[0][0] for label, tracks in self._same.items()}
        return {
            (seed.prompt.frame, seed.number): same[seed.label]
            for seed in seeds
            if seed.label in same
        }

    def _slices(self, plane: np.ndarray, frame: int, known: np.ndarray) -> list[tuple[Prompt, int]]:
        """The slices of a volume's objects on a frame, with their labels; of those that are known it is noted which they are."""
        found = list[tuple[Prompt, int]]()
        labels = [int(label) for label in np.unique(plane) if label]
        for label, prompt in zip(labels, label_prompts(plane, frame, "mask", 1, None), strict=True):
            assert isinstance(prompt, MaskPrompt)
            y, x, y2, x2 = prompt.rectangle
            tracks = known[y:y2, x:x2][prompt.crop]
            if np.count_nonzero(tracks) > _KNOWN * tracks.size:
                self._same.setdefault(label, Counter()).update(tracks[tracks > 0].tolist())
            else:
                found.append((prompt, label))
        return found

    def _linked(self, seeds: Sequence[Seed]) -> Generator[Sought, None, list[Chain]]:
        """Chains by overlap from frame to frame, seeds and what the session knows together."""
        video = self._video
        with counted_session(
            video, self.session.model, Settings(patience=8, embedding_bytes=_SCRATCH_BYTES)
        ) as scratch:
            linker = Linker(scratch, self.joining)
            for frame in range(len(video)):
                found = [seed.prompt for seed in seeds if seed.prompt.frame == frame]
                plane = self.session.plane(frame)
                for track in np.unique(plane[plane > 0]).tolist():
                    found.append(MaskPrompt(frame, len(found) + 1, plane == track))
                    self._known[frame, len(found)] = track
                linker.take(frame, found)
                yield Sought(
                    f"Joining frame {frame}: {len(linker.chains)} objects", frame + 1, len(video)
                )
        return linker.joined()


def _examples(session: Session) -> Iterator[MaskPrompt]:
    """What every object of a session looks like where it was prompted first."""
    for track in session.log.track_ids:
        frame = session.log.first_frame(track)
        segment = next(
            (each for each in session.segments(frame) if each.track == track and each.present), None
        )
        drawn = (
            mask(segment, session.video.shape[1:])
            if segment is not None
            else np.zeros((1, 1), dtype=bool)
        )
        if drawn.any():
            yield MaskPrompt(frame, track, drawn)


def _labelled(seeds: Sequence[Seed]) -> list[Chain]:
    """Chains of seeds that say which object they are of; each of the others is one of its own."""
    chains: dict[int, Chain] = {}
    free = max((seed.label for seed in seeds), default=0) + 1
    for seed in seeds:
        label = seed.label or free
        free += not seed.label
        chains.setdefault(label, Chain(label)).prompts[seed.prompt.frame] = seed.prompt
    return list(chains.values())


def _keys(chain: Chain) -> list[Key]:
    return [(frame, prompt.track) for frame, prompt in chain.prompts.items()]


def _most(votes: Iterable[int | None]) -> int | None:
    """The number that comes most often; None where there is none."""
    found = Counter(vote for vote in votes if vote)
    return found.most_common(1)[0][0] if found else None


def _middle(prompt: MaskPrompt) -> tuple[float, float]:
    """The pixel of a mask nearest to its centre of mass: of a crescent that lies outside."""
    y, x, _, _ = prompt.rectangle
    inside = np.argwhere(prompt.crop)
    nearest = inside[np.hypot(*(inside - inside.mean(axis=0)).T).argmin()]
    return float(y + nearest[0]), float(x + nearest[1])


def _inside(yx: tuple[float, float], shape: tuple[int, ...]) -> tuple[float, float]:
    y, x = np.clip(yx, 0, np.subtract(shape, 1))
    return float(y), float(x)
