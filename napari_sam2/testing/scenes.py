"""Exact synthetic scenes: image stacks whose truth is known by construction.

Every object has a grey value of its own, so that `ToyModel` is exact on all of `SCENES`: one click
per object on its first frame gives the truth on all frames. On `LAPSES` it errs and has to be
corrected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt

from napari_sam2.core.prompt import PointPrompt, PromptLog
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.core.track import Track
from napari_sam2.core.video import Video

BRIGHTEST = 50_000
"""Grey value of the brightest object where nothing else is said."""

_DIMMEST = 0.6  # of the brightest: well above ToyModel's foreground
_TIMELAPSE = Spacing(y_um=0.5, x_um=0.5, t_s=60.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """A stack and what is true of it. The arrays are read-only.

    Parameters
    ----------
    name
        What happens in it.
    stack
        The image: axes "tyx", "zyx" or "tcyx", with spacing.
    labels
        (frames, H, W) uint16, the truth: track ids, 0 for background. What another object hides is
        not labelled.
    parents
        Parent by track, of those that came from a division.
    intensity
        Grey value by track, one for each channel, before noise.
    background
        Grey value of the background, one for each channel, before noise.
    volume_um3
        Volume by track in µm³, by formula and not by counting voxels; z-stacks only.
    """

    name: str
    stack: Stack
    labels: np.ndarray
    parents: Mapping[int, int] = field(default_factory=dict)
    intensity: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    background: tuple[int, ...] = (0,)
    volume_um3: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels.setflags(write=False)
        self.stack.data.setflags(write=False)

    def __str__(self) -> str:
        return self.name

    @property
    def video(self) -> Video:
        """The stack walked along z or t, in channel 0. A blank one raises IntensityError."""
        return self.stack.as_video(channel=0)

    @property
    def tracks(self) -> tuple[int, ...]:
        """Ids of all objects, ascending."""
        return tuple(int(track) for track in np.unique(self.labels) if track)

    def frames(self, track: int) -> tuple[int, ...]:
        """Frames this object is seen on, ascending."""
        return tuple(
            int(frame) for frame in np.flatnonzero((self.labels == track).any(axis=(1, 2)))
        )

    def mask(self, track: int, frame: int) -> np.ndarray:
        """(H, W) bool: where this object is seen on this frame."""
        return np.asarray(self.labels[frame] == track)

    def click(self, track: int, frame: int | None = None) -> PointPrompt:
        """A click on the pixel deepest inside this object, on its first frame where none is given."""
        where = self.frames(track)[0] if frame is None else frame
        depth = distance_transform_edt(np.pad(self.mask(track, where), 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return PointPrompt(where, track, [(float(y), float(x))], [True])

    def log(self) -> PromptLog:
        """One click for every object on its first frame, and who came from whom."""
        log = PromptLog(tuple(self.click(track) for track in self.tracks))
        for child, parent in self.parents.items():
            log = log.describe(Track(child, parent=parent))
        return log


@dataclass(frozen=True, eq=False)
class Disc:
    """A round object: its centre (y, x) on every frame, (frames, 2), NaN where it is not; its radius in pixels."""

    path: np.ndarray
    radius: float


def draw(discs: Sequence[Disc], shape: tuple[int, int]) -> np.ndarray:
    """(frames, H, W) uint16 labels: the n-th disc is track n, from 1; later ones lie in front."""
    labels = np.zeros((len(discs[0].path), *shape), dtype=np.uint16)
    rows, columns = np.indices(shape)
    for track, disc in enumerate(discs, start=1):
        for frame, (y, x) in enumerate(disc.path):
            labels[frame][(rows - y) ** 2 + (columns - x) ** 2 <= disc.radius**2] = (
                track  # NaN compares as False
            )
    return labels


def timelapse(
    name: str,
    labels: np.ndarray,
    *,
    levels: Sequence[int] = (),
    noise: float = 0.0,
    parents: Mapping[int, int] | None = None,
) -> Scene:
    """A Scene of (frames, H, W) labels over time: objects of different grey values on black.

    Parameters
    ----------
    levels
        Grey value of each track, from track 1; evenly spread where not given.
    noise
        Standard deviation in grey values; seeded, so that the same call gives the same scene.
    """
    grey = np.array([0, *(levels or _spread(int(labels.max())))])
    data = _noisy(grey[labels], noise)
    intensity = {track: (int(grey[track]),) for track in range(1, len(grey))}
    return Scene(name, Stack(data, "tyx", _TIMELAPSE, name=name), labels, parents or {}, intensity)


def drifting(
    *,
    count: int = 3,
    frames: int = 10,
    shape: tuple[int, int] = (64, 64),
    speed: float = 2.0,
    noise: float = 0.0,
) -> Scene:
    """Discs going to and fro, each within its own cell of a grid; `speed` in pixels per frame."""
    across = math.ceil(math.sqrt(count))
    height, width = shape[0] / math.ceil(count / across), shape[1] / across
    radius = 0.3 * min(height, width)
    swing = _swing(frames, speed, width - 2 * radius - 2)
    discs = []
    for number in range(count):
        row, column = divmod(number, across)
        x = column * width + radius + swing
        discs.append(Disc(_path(frames, (row + 0.5) * height, x), radius))
    return timelapse("drifting", draw(discs, shape), noise=noise)


def touching(
    *, frames: int = 10, shape: tuple[int, int] = (64, 64), radius: float = 8.0, alike: bool = False
) -> Scene:
    """Two discs that come together, touch, and part (`radius` a whole number); of one grey value where `alike`, so that they merge."""
    middle = (frames - 1) / 2
    half_gap = radius + 0.5 + np.maximum(0.0, np.abs(np.arange(frames) - middle) - 1.5)
    discs = [
        Disc(_path(frames, shape[0] / 2, (shape[1] - 1) / 2 + side * half_gap), radius)
        for side in (-1, 1)
    ]
    return timelapse(
        "merging" if alike else "touching",
        draw(discs, shape),
        levels=(BRIGHTEST, BRIGHTEST) if alike else (),
    )


def returning(
    *, frames: int = 10, shape: tuple[int, int] = (64, 64), away: int = 3, speed: float = 4.0
) -> Scene:
    """A disc that leaves across the right edge, is away for so many frames, and comes back the same way; another stays."""
    radius = shape[0] / 8
    middle = frames // 2 - (0.0 if away % 2 else 0.5)
    furthest = shape[1] - 1 + radius + speed * away / 2
    x = furthest - speed * np.abs(np.arange(frames) - middle)
    discs = [
        Disc(_path(frames, shape[0] * 0.7, x), radius),
        Disc(_path(frames, shape[0] * 0.25, np.full(frames, shape[1] / 4)), radius),
    ]
    return timelapse("returning", draw(discs, shape))


def dividing(*, frames: int = 10, shape: tuple[int, int] = (64, 64), at: int = 4) -> Scene:
    """A disc (track 1) that divides: from frame `at` there are two daughters (2 and 3) that move apart."""
    radius, when = shape[0] / 6, np.arange(frames)
    apart = 0.7 * radius + 1 + np.maximum(0, when - at)
    mother = _path(frames, shape[0] / 2, np.full(frames, shape[1] / 2))
    daughters = [_path(frames, shape[0] / 2, shape[1] / 2 + side * apart) for side in (-1, 1)]
    mother[at:] = np.nan
    for path in daughters:
        path[:at] = np.nan
    labels = draw([Disc(mother, radius), *(Disc(path, 0.7 * radius) for path in daughters)], shape)
    return timelapse("dividing", labels, parents={2: 1, 3: 1})


def appearing(*, frames: int = 10, shape: tuple[int, int] = (64, 64), every: int = 3) -> Scene:
    """Discs that are there from frame 0, `every`, twice `every`, and so on; none leaves."""
    starts = range(0, frames, every)
    height = shape[0] / len(starts)
    discs = []
    for number, start in enumerate(starts):
        path = _path(frames, (number + 0.5) * height, shape[1] / 3 + np.arange(frames))
        path[:start] = np.nan
        discs.append(Disc(path, 0.35 * height))
    return timelapse("appearing", draw(discs, shape))


def crossing(*, frames: int = 10, shape: tuple[int, int] = (64, 64), radius: float = 8.0) -> Scene:
    """Two discs that pass each other, track 2 in front of track 1, which stays partly in sight."""
    x = np.linspace(radius + 4, shape[1] - radius - 5, frames)
    discs = [
        Disc(_path(frames, shape[0] / 2 + side * radius / 2, x[::side]), radius) for side in (-1, 1)
    ]
    return timelapse("crossing", draw(discs, shape))


def passing(
    *,
    frames: int = 10,
    shape: tuple[int, int] = (64, 64),
    radius: float = 4.0,
    apart: float = 2.2,
    speed: float = 2.0,
    noise: float = 0.0,
) -> Scene:
    """Rows of discs of one grey value, every second row going the other way: look-alikes that pass close by, at a steady speed.

    `apart`: from one row to the next, in radii; below 2, the lower row hides part of the upper one.
    Only discs that are in the frame from the beginning are there; they leave across its sides.
    `speed` in pixels per frame.
    """
    when, discs = np.arange(frames), []
    for row in range(int((shape[0] - 2 * radius) / (apart * radius)) + 1):
        way = 1 if row % 2 else -1
        for start in np.arange(radius + 1 + row % 3 * radius, shape[1] - radius, 5 * radius):
            x = start + way * speed * when
            x = np.where((x > -radius) & (x < shape[1] - 1 + radius), x, np.nan)
            discs.append(Disc(_path(frames, radius + row * apart * radius, x), radius))
    return timelapse("passing", draw(discs, shape), levels=(BRIGHTEST,) * len(discs), noise=noise)


def jumping(*, frames: int = 10, shape: tuple[int, int] = (64, 64), at: int = 5) -> Scene:
    """A disc that, at frame `at`, jumps further than it is wide; beside it one that stays.

    For corrections.
    """
    radius = shape[0] / 10
    x = np.where(np.arange(frames) < at, shape[1] * 0.2, shape[1] * 0.75) + 0.3 * np.arange(frames)
    discs = [
        Disc(_path(frames, shape[0] * 0.3, x), radius),
        Disc(_path(frames, shape[0] * 0.75, np.full(frames, shape[1] / 2)), radius),
    ]
    return timelapse("jumping", draw(discs, shape))


def twelve_bit(*, frames: int = 10, shape: tuple[int, int] = (64, 64), step: int = 3) -> Scene:
    """Touching discs of 3000 and 3000 + `step` grey values out of 4095, beside a bright one: one object in 8 bit."""
    radius, sway = shape[0] // 8, np.arange(frames) % (shape[1] // 8)
    pair = [
        Disc(
            _path(frames, shape[0] // 3, (shape[1] - 1) / 2 + sway + side * (radius + 0.5)), radius
        )
        for side in (-1, 1)
    ]
    bright = Disc(_path(frames, shape[0] * 0.75, shape[1] / 3 + sway), radius)
    return timelapse("twelve-bit", draw([*pair, bright], shape), levels=(3000, 3000 + step, 4095))


def ellipsoids(
    *, slices: int = 14, shape: tuple[int, int] = (64, 64), z_um: float = 2.0, pixel_um: float = 0.5
) -> Scene:
    """A z-stack of two ellipsoids, its slices further apart than its pixels; `volume_um3` is 4/3 π a b c."""
    extent_um = np.array([slices * z_um, shape[0] * pixel_um, shape[1] * pixel_um])
    centres = [extent_um * (0.5, 0.35, 0.3), extent_um * (0.5, 0.6, 0.72)]
    halves = [extent_um * (0.4, 0.2, 0.15), extent_um * (0.3, 0.25, 0.2)]
    places = (
        np.indices((slices, *shape)) * np.array([z_um, pixel_um, pixel_um])[:, None, None, None]
    )
    labels = np.zeros((slices, *shape), dtype=np.uint16)
    for track, (middle, half) in enumerate(zip(centres, halves, strict=True), start=1):
        labels[
            (((places - middle[:, None, None, None]) / half[:, None, None, None]) ** 2).sum(axis=0)
            <= 1
        ] = track
    grey = np.array([0, *_spread(2)])
    stack = Stack(
        grey[labels].astype(np.uint16),
        "zyx",
        Spacing(z_um=z_um, y_um=pixel_um, x_um=pixel_um),
        name="ellipsoids",
    )
    volumes = {
        track: float(4 / 3 * np.pi * half.prod()) for track, half in enumerate(halves, start=1)
    }
    return Scene(
        "ellipsoids",
        stack,
        labels,
        intensity={1: (int(grey[1]),), 2: (int(grey[2]),)},
        volume_um3=volumes,
    )


def two_channels(*, frames: int = 10, shape: tuple[int, int] = (64, 64)) -> Scene:
    """Drifting discs in channel 0, other grey values at the same places in channel 1, on a background that is not 0."""
    one = drifting(frames=frames, shape=shape)
    background = (100, 700)
    grey = np.array([background, (9000, 1700), (12000, 800), (15000, 2500)])
    data = np.moveaxis(grey[one.labels], -1, 1).astype(np.uint16)
    stack = Stack(data, "tcyx", _TIMELAPSE, channels=("shape", "signal"), name="two channels")
    intensity = {track: (int(grey[track, 0]), int(grey[track, 1])) for track in one.tracks}
    return Scene(
        "two channels", stack, one.labels.copy(), intensity=intensity, background=background
    )


def blank(*, frames: int = 10, shape: tuple[int, int] = (64, 64), value: int = 7) -> Scene:
    """The same grey value everywhere: nothing to see, and no contrast to see it by."""
    data = np.full((frames, *shape), value, dtype=np.uint16)
    return Scene(
        "blank",
        Stack(data, "tyx", _TIMELAPSE, name="blank"),
        np.zeros(data.shape, dtype=np.uint16),
        background=(value,),
    )


def _path(frames: int, y: float, x: np.ndarray) -> np.ndarray:
    return np.stack([np.full(frames, y, dtype=float), np.asarray(x, dtype=float)], axis=-1)


def _swing(frames: int, speed: float, room: float) -> np.ndarray:
    """(frames,) way to and fro between 0 and `room`."""
    way = np.arange(frames) * speed % (2 * room)
    return np.asarray(np.minimum(way, 2 * room - way))


def _spread(count: int) -> list[int]:
    return [int(level) for level in np.linspace(_DIMMEST, 1.0, count + 1)[1:] * BRIGHTEST]


def _noisy(grey: np.ndarray, noise: float) -> np.ndarray:
    if noise:
        grey = grey + np.random.default_rng(0).normal(0.0, noise, grey.shape)
    return np.clip(np.round(grey), 0, np.iinfo(np.uint16).max).astype(np.uint16)


SCENES: tuple[Scene, ...] = (
    drifting(),
    touching(),
    returning(),
    dividing(),
    appearing(),
    crossing(),
    twelve_bit(),
    ellipsoids(),
    two_channels(),
)
"""Every scene with objects, small: ``@pytest.mark.parametrize("scene", SCENES, ids=str)``."""

LAPSES: tuple[Scene, ...] = (touching(alike=True), jumping())
"""Scenes on which the toy model errs and has to be corrected: one click on frame 5 puts "jumping" right."""
