"""Sources: pairs and mixtures of other sources, of which clips are drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.clip import Clip, ClipSource
from napari_sam2.train.data.clip_view import ClipView, sample_labels, sample_pixels
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack
from napari_sam2.train.data.stills import Motion, animate_still


class PairSource:
    """Clips of images and stacks with labels.

    A stack is walked along its frames, both ways, at a random stride, never across a frame that is
    not annotated; where only one frame stands alone (always so for a single image), it is set in
    motion. Planes are kept in memory in half precision within `cache_bytes` bytes.
    """

    def __init__(
        self,
        pairs: Sequence[AnnotatedStack],
        *,
        motion: Motion | None = None,
        scales: tuple[float, float] = (0.6, 1.8),
        diameters: tuple[float, float] | None = None,
        strides: Sequence[int] = (1, 1, 2),
        cache_bytes: int = 2 * 1024**3,
    ) -> None:
        if not pairs:
            raise LabelsError("no images with labels given: expected at least one")
        self.pairs = tuple(pairs)
        self.motion = motion or Motion()
        self.scales, self.diameters = scales, diameters
        self.strides = tuple(strides)
        self._planes = _PlaneCache(self.pairs, cache_bytes)

    def __len__(self) -> int:
        return len(self.pairs)

    def groups(self) -> Sequence[str]:
        """The group of each pair."""
        return [pair.group for pair in self.pairs]

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        """A random clip of that pair; its first frame shows an object."""
        pair = self.pairs[item]
        known = pair.annotated if pair.linked else (int(rng.choice(pair.annotated)),)
        walked = sample_frames(known, rng, length=length, stride=int(rng.choice(self.strides)))
        plane, labels = self._planes.get(item, walked[0])
        view = ClipView.sample(labels, rng, size=size, scales=self.scales, diameters=self.diameters)
        if len(set(walked)) == 1:
            frames, seen = animate_still(
                plane, labels, view, rng, length=length, motion=self.motion
            )
        else:
            frames, seen = self._read_frames(item, walked, view)
        return Clip(frames, seen, name=f"{pair.name} frame {walked[0]}", group=pair.group)

    def _read_frames(
        self, item: int, frame_indices: Sequence[int], view: ClipView
    ) -> AnnotatedPlane:
        places = view.compute_positions()[None]
        planes = [self._planes.get(item, frame) for frame in frame_indices]
        frames = [sample_pixels(plane, places, view.step)[0] for plane, _ in planes]
        return np.stack(frames), np.stack(
            [sample_labels(labels, places)[0] for _, labels in planes]
        )


def sample_frames(
    annotated: Sequence[int], rng: np.random.Generator, *, length: int, stride: int = 1
) -> list[int]:
    """`length` frames to and fro over the unbroken run of annotated frames around one of them; that one alone where it has no neighbour."""
    known = set(annotated)
    here, way = int(rng.choice(annotated)), int(rng.choice([-1, 1]))
    frames = [here]
    while len(frames) < length:
        if not (step := _find_step(known, here, way, stride)):
            way = -way
            step = _find_step(known, here, way, stride)
        here += way * step
        frames.append(here)
    return frames


def _find_step(annotated: set[int], here: int, direction: int, stride: int) -> int:
    """The longest step up to `stride` that way over annotated frames alone; 0 where the next one is not."""
    free = 0
    while free < stride and here + direction * (free + 1) in annotated:
        free += 1
    return free


@dataclass(frozen=True)
class SourceMixture:
    """Several sources as one, `weights` saying how often each is drawn from (per source, not per item)."""

    sources: tuple[ClipSource, ...]
    weights: tuple[float, ...] = ()
    _starts: tuple[int, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.sources):
            raise LabelsError(
                f"{len(self.weights)} weights for {len(self.sources)} sources: give one for each"
            )
        object.__setattr__(self, "weights", self.weights or (1.0,) * len(self.sources))
        object.__setattr__(self, "_starts", tuple(np.cumsum([0, *map(len, self.sources)]).tolist()))

    def __len__(self) -> int:
        return self._starts[-1]

    def groups(self) -> Sequence[str]:
        """The groups of all items, source after source, each source's own."""
        return [
            f"{number}/{group}"
            for number, source in enumerate(self.sources)
            for group in source.groups()
        ]

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        """A clip of that item, counted through all sources."""
        number = int(np.searchsorted(self._starts, item, side="right")) - 1
        return self.sources[number].draw(item - self._starts[number], rng, length=length, size=size)

    def probabilities(self) -> np.ndarray:
        """(items,) how often each is to be drawn: a source's weight, shared among its items."""
        shares = np.array(self.weights) / sum(self.weights)
        return np.concatenate(
            [
                np.full(len(source), share / len(source))
                for source, share in zip(self.sources, shares, strict=True)
            ]
        )


class _PlaneCache:
    """Planes of pairs, in memory within a budget; what was used longest ago goes first."""

    def __init__(self, pairs: Sequence[AnnotatedStack], max_bytes: int) -> None:
        self._pairs = pairs
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._planes: OrderedDict[tuple[int, int], AnnotatedPlane] = OrderedDict()

    def get(self, item: int, frame: int) -> AnnotatedPlane:
        key = (item, frame)
        if key in self._planes:
            self._planes.move_to_end(key)
            return self._planes[key]
        pixels, labels = self._pairs[item].read(frame)
        plane = (pixels.astype(np.float16), labels.astype(np.int32))
        self._planes[key] = plane
        self._used_bytes += _count_bytes(plane)
        while self._used_bytes > self._max_bytes and len(self._planes) > 1:
            self._used_bytes -= _count_bytes(self._planes.popitem(last=False)[1])
        return plane


def _count_bytes(plane: AnnotatedPlane) -> int:
    return plane[0].nbytes + plane[1].nbytes
