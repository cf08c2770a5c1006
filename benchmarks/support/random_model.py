"""SAM 2.1 tiny with random weights on a crowd of discs, and the time it takes.

Random weights give masks as large as the frame, which trained ones do not give of nuclei. So the
regions of local attention are placed around each object here: how long it takes does not depend on
the masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.support.click_case import Click, PropagationCase
from benchmarks.support.peers import NapariSam2Peer, Peer
from benchmarks.support.resources import Seconds, time_call
from napari_sam2.core.window import Window
from napari_sam2.models.cropping import Corners
from napari_sam2.models.local_attention import LocalRegions


@dataclass(frozen=True)
class FixedSizeRegions(LocalRegions):
    """Regions of `min_tokens` around the centre of each mask, however large the mask is."""

    def make_region(self, corners: Corners, whole: Window) -> Window:
        """Make a region as if the mask were a point in the middle of its corners."""
        (top, left), (bottom, right) = corners
        middle = ((top + bottom) / 2, (left + right) / 2)
        return super().make_region((middle, middle), whole)


def draw_crowd(*, frames: int, objects: int, size: int) -> PropagationCase:
    """Draw blurred discs on a grid in noise, with a click on each."""
    side = _compute_grid_side(objects)
    cells = [divmod(number, side) for number in range(objects)]
    centres = [((row + 0.5) * size / side, (column + 0.5) * size / side) for row, column in cells]
    clicks = tuple(
        Click(0, track, ((round(y), round(x)),), (True,))
        for track, (y, x) in enumerate(centres, start=1)
    )
    discs = np.zeros((size, size), dtype=np.float32)
    discs[tuple(np.array(centres, dtype=int).T)] = 1.0
    discs = gaussian_filter(discs, compute_width_px(size, objects) / 4)
    noise = np.random.default_rng(0).random((frames, size, size), dtype=np.float32)
    return PropagationCase(noise / 2 + discs / discs.max() / 2, clicks, clicks[0])


def make_local_peer(size: int, side: int = LocalRegions().min_tokens) -> NapariSam2Peer:
    """Make this package as a peer with local attention, by regions of `side` tokens."""
    peer = NapariSam2Peer(size)
    peer.model.regions = FixedSizeRegions(min_tokens=side)
    return peer


def time_peer(peer: Peer, case: PropagationCase) -> Seconds:
    """Measure the time from frames to all masks."""

    def propagate() -> None:
        opened = peer.open_video(case.frames)
        opened.add_clicks(case.clicks)
        opened.propagate()
        for frame in range(len(case.frames)):
            opened.read_masks(frame)
        opened.close()

    return time_call(propagate)[1]


def compute_width_px(size: int, objects: int) -> float:
    """Compute the width of an object: half of its grid cell, and at most that of a nucleus."""
    return min(40.0, size / _compute_grid_side(objects) / 2)


def _compute_grid_side(objects: int) -> int:
    return int(np.ceil(np.sqrt(objects)))
