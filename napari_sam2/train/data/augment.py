"""Augmentation for microscopy: contrast, light, noise, blur, polarity, scale and orientation, the same on all frames of a clip."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.clip_view import ClipView, clamp_centre, sample_labels, sample_pixels


@dataclass(frozen=True)
class Augmentation:
    """How often and how much a clip is changed; called with a clip and a generator.

    Only noise differs between frames.

    Parameters
    ----------
    flip, turn
        Probability of a mirror image along each axis; of a random number of quarter turns.
    zoom, zoom_range
        Probability of a magnification, and its range; below 1 the edges are repeated around a
        smaller picture.
    invert
        Of bright objects becoming dark ones.
    gamma, gamma_range
        Of another curve, and its range of exponents.
    contrast, low_range, high_range
        Of another range of grey values, and where its black and its white come to lie; below 0 and
        above 1 is cut off.
    shade, shade_depth
        Of uneven illumination, and how much of the light it may take.
    blur, blur_px
        Of a blurred clip, and its largest standard deviation.
    gauss, gauss_max, poisson, poisson_min_photons
        Of noise that does not depend on the light, and its largest standard deviation; of noise of
        photons, and the fewest of them at full brightness.
    """

    flip: float = 0.5
    turn: float = 0.75
    zoom: float = 0.2
    zoom_range: tuple[float, float] = (0.95, 1.5)
    invert: float = 0.25
    gamma: float = 0.4
    gamma_range: tuple[float, float] = (0.5, 2.0)
    contrast: float = 0.5
    low_range: tuple[float, float] = (-0.05, 0.3)
    high_range: tuple[float, float] = (0.55, 1.15)
    shade: float = 0.2
    shade_depth: float = 0.5
    blur: float = 0.2
    blur_px: float = 1.5
    gauss: float = 0.3
    gauss_max: float = 0.1
    poisson: float = 0.3
    poisson_min_photons: float = 20.0

    @classmethod
    def identity(cls) -> Augmentation:
        """No change at all: to turn single ones on with `dataclasses.replace`."""
        return cls(
            flip=0,
            turn=0,
            zoom=0,
            invert=0,
            gamma=0,
            contrast=0,
            shade=0,
            blur=0,
            gauss=0,
            poisson=0,
        )

    def __call__(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """Another clip of the same shape, for square frames."""
        if clip.frames.shape[1] != clip.frames.shape[2]:
            raise LabelsError(
                f"{clip.name}: frames of {clip.frames.shape[1:]!r} pixels: expected square ones"
            )
        frames, labels = self._flip_and_rotate(clip.frames, clip.labels, rng)
        for change in (
            self._invert,
            self._apply_gamma,
            self._change_contrast,
            self._add_shading,
            self._apply_blur,
            self._add_noise,
        ):
            frames = change(frames, rng)
        frames = np.ascontiguousarray(np.clip(frames, 0, 1), dtype=np.float32)
        return replace(clip, frames=frames, labels=np.ascontiguousarray(labels))

    def _flip_and_rotate(
        self, frames: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if rng.random() < self.zoom:
            frames, labels = _zoom_clip(
                frames, labels, float(np.exp(rng.uniform(*np.log(self.zoom_range)))), rng
            )
        for axis in (1, 2):
            if rng.random() < self.flip:
                frames, labels = np.flip(frames, axis), np.flip(labels, axis)
        if rng.random() < self.turn:
            quarters = int(rng.integers(4))
            frames, labels = np.rot90(frames, quarters, (1, 2)), np.rot90(labels, quarters, (1, 2))
        return frames, labels

    def _invert(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return 1 - frames if rng.random() < self.invert else frames

    def _apply_gamma(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.gamma:
            return frames
        return np.asarray(frames ** np.float32(np.exp(rng.uniform(*np.log(self.gamma_range)))))

    def _change_contrast(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.contrast:
            return frames
        low, high = rng.uniform(*self.low_range), rng.uniform(*self.high_range)
        return np.asarray(frames * np.float32(high - low) + np.float32(low))

    def _add_shading(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.shade:
            return frames
        y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in frames.shape[1:])
        centre, tilt = rng.uniform(-1, 1, 2), rng.normal(0, 1, 2)
        bowl = (
            (y[:, None] - centre[0]) ** 2
            + (x - centre[1]) ** 2
            + tilt[0] * y[:, None]
            + tilt[1] * x
        )
        bowl = (bowl - bowl.min()) / np.ptp(bowl)
        return np.asarray(
            frames * (1 - np.float32(rng.uniform(0, self.shade_depth)) * bowl.astype(np.float32))
        )

    def _apply_blur(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.blur:
            return frames
        sigma = rng.uniform(0.3, max(0.3, self.blur_px))
        return np.asarray(
            gaussian_filter1d(
                gaussian_filter1d(frames, sigma, axis=1, truncate=3.0), sigma, axis=2, truncate=3.0
            )
        )

    def _add_noise(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        variance = np.zeros((), dtype=np.float32)
        if rng.random() < self.gauss:
            variance = variance + np.float32(rng.uniform(0, self.gauss_max) ** 2)
        if rng.random() < self.poisson:
            photons = self.poisson_min_photons / rng.uniform(0.02, 1)
            variance = variance + np.clip(frames, 0, 1) / np.float32(
                photons
            )  # Poisson noise of many photons is normal
        if not np.any(variance):
            return frames
        return np.asarray(
            frames + rng.standard_normal(frames.shape, dtype=np.float32) * np.sqrt(variance)
        )


def _zoom_clip(
    frames: np.ndarray, labels: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Magnified around an object of the first frame; below 1 all of it smaller, its edges repeated and without labels beyond."""
    size = frames.shape[1]
    shown = np.flatnonzero(labels[0])
    y, x = divmod(int(rng.choice(shown)), size) if shown.size else (size // 2, size // 2)
    view = ClipView(
        (clamp_centre(y, size, size / scale), clamp_centre(x, size, size / scale)), 1 / scale, size
    )
    places = view.compute_positions()[None]
    pixels = [sample_pixels(frame, places, view.step)[0] for frame in frames]
    return np.stack(pixels), np.stack([sample_labels(each, places)[0] for each in labels])
