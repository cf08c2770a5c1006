"""A time-lapse of many round objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from scipy.ndimage import gaussian_filter

from napari_sam2.core.prompt import BoxPrompt
from napari_sam2.core.stack import Stack
from napari_sam2.io.open import open_stack

OBJECT_WIDTH_PX = 22.0
"""Width of an object in pixels."""


@dataclass(frozen=True)
class CrowdCase:
    """A time-lapse of round objects on a grid; each sways a little.

    Parameters
    ----------
    side
        Side of the frames in pixels.
    objects, frames
        Number of objects and of frames.
    """

    side: int
    objects: int
    frames: int = 6

    def compute_centres(self, frame: int) -> np.ndarray:
        """Compute (objects, 2) centres on a frame, (y, x) in pixels."""
        across = int(np.ceil(np.sqrt(self.objects)))
        grid = (
            (
                np.stack(np.meshgrid(*[np.arange(across)] * 2, indexing="ij"), axis=-1).reshape(
                    -1, 2
                )
                + 0.5
            )
            * self.side
            / across
        )
        phase = np.random.default_rng(1).uniform(0, 2 * np.pi, grid.shape)
        return np.asarray(grid + 2 * np.sin(phase + 0.7 * frame))[: self.objects]

    def make_box_prompts(self) -> list[BoxPrompt]:
        """Make a box around each object on the first frame."""
        half = OBJECT_WIDTH_PX / 2
        return [
            BoxPrompt(0, track, (y - half, x - half, y + half, x + half))
            for track, (y, x) in enumerate(self.compute_centres(0), start=1)
        ]

    def draw_planes(self) -> Iterator[np.ndarray]:
        """Draw the (side, side) frames one after another, with noise."""
        rng = np.random.default_rng(0)
        for frame in range(self.frames):
            plane = np.zeros((self.side, self.side), dtype=np.float32)
            for y, x in self.compute_centres(frame):
                plane[int(y), int(x)] = 1
            blurred = gaussian_filter(plane, OBJECT_WIDTH_PX / 4) * OBJECT_WIDTH_PX**2 / 2
            yield (blurred + 0.05 * rng.standard_normal(plane.shape)).astype(np.float32)

    def make_stack(self) -> Stack:
        """Draw all frames into memory."""
        return Stack(np.stack(list(self.draw_planes())), "tyx")

    def write_stack(self, folder: Path) -> Stack:
        """Write the frames into a zarr file, and open it: none of them stays in memory."""
        path, shape = folder / "case.zarr", (self.frames, self.side, self.side)
        array = zarr.create_array(path, shape=shape, chunks=(1, *shape[1:]), dtype="float32")
        for frame, plane in enumerate(self.draw_planes()):
            array[frame] = plane
        return open_stack(path, axes="tyx")
