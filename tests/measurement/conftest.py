"""Videos and labels with known measurements."""

from collections.abc import Callable

import numpy as np
import pytest

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.stack import Spacing, Stack, Video

MakeVideo = Callable[..., Video]
"""The type of the fixture `make_video`."""

SPACING = Spacing(z_um=2.0, y_um=0.5, x_um=0.25, t_s=60.0)


def draw_square(plane: np.ndarray, label: int, top: int, left: int, side: int) -> np.ndarray:
    """Draw a square of `side` pixels into `plane`, and return the plane."""
    plane[top : top + side, left : left + side] = label
    return plane


@pytest.fixture
def make_video() -> MakeVideo:
    """A function that makes a Video, with a fixed contrast, so that pixels may be constant."""

    def make(
        pixels: np.ndarray,
        axes: str = "tyx",
        *,
        along: str | None = None,
        spacing: Spacing = SPACING,
    ) -> Video:
        along = along or ("z" if "z" in axes else "t")
        return Video.of(Stack(pixels, axes, spacing), along=along, contrast=Contrast(0.0, 65535.0))

    return make
