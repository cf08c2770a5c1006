"""Seams: a mask does not depend on the position of its object on the frame.

Windows and regions move in steps, and end at the edges of the frame. Frames are cut from one large
canvas, so that an object and its surroundings are the same pixels at any position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.prompt import BoxPrompt
from napari_sam2.core.protocols import VideoModel
from napari_sam2.core.stack import Stack, Video
from napari_sam2.models.load import load_model
from napari_sam2.models.predictor import Sam2Predictor
from napari_sam2.propagation.session import Session

FRAMES, SPEED = 4, 2.5
"""Number of frames, and pixels by which the object moves to the right per frame."""

SAME = 0.9
"""Smallest IoU of the masks at two positions.

Half a pixel around the smaller object would give 0.91, a seam that cuts it far less.
"""


@dataclass(frozen=True)
class Canvas:
    """A blurred disc, `width_px` wide, that drifts through noise.

    There is room around it for a frame of `side` pixels.
    """

    side: int
    width_px: float

    @property
    def middle(self) -> int:
        """Row and column of the disc on frame 0."""
        return self.side + 20

    @cache  # noqa: B019  # frozen, and used only during the tests
    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """(frames, H, W) pixels in 0..1, and the true masks."""
        rows, columns = np.indices((2 * self.middle,) * 2)
        truth = np.stack(
            [
                np.hypot(rows - self.middle, columns - self.middle - SPEED * f) <= self.width_px / 2
                for f in range(FRAMES)
            ]
        )
        noise = np.random.default_rng(0).normal(0.2, 0.05, truth.shape)
        pixels = (
            np.stack([gaussian_filter(plane.astype(float), 1.0) for plane in truth]) * 0.6 + noise
        )
        return pixels.clip(0, 1).astype(np.float32), truth

    def propagate_at(
        self, model: VideoModel, position: tuple[int, int]
    ) -> tuple[np.ndarray, list[float]]:
        """(frames, H, W) masks on the canvas, and their IoUs with the truth.

        The disc lies at (y, x) `position` of the frame.
        """
        pixels, truth = self.draw()
        cut = (
            slice(None),
            *(slice(self.middle - at, self.middle - at + self.side) for at in position),
        )
        (y, x), half = position, self.width_px / 2
        with Session(
            Video.of(Stack(pixels[cut], "tyx"), contrast=Contrast(0, 1)), model
        ) as session:
            session.prompt(BoxPrompt(0, 1, (y - half, x - half, y + half, x + half)))
            session.propagate(direction="forward", progress=False)
            found = np.zeros_like(truth)
            found[cut] = np.stack(
                [session.compute_label_plane(frame) == 1 for frame in range(FRAMES)]
            )
        return found, _compute_ious(found, truth)


def _compute_ious(ones: np.ndarray, others: np.ndarray) -> list[float]:
    return [
        float((one & other).sum() / (one | other).sum())
        for one, other in zip(ones, others, strict=True)
    ]


SMALL, LARGE = Canvas(256, 22.0), Canvas(512, 40.0)


@cache
def _load_crop_model() -> tuple[VideoModel, np.ndarray]:
    """The embedded model, and its masks for the middle of a frame."""
    model = load_model("nano", device="cpu")
    return model, SMALL.propagate_at(model, (128, 128))[0]


@cache
def _load_local_model() -> tuple[VideoModel, np.ndarray]:
    """The same weights with local attention.

    Frames of 32 × 32 tokens, and regions of 16 × 16, which move by 4.
    """
    nano = load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    model = Sam2Predictor(
        nano.network,
        replace(nano.card, object_crops=False, input_sizes=(LARGE.side,), attention="local"),
    )
    return model, LARGE.propagate_at(model, (256, 256))[0]


POSITIONS = {
    "window": (
        SMALL,
        _load_crop_model,
        {
            "by a pixel": (128, 129),
            "half a step of the window": (128, 131),
            "a step during propagation": (128, 134),
            "steps in both axes": (132, 133),
            "upper edge": (12, 128),
            "lower edge": (243, 128),
            "left edge": (128, 12),
            "right edge": (128, 235),
            "upper left corner": (12, 12),
            "upper right corner": (13, 234),
            "lower left corner": (243, 12),
            "lower right corner": (243, 235),
        },
    ),
    "regions": (
        LARGE,
        _load_local_model,
        {
            "half a token": (256, 264),
            "a step of the region": (256, 288),
            "between two steps, in both axes": (286, 278),
            "upper edge": (24, 256),
            "right edge": (256, 470),
            "corner": (488, 470),
        },
    ),
}
"""For windows and for regions: the canvas, the model, and positions that are not the middle."""


@pytest.mark.parametrize(
    ("canvas", "load", "position"),
    [
        pytest.param(canvas, load, position, id=f"{kind}: {name}")
        for kind, (canvas, load, positions) in POSITIONS.items()
        for name, position in positions.items()
    ],
)
def test_a_mask_has_no_seams(
    canvas: Canvas, load: Callable[[], tuple[VideoModel, np.ndarray]], position: tuple[int, int]
) -> None:
    model, expected = load()
    found, truth = canvas.propagate_at(model, position)
    assert min(_compute_ious(found, expected)) >= SAME
    assert min(truth) >= 0.85


def test_the_comparison_fails_for_a_cut_mask() -> None:
    """A seam that removes a fifth of the mask is detected."""
    _, expected = _load_crop_model()
    cut = expected.copy()
    cut[:, : SMALL.middle - 6] = False
    assert max(_compute_ious(cut, expected)) < SAME
