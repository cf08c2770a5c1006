"""The video, the clicks and the correction that every peer gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.support.masks import compute_iou
from napari_sam2.core.prompt import PointPrompt
from napari_sam2.testing.scenes import BRIGHTEST, make_drifting_scene

# Grey values. Without noise, large parts of a frame would look the same to the network.
_NOISE = 0.05 * BRIGHTEST


@dataclass(frozen=True)
class Click:
    """Clicks on one object on one frame: (y, x) in pixels, and the sign of each."""

    frame: int
    track: int
    yx: tuple[tuple[float, float], ...]
    positive: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class PropagationCase:
    """A video with prompts.

    Parameters
    ----------
    frames
        (T, H, W) float32 in 0..1.
    clicks
        A click for each object on frame 0.
    correction
        Two clicks on one object on a later frame.
    """

    frames: np.ndarray
    clicks: tuple[Click, ...]
    correction: Click

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, height, width)."""
        return self.frames.shape[0], self.frames.shape[1], self.frames.shape[2]

    @property
    def tracks(self) -> tuple[int, ...]:
        """Track ids of the objects, ascending from 1."""
        return tuple(click.track for click in self.clicks)


def draw_case(*, frames: int, objects: int, size: int) -> PropagationCase:
    """Draw discs that drift through noise; one of them is corrected on the middle frame."""
    scene = make_drifting_scene(
        count=objects, frames=frames, shape=(size, size), speed=size / 64, noise=_NOISE
    )
    clicks = tuple(_make_click(scene.make_click(track)) for track in scene.tracks)
    wrong, frame = scene.tracks[objects // 2], frames // 2
    inside = scene.make_click(wrong, frame).yx[0]
    outside = scene.make_click(scene.tracks[objects // 2 - 1], frame).yx[0]
    pixels = scene.stack.data.astype(np.float32) / np.float32(scene.stack.data.max())
    return PropagationCase(pixels, clicks, Click(frame, wrong, (inside, outside), (True, False)))


def compute_agreement(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Compute (T, n) IoUs of (T, n, H, W) masks; 1 if both are empty."""
    shared = (ours & theirs).sum(axis=(2, 3))
    either = (ours | theirs).sum(axis=(2, 3))
    return np.asarray(np.divide(shared, either, out=np.ones(either.shape), where=either > 0))


def measure_triviality(masks: np.ndarray) -> Mapping[str, float]:
    """Measure how trivial (T, n, H, W) masks are.

    Returns
    -------
    Mapping
        `smallest`, `largest`: shares of the frame that masks cover. `alike`, `most_alike`: the
        mean and the highest IoU of two objects' masks on the last frame; near 1 the model ignores
        its memory.
    """
    cover = masks.mean(axis=(2, 3))
    last = masks[-1]
    pairs = [(a, b) for a in range(len(last)) for b in range(a)]
    ious = [compute_iou(last[a], last[b]) for a, b in pairs]
    return {
        "smallest": float(cover.min()),
        "largest": float(cover.max()),
        "alike": float(np.mean(ious or [0.0])),
        "most_alike": max(ious, default=0.0),
    }


def _make_click(prompt: PointPrompt) -> Click:
    return Click(prompt.frame, prompt.track, prompt.yx, prompt.positive)
