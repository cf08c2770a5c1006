"""Augmentation of microscopy clips: contrast, light, noise, blur, polarity, orientation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from napari_sam2.core.errors import LabelsError
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.clip_view import ClipView, clamp_centre, sample_labels, sample_pixels


@dataclass(frozen=True)
class Augmentation:
    """How often and how much a clip is changed; call it with a clip and a generator.

    All frames of a clip are changed in the same way, except by noise.

    Parameters
    ----------
    flip, turn
        Probabilities of a flip along each axis, and of a random number of quarter turns.
    zoom, zoom_range
        Probability of a magnification, and its range. Below 1, edges are repeated around the
        smaller picture.
    invert
        Probability of inverted grey values.
    gamma, gamma_range
        Probability of a gamma curve, and the range of its exponents.
    contrast, low_range, high_range
        Probability of another contrast, and the ranges of its black and its white. Values below 0
        and above 1 are clipped.
    shade, shade_depth
        Probability of uneven illumination, and the largest share of the light that it takes.
    blur, blur_px
        Probability of blur, and its largest standard deviation.
    gauss, gauss_max, poisson, poisson_min_photons
        Probability of Gaussian noise, and its largest standard deviation; probability of photon
        noise, and the least number of photons at full brightness.
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
        """Return an augmentation that changes nothing; add changes with `dataclasses.replace`."""
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
        """Return another clip of the same shape. Frames must be square."""
        if clip.frames.shape[1] != clip.frames.shape[2]:
            raise LabelsError(
                f"{clip.name}: the frames have {clip.frames.shape[1:]!r} pixels: expected square "
                "frames"
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
            photons = np.float32(self.poisson_min_photons / rng.uniform(0.02, 1))
            # the noise of many photons is normal
            variance = variance + np.clip(frames, 0, 1) / photons
        if not np.any(variance):
            return frames
        return np.asarray(
            frames + rng.standard_normal(frames.shape, dtype=np.float32) * np.sqrt(variance)
        )


def _zoom_clip(
    frames: np.ndarray, labels: np.ndarray, scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Magnify a clip around an object of the first frame.

    Below a scale of 1 the picture is smaller; edges are repeated around it, without labels.
    """
    size = frames.shape[1]
    labelled = np.flatnonzero(labels[0])
    y, x = divmod(int(rng.choice(labelled)), size) if labelled.size else (size // 2, size // 2)
    view = ClipView(
        (clamp_centre(y, size, size / scale), clamp_centre(x, size, size / scale)), 1 / scale, size
    )
    positions = view.compute_positions()[None]
    pixels = [sample_pixels(frame, positions, view.step)[0] for frame in frames]
    return np.stack(pixels), np.stack([sample_labels(each, positions)[0] for each in labels])
