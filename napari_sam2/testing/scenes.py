"""Exact synthetic scenes: image stacks whose truth is known by construction.

Every object has a grey value of its own, so `ToyModel` is exact on all of `SCENES`: one click per
object on its first frame gives the truth on all frames. On `CORRECTION_SCENES` it makes errors that
have to be corrected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt

from napari_sam2.core.prompt import PointPrompt, PromptLog
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.core.track import Track

BRIGHTEST = 50_000
"""Grey value of the brightest object, unless levels are given."""

_DIMMEST = 0.6  # of the brightest: well above the toy model's threshold of the foreground
_TIMELAPSE = Spacing(y_um=0.5, x_um=0.5, t_s=60.0)


@dataclass(frozen=True, eq=False)
class Scene:
    """A stack with its truth. The arrays are read-only.

    Parameters
    ----------
    name
        A word for what happens.
    stack
        The image: axes "tyx", "zyx" or "tcyx", with spacing.
    labels
        (frames, H, W) uint16, the truth: track ids, 0 for background. Hidden parts of an object
        are not labelled.
    parents
        Parent by track, for the daughters of a division.
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
        """The stack along z or t, in channel 0. A blank stack raises IntensityError."""
        return self.stack.as_video(channel=0)

    @property
    def tracks(self) -> tuple[int, ...]:
        """Track ids of all objects, ascending."""
        return tuple(int(track) for track in np.unique(self.labels) if track)

    def find_frames(self, track: int) -> tuple[int, ...]:
        """Find the frames that show an object, ascending."""
        shown = np.flatnonzero((self.labels == track).any(axis=(1, 2)))
        return tuple(int(frame) for frame in shown)

    def mask(self, track: int, frame: int) -> np.ndarray:
        """(H, W) bool mask of an object on a frame."""
        return np.asarray(self.labels[frame] == track)

    def make_click(self, track: int, frame: int | None = None) -> PointPrompt:
        """Make a click on the pixel deepest inside an object, by default on its first frame."""
        clicked = self.find_frames(track)[0] if frame is None else frame
        depth = distance_transform_edt(np.pad(self.mask(track, clicked), 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return PointPrompt(clicked, track, [(float(y), float(x))], [True])

    def make_log(self) -> PromptLog:
        """Make a log of one click per object on its first frame, with the parents."""
        log = PromptLog(tuple(self.make_click(track) for track in self.tracks))
        for child, parent in self.parents.items():
            log = log.describe(Track(child, parent=parent))
        return log


@dataclass(frozen=True, eq=False)
class Disc:
    """A round object: (frames, 2) centres (y, x), NaN if it is absent, and a radius in pixels."""

    centres: np.ndarray
    radius_px: float


def draw_discs(discs: Sequence[Disc], shape: tuple[int, int]) -> np.ndarray:
    """Draw (frames, H, W) uint16 labels: the n-th disc is track n, from 1; later ones in front."""
    labels = np.zeros((len(discs[0].centres), *shape), dtype=np.uint16)
    rows, columns = np.indices(shape)
    for track, disc in enumerate(discs, start=1):
        for frame, (y, x) in enumerate(disc.centres):
            inside = (rows - y) ** 2 + (columns - x) ** 2 <= disc.radius_px**2  # False for NaN
            labels[frame][inside] = track
    return labels


def make_timelapse_scene(
    name: str,
    labels: np.ndarray,
    *,
    levels: Sequence[int] = (),
    noise: float = 0.0,
    parents: Mapping[int, int] | None = None,
) -> Scene:
    """Make a scene of (frames, H, W) labels over time: objects of different grey values on black.

    Parameters
    ----------
    levels
        Grey value of each track, from track 1; evenly spaced by default.
    noise
        Standard deviation in grey values. The noise is seeded: the same call gives the same scene.
    """
    grey = np.array([0, *(levels or _make_levels(int(labels.max())))])
    data = _add_noise(grey[labels], noise)
    intensity = {track: (int(grey[track]),) for track in range(1, len(grey))}
    return Scene(name, Stack(data, "tyx", _TIMELAPSE, name=name), labels, parents or {}, intensity)


def make_drifting_scene(
    *,
    count: int = 3,
    frames: int = 10,
    shape: tuple[int, int] = (64, 64),
    speed: float = 2.0,
    noise: float = 0.0,
) -> Scene:
    """Make discs that move back and forth in cells of a grid, by `speed` pixels per frame."""
    across = math.ceil(math.sqrt(count))
    height, width = shape[0] / math.ceil(count / across), shape[1] / across
    radius = 0.3 * min(height, width)
    swing = _compute_swing(frames, speed, width - 2 * radius - 2)
    discs = []
    for number in range(count):
        row, column = divmod(number, across)
        x = column * width + radius + swing
        discs.append(Disc(_make_path(frames, (row + 0.5) * height, x), radius))
    return make_timelapse_scene("drifting", draw_discs(discs, shape), noise=noise)


def make_touching_scene(
    *,
    frames: int = 10,
    shape: tuple[int, int] = (64, 64),
    radius: float = 8.0,
    same_level: bool = False,
) -> Scene:
    """Make two discs that approach, touch and separate.

    Parameters
    ----------
    radius
        In pixels, a whole number.
    same_level
        Whether both have one grey value, so that they merge.
    """
    middle = (frames - 1) / 2
    half_gap = radius + 0.5 + np.maximum(0.0, np.abs(np.arange(frames) - middle) - 1.5)
    discs = [
        Disc(_make_path(frames, shape[0] / 2, (shape[1] - 1) / 2 + side * half_gap), radius)
        for side in (-1, 1)
    ]
    return make_timelapse_scene(
        "merging" if same_level else "touching",
        draw_discs(discs, shape),
        levels=(BRIGHTEST, BRIGHTEST) if same_level else (),
    )


def make_returning_scene(
    *,
    frames: int = 10,
    shape: tuple[int, int] = (64, 64),
    absent_frames: int = 3,
    speed: float = 4.0,
) -> Scene:
    """Make a disc that leaves across the right edge and returns, and one that stays."""
    radius = shape[0] / 8
    middle = frames // 2 - (0.0 if absent_frames % 2 else 0.5)
    furthest = shape[1] - 1 + radius + speed * absent_frames / 2
    x = furthest - speed * np.abs(np.arange(frames) - middle)
    discs = [
        Disc(_make_path(frames, shape[0] * 0.7, x), radius),
        Disc(_make_path(frames, shape[0] * 0.25, np.full(frames, shape[1] / 4)), radius),
    ]
    return make_timelapse_scene("returning", draw_discs(discs, shape))


def make_dividing_scene(
    *, frames: int = 10, shape: tuple[int, int] = (64, 64), division_frame: int = 4
) -> Scene:
    """Make a disc (track 1) that divides into two daughters (2 and 3) at `division_frame`."""
    radius = shape[0] / 6
    distance = 0.7 * radius + 1 + np.maximum(0, np.arange(frames) - division_frame)
    parent = _make_path(frames, shape[0] / 2, np.full(frames, shape[1] / 2))
    daughters = [
        _make_path(frames, shape[0] / 2, shape[1] / 2 + side * distance) for side in (-1, 1)
    ]
    parent[division_frame:] = np.nan
    for path in daughters:
        path[:division_frame] = np.nan
    labels = draw_discs(
        [Disc(parent, radius), *(Disc(path, 0.7 * radius) for path in daughters)], shape
    )
    return make_timelapse_scene("dividing", labels, parents={2: 1, 3: 1})


def make_appearing_scene(
    *, frames: int = 10, shape: tuple[int, int] = (64, 64), interval: int = 3
) -> Scene:
    """Make discs that appear on frames 0, `interval`, 2 × `interval`, …, and stay."""
    starts = range(0, frames, interval)
    height = shape[0] / len(starts)
    discs = []
    for number, start in enumerate(starts):
        path = _make_path(frames, (number + 0.5) * height, shape[1] / 3 + np.arange(frames))
        path[:start] = np.nan
        discs.append(Disc(path, 0.35 * height))
    return make_timelapse_scene("appearing", draw_discs(discs, shape))


def make_crossing_scene(
    *, frames: int = 10, shape: tuple[int, int] = (64, 64), radius: float = 8.0
) -> Scene:
    """Make two discs that pass each other: track 2 hides part of track 1."""
    x = np.linspace(radius + 4, shape[1] - radius - 5, frames)
    discs = [
        Disc(_make_path(frames, shape[0] / 2 + side * radius / 2, x[::side]), radius)
        for side in (-1, 1)
    ]
    return make_timelapse_scene("crossing", draw_discs(discs, shape))


def make_passing_scene(
    *,
    frames: int = 10,
    shape: tuple[int, int] = (64, 64),
    radius: float = 4.0,
    row_spacing: float = 2.2,
    speed: float = 2.0,
    noise: float = 0.0,
) -> Scene:
    """Make rows of equal discs; every second row moves in the other direction.

    All discs are on the first frame; they leave across the sides.

    Parameters
    ----------
    row_spacing
        Distance of rows in radii. Below 2, the lower row hides part of the upper one.
    speed
        In pixels per frame.
    """
    frame_numbers, discs = np.arange(frames), []
    for row in range(int((shape[0] - 2 * radius) / (row_spacing * radius)) + 1):
        direction = 1 if row % 2 else -1
        for start in np.arange(radius + 1 + row % 3 * radius, shape[1] - radius, 5 * radius):
            x = start + direction * speed * frame_numbers
            x = np.where((x > -radius) & (x < shape[1] - 1 + radius), x, np.nan)
            discs.append(Disc(_make_path(frames, radius + row * row_spacing * radius, x), radius))
    return make_timelapse_scene(
        "passing", draw_discs(discs, shape), levels=(BRIGHTEST,) * len(discs), noise=noise
    )


def make_jumping_scene(
    *, frames: int = 10, shape: tuple[int, int] = (64, 64), jump_frame: int = 5
) -> Scene:
    """Make a disc that jumps by more than its width at `jump_frame`, and one that stays."""
    radius, frame_numbers = shape[0] / 10, np.arange(frames)
    base = np.where(frame_numbers < jump_frame, shape[1] * 0.2, shape[1] * 0.75)
    x = base + 0.3 * frame_numbers
    discs = [
        Disc(_make_path(frames, shape[0] * 0.3, x), radius),
        Disc(_make_path(frames, shape[0] * 0.75, np.full(frames, shape[1] / 2)), radius),
    ]
    return make_timelapse_scene("jumping", draw_discs(discs, shape))


def make_twelve_bit_scene(
    *, frames: int = 10, shape: tuple[int, int] = (64, 64), step: int = 3
) -> Scene:
    """Make two touching discs of 3000 and 3000 + `step` of 4095 grey values, and a bright disc.

    With 8 bits, the two discs would be one object.
    """
    radius, sway = shape[0] // 8, np.arange(frames) % (shape[1] // 8)
    pair = [
        Disc(
            _make_path(frames, shape[0] // 3, (shape[1] - 1) / 2 + sway + side * (radius + 0.5)),
            radius,
        )
        for side in (-1, 1)
    ]
    bright = Disc(_make_path(frames, shape[0] * 0.75, shape[1] / 3 + sway), radius)
    return make_timelapse_scene(
        "twelve-bit", draw_discs([*pair, bright], shape), levels=(3000, 3000 + step, 4095)
    )


def make_ellipsoid_scene(
    *, slices: int = 14, shape: tuple[int, int] = (64, 64), z_um: float = 2.0, pixel_um: float = 0.5
) -> Scene:
    """Make a z-stack of two ellipsoids; `volume_um3` is 4/3 π a b c.

    The slices are further apart than the pixels.
    """
    spacing_um = np.array([z_um, pixel_um, pixel_um]).reshape(3, 1, 1, 1)
    extent_um = np.array([slices, *shape]).reshape(3, 1, 1, 1) * spacing_um
    positions_um = np.indices((slices, *shape)) * spacing_um
    centres = np.array([(0.5, 0.35, 0.3), (0.5, 0.6, 0.72)]).reshape(2, 3, 1, 1, 1) * extent_um
    half_axes = np.array([(0.4, 0.2, 0.15), (0.3, 0.25, 0.2)]).reshape(2, 3, 1, 1, 1) * extent_um
    labels = np.zeros((slices, *shape), dtype=np.uint16)
    volumes = {}
    for track, (centre, half) in enumerate(zip(centres, half_axes, strict=True), start=1):
        labels[(((positions_um - centre) / half) ** 2).sum(axis=0) <= 1] = track
        volumes[track] = float(4 / 3 * np.pi * half.prod())
    grey = np.array([0, *_make_levels(2)])
    spacing = Spacing(z_um=z_um, y_um=pixel_um, x_um=pixel_um)
    stack = Stack(grey[labels].astype(np.uint16), "zyx", spacing, name="ellipsoids")
    intensity = {track: (int(grey[track]),) for track in volumes}
    return Scene("ellipsoids", stack, labels, intensity=intensity, volume_um3=volumes)


def make_two_channel_scene(*, frames: int = 10, shape: tuple[int, int] = (64, 64)) -> Scene:
    """Make drifting discs with other grey values in channel 1, on a background that is not 0."""
    one = make_drifting_scene(frames=frames, shape=shape)
    background = (100, 700)
    grey = np.array([background, (9000, 1700), (12000, 800), (15000, 2500)])
    data = np.moveaxis(grey[one.labels], -1, 1).astype(np.uint16)
    stack = Stack(data, "tcyx", _TIMELAPSE, channels=("shape", "signal"), name="two channels")
    intensity = {track: (int(grey[track, 0]), int(grey[track, 1])) for track in one.tracks}
    return Scene(
        "two channels", stack, one.labels.copy(), intensity=intensity, background=background
    )


def make_blank_scene(
    *, frames: int = 10, shape: tuple[int, int] = (64, 64), value: int = 7
) -> Scene:
    """Make a stack of one grey value, without objects and without contrast."""
    data = np.full((frames, *shape), value, dtype=np.uint16)
    return Scene(
        "blank",
        Stack(data, "tyx", _TIMELAPSE, name="blank"),
        np.zeros(data.shape, dtype=np.uint16),
        background=(value,),
    )


def _make_path(frames: int, y: float, x: np.ndarray) -> np.ndarray:
    return np.stack([np.full(frames, y, dtype=float), np.asarray(x, dtype=float)], axis=-1)


def _compute_swing(frames: int, speed: float, width_px: float) -> np.ndarray:
    """Compute (frames,) positions that go back and forth between 0 and `width_px`."""
    path = np.arange(frames) * speed % (2 * width_px)
    return np.asarray(np.minimum(path, 2 * width_px - path))


def _make_levels(count: int) -> list[int]:
    return [int(level) for level in np.linspace(_DIMMEST, 1.0, count + 1)[1:] * BRIGHTEST]


def _add_noise(grey: np.ndarray, noise: float) -> np.ndarray:
    if noise:
        grey = grey + np.random.default_rng(0).normal(0.0, noise, grey.shape)
    return np.clip(np.round(grey), 0, np.iinfo(np.uint16).max).astype(np.uint16)


SCENES: tuple[Scene, ...] = (
    make_drifting_scene(),
    make_touching_scene(),
    make_returning_scene(),
    make_dividing_scene(),
    make_appearing_scene(),
    make_crossing_scene(),
    make_twelve_bit_scene(),
    make_ellipsoid_scene(),
    make_two_channel_scene(),
)
"""Small scenes with objects: ``@pytest.mark.parametrize("scene", SCENES, ids=str)``."""

CORRECTION_SCENES: tuple[Scene, ...] = (make_touching_scene(same_level=True), make_jumping_scene())
"""Scenes on which the toy model makes errors. One click on frame 5 corrects "jumping"."""
