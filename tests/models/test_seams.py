"""Seams: a mask does not depend on where on the frame its object lies: Windows and Regions move in steps, and stay on the frame.

Frames are cut from one large canvas, so that an object and its surroundings are the same pixels
wherever it lies on them.
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
"""Frames, and the pixels by which the object moves to the right on each."""

SAME = 0.9
"""IoU of the masks at two places.

Half a pixel around the smaller object would be 0.91, and a seam that cuts it far less.
"""


@dataclass(frozen=True)
class Canvas:
    """One blurred disc that drifts through noise, `wide` pixels wide, with room for a frame of `side` pixels around it."""

    side: int
    wide: float

    @property
    def middle(self) -> int:
        """Row and column at which the disc is on frame 0."""
        return self.side + 20

    @cache  # noqa: B019  # of a frozen value, for the length of a test run
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """(frames, H, W) pixels in 0..1 and truth."""
        rows, columns = np.indices((2 * self.middle,) * 2)
        truth = np.stack(
            [
                np.hypot(rows - self.middle, columns - self.middle - SPEED * f) <= self.wide / 2
                for f in range(FRAMES)
            ]
        )
        noise = np.random.default_rng(0).normal(0.2, 0.05, truth.shape)
        pixels = (
            np.stack([gaussian_filter(plane.astype(float), 1.0) for plane in truth]) * 0.6 + noise
        )
        return pixels.clip(0, 1).astype(np.float32), truth

    def carried(self, model: VideoModel, place: tuple[int, int]) -> tuple[np.ndarray, list[float]]:
        """(frames, H, W) masks on the canvas where frames are cut so that the disc lies at `place`, and IoU with the truth."""
        pixels, truth = self.drawn()
        cut = (
            slice(None),
            *(slice(self.middle - at, self.middle - at + self.side) for at in place),
        )
        (y, x), half = place, self.wide / 2
        with Session(
            Video.of(Stack(pixels[cut], "tyx"), contrast=Contrast(0, 1)), model
        ) as session:
            session.prompt(BoxPrompt(0, 1, (y - half, x - half, y + half, x + half)))
            session.propagate(direction="forward", progress=False)
            found = np.zeros_like(truth)
            found[cut] = np.stack([session.label_plane(frame) == 1 for frame in range(FRAMES)])
        return found, _ious(found, truth)


def _ious(ones: np.ndarray, others: np.ndarray) -> list[float]:
    return [
        float((one & other).sum() / (one | other).sum())
        for one, other in zip(ones, others, strict=True)
    ]


SMALL, LARGE = Canvas(256, 22.0), Canvas(512, 40.0)


@cache
def _following() -> tuple[VideoModel, np.ndarray]:
    """The embedded model, and its masks in the middle of a frame."""
    model = load_model("nano", device="cpu")
    return model, SMALL.carried(model, (128, 128))[0]


@cache
def _near() -> tuple[VideoModel, np.ndarray]:
    """The same weights shown whole frames of 32 × 32 tokens, looking by Regions of 16 × 16, which move by 4."""
    nano = load_model("nano", device="cpu")
    assert isinstance(nano, Sam2Predictor)
    model = Sam2Predictor(
        nano.network,
        replace(nano.card, object_crops=False, input_sizes=(LARGE.side,), attention="local"),
    )
    return model, LARGE.carried(model, (256, 256))[0]


PLACES = {
    "window": (
        SMALL,
        _following,
        {
            "by a pixel": (128, 129),
            "half a step of the Window": (128, 131),
            "a step crossed on the way": (128, 134),
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
        _near,
        {
            "half a token": (256, 264),
            "a step of the Region": (256, 288),
            "between two steps, in both axes": (286, 278),
            "upper edge": (24, 256),
            "right edge": (256, 470),
            "corner": (488, 470),
        },
    ),
}
"""By what moves with the object: the canvas, the model with its masks in the middle of a frame, and the other places tried."""


@pytest.mark.parametrize(
    ("canvas", "looking", "place"),
    [
        pytest.param(canvas, looking, place, id=f"{moved}: {name}")
        for moved, (canvas, looking, places) in PLACES.items()
        for name, place in places.items()
    ],
)
def test_a_mask_has_no_seams(
    canvas: Canvas, looking: Callable[[], tuple[VideoModel, np.ndarray]], place: tuple[int, int]
) -> None:
    model, expected = looking()
    found, truth = canvas.carried(model, place)
    assert min(_ious(found, expected)) >= SAME
    assert min(truth) >= 0.85


def test_what_is_compared_differs_where_a_mask_is_cut() -> None:
    """The comparison can fail: a mask of which a seam takes a fifth is not the same."""
    _, expected = _following()
    cut = expected.copy()
    cut[:, : SMALL.middle - 6] = False
    assert max(_ious(cut, expected)) < SAME
