"""Sources of training clips: annotated stacks, and mixtures of other sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_sam2.core.byte_limited_cache import ByteLimitedCache
from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.clip import Clip, ClipSource
from napari_sam2.train.data.clip_view import ClipView, sample_labels, sample_pixels
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack
from napari_sam2.train.data.stills import Motion, animate_still


class PairSource:
    """Draws clips from annotated images and stacks.

    A clip runs along a stack's frames, in either direction, at a random stride, and never across a
    frame that is not annotated. A frame without annotated neighbours, such as a single image, is
    animated instead.

    Parameters
    ----------
    motion
        How single frames are animated.
    scales, diameters
        See `ClipView.sample`.
    strides
        Strides to draw from, in frames.
    cache_bytes
        Memory for planes, which are kept in half precision.
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
            raise LabelsError("no annotated images were given: expected at least one")
        self.pairs = tuple(pairs)
        self.motion = motion or Motion()
        self.scales, self.diameters = scales, diameters
        self.strides = tuple(strides)
        self._planes: ByteLimitedCache[tuple[int, int], AnnotatedPlane] = ByteLimitedCache(
            _count_bytes, cache_bytes
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def groups(self) -> Sequence[str]:
        """The group of each stack."""
        return [pair.group for pair in self.pairs]

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        """Draw a random clip of a stack; its first frame shows an object."""
        pair = self.pairs[item]
        annotated = pair.annotated if pair.linked else (int(rng.choice(pair.annotated)),)
        indices = sample_frames(annotated, rng, length=length, stride=int(rng.choice(self.strides)))
        plane, labels = self._get_plane(item, indices[0])
        view = ClipView.sample(labels, rng, size=size, scales=self.scales, diameters=self.diameters)
        if len(set(indices)) == 1:
            frames, clip_labels = animate_still(
                plane, labels, view, rng, length=length, motion=self.motion
            )
        else:
            frames, clip_labels = self._read_frames(item, indices, view)
        return Clip(frames, clip_labels, name=f"{pair.name} frame {indices[0]}", group=pair.group)

    def _read_frames(
        self, item: int, frame_indices: Sequence[int], view: ClipView
    ) -> AnnotatedPlane:
        positions = view.compute_positions()[None]
        planes = [self._get_plane(item, frame) for frame in frame_indices]
        frames = [sample_pixels(plane, positions, view.step)[0] for plane, _ in planes]
        labels = [sample_labels(labels, positions)[0] for _, labels in planes]
        return np.stack(frames), np.stack(labels)

    def _get_plane(self, item: int, frame: int) -> AnnotatedPlane:
        def read() -> AnnotatedPlane:
            pixels, labels = self.pairs[item].read(frame)
            return pixels.astype(np.float16), labels.astype(np.int32)

        return self._planes.get_or_make((item, frame), read)


def sample_frames(
    annotated: Sequence[int], rng: np.random.Generator, *, length: int, stride: int = 1
) -> list[int]:
    """Draw `length` frames of a run of annotated frames, turning back at its ends.

    A frame without annotated neighbours is repeated.
    """
    choices = set(annotated)
    frame, direction = int(rng.choice(annotated)), int(rng.choice([-1, 1]))
    frames = [frame]
    while len(frames) < length:
        if not (step := _find_step(choices, frame, direction, stride)):
            direction = -direction
            step = _find_step(choices, frame, direction, stride)
        frame += direction * step
        frames.append(frame)
    return frames


def _find_step(annotated: set[int], frame: int, direction: int, stride: int) -> int:
    """Find the longest step up to `stride` across annotated frames only; 0 if there is none."""
    step = 0
    while step < stride and frame + direction * (step + 1) in annotated:
        step += 1
    return step


@dataclass(frozen=True)
class SourceMixture:
    """Several sources as one; `weights` says how often each source (not item) is drawn from."""

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
        """The groups of all items, source after source; no two sources share a group."""
        return [
            f"{number}/{group}"
            for number, source in enumerate(self.sources)
            for group in source.groups()
        ]

    def draw(self, item: int, rng: np.random.Generator, *, length: int, size: int) -> Clip:
        """Draw a clip of an item; items are counted through all sources."""
        number = int(np.searchsorted(self._starts, item, side="right")) - 1
        return self.sources[number].draw(item - self._starts[number], rng, length=length, size=size)

    def probabilities(self) -> np.ndarray:
        """(items,) the probability of each: a source's weight, shared among its items."""
        shares = np.array(self.weights) / sum(self.weights)
        return np.concatenate(
            [
                np.full(len(source), share / len(source))
                for source, share in zip(self.sources, shares, strict=True)
            ]
        )


def _count_bytes(plane: AnnotatedPlane) -> int:
    return plane[0].nbytes + plane[1].nbytes
