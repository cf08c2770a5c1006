"""Animation of still images: clips of one image in smooth random motion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_sam2.train.data.clip_view import ClipView, sample_labels, sample_pixels

_MAX_OVERHANG = 0.1  # how far a view may reach beyond the plane, as a share of the clip's side


@dataclass(frozen=True)
class Motion:
    """How much a still image moves.

    Lengths are shares of the clip's side, and rates are per frame, unless stated otherwise.

    Parameters
    ----------
    drift
        Mean speed of the whole view, in a random direction.
    turn_deg, zoom
        Standard deviations of the rotation and of the logarithm of the zoom.
    bend, bend_px
        Local deformation: its amplitude, as a share of its wavelength, and the range of wavelengths
        in pixels. It moves neighbouring objects relative to each other.
    leaving
        Probability that the view moves away and back, so that objects leave and return.
    flicker, defocus_px
        Standard deviation of the brightness between frames, and the largest blur, as along z.
    """

    drift: float = 0.02
    turn_deg: float = 2.0
    zoom: float = 0.02
    bend: float = 0.2
    bend_px: tuple[float, float] = (14.0, 64.0)
    leaving: float = 0.2
    flicker: float = 0.04
    defocus_px: float = 1.5

    def sample_positions(
        self, view: ClipView, rng: np.random.Generator, *, length: int, shape: tuple[int, int]
    ) -> np.ndarray:
        """Sample (length, 2, size, size) float32 positions of all pixels on a plane of `shape`.

        Frame 0 is nearly `view` itself.
        """
        offset = (view.compute_positions() - np.reshape(view.yx, (2, 1, 1))).astype(np.float32)
        turn = np.radians(_sample_random_walk(rng, length, self.turn_deg))
        zoom = np.exp(_sample_random_walk(rng, length, self.zoom))
        cos, sin = (
            np.reshape(wave(turn) * zoom, (-1, 1, 1)).astype(np.float32)
            for wave in (np.cos, np.sin)
        )
        turned = np.stack(
            [cos * offset[0] - sin * offset[1], sin * offset[0] + cos * offset[1]], axis=1
        )
        path = _keep_inside(self._sample_path(rng, length) * view.side, view, shape)
        return np.asarray(
            turned
            + path[:, :, None, None].astype(np.float32)
            + self._sample_deformation(view, rng, length)
        )

    def _sample_path(self, rng: np.random.Generator, length: int) -> np.ndarray:
        """Sample a (length, 2) path of the centre from (0, 0), in sides of the clip."""
        angle, speed = rng.uniform(0, 2 * np.pi), rng.exponential(self.drift)
        steps = speed * np.array([np.sin(angle), np.cos(angle)]) + rng.normal(
            0, 0.3 * speed, (length, 2)
        )
        steps[0] = 0
        path = np.cumsum(steps, axis=0)
        if length > 2 and rng.random() < self.leaving:
            side, first = rng.uniform(0, 2 * np.pi), int(rng.integers(1, length - 1))
            last = int(rng.integers(first, length - 1))
            path[first : last + 1] += rng.uniform(0.3, 0.9) * np.array([np.sin(side), np.cos(side)])
        return np.asarray(path)

    def _sample_deformation(
        self, view: ClipView, rng: np.random.Generator, length: int
    ) -> np.ndarray:
        """Sample a (length, 2, size, size) smooth field that oscillates without folding."""
        wavelength = float(np.exp(rng.uniform(*np.log(self.bend_px))))
        basis = _make_spline_basis(view.size, max(1, round(view.size / wavelength)))
        knots = (2, basis.shape[1], basis.shape[1])
        amplitude = rng.normal(0, rng.uniform(0, self.bend) * wavelength * view.step, knots)
        phase, speed = rng.uniform(0, 2 * np.pi, knots), rng.uniform(0.2, 1.2)
        sway = amplitude * np.sin(phase + speed * np.arange(length).reshape(-1, 1, 1, 1))
        return np.asarray(basis @ sway.astype(np.float32) @ basis.T)


def animate_still(
    plane: np.ndarray,
    labels: np.ndarray,
    view: ClipView,
    rng: np.random.Generator,
    *,
    length: int,
    motion: Motion,
) -> tuple[np.ndarray, np.ndarray]:
    """Animate an (H, W) plane: (length, size, size) frames, float32, and labels, int32."""
    height, width = labels.shape
    positions = motion.sample_positions(view, rng, length=length, shape=(height, width))
    frames = sample_pixels(plane, positions, view.step)
    brightness = np.exp(_sample_random_walk(rng, length, motion.flicker)).astype(np.float32)
    frames *= brightness[:, None, None]
    _defocus(frames, rng, motion.defocus_px)
    return np.clip(frames, 0, 1, out=frames), sample_labels(labels, positions)


def _defocus(frames: np.ndarray, rng: np.random.Generator, max_px: float) -> None:
    """Blur the frames more and more, or less and less, in a quarter of the clips."""
    if rng.random() > 0.25 or max_px <= 0:
        return
    ramp = np.linspace(0, rng.uniform(0, max_px), len(frames))[:: rng.choice([-1, 1])]
    for frame, sigma in zip(frames, ramp, strict=True):
        if sigma > 0.2:
            frame[:] = gaussian_filter(frame, sigma, truncate=2.5)


def _sample_random_walk(rng: np.random.Generator, length: int, spread: float) -> np.ndarray:
    """Sample a (length,) random walk from 0 with a trend."""
    steps = rng.normal(0, spread) + rng.normal(0, 0.5 * spread, length)
    steps[0] = 0
    return np.asarray(np.cumsum(steps))


def _keep_inside(path: np.ndarray, view: ClipView, shape: tuple[int, int]) -> np.ndarray:
    """Turn a (length, 2) path from (0, 0) into centres of views that stay on the plane.

    A path is mirrored if it would leave the plane, so that little beyond the edge is shown.
    """
    slack = _MAX_OVERHANG * view.side
    centres = np.empty_like(path)
    for axis, (start, length) in enumerate(zip(view.yx, shape, strict=True)):
        furthest = path[np.abs(path[:, axis]).argmax(), axis]
        sign = -1.0 if (start < length / 2) != (furthest > 0) else 1.0
        low, high = min(view.side / 2 - slack, start), max(length - view.side / 2 + slack, start)
        centres[:, axis] = np.clip(start + sign * path[:, axis], low, high)
    return centres


@lru_cache(maxsize=64)
def _make_spline_basis(count: int, intervals: int) -> np.ndarray:
    """Make (count, intervals + 3) float32 weights of a uniform cubic B-spline; rows sum to 1."""
    positions = np.linspace(0, intervals, count, endpoint=False)
    whole = positions.astype(int)
    t = positions - whole
    pieces = (
        np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
        / 6
    )
    weights = np.zeros((count, intervals + 3), dtype=np.float32)
    for offset, piece in enumerate(pieces):
        weights[np.arange(count), whole + offset] = piece
    return weights
