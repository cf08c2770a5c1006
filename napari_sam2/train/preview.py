"""Preview: held-out clips with what is true and what was answered, as one picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import binary_erosion

from napari_sam2.core.prompt import Said
from napari_sam2.models.network.sam2_network import Network
from napari_sam2.train.data.batches import assembled
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.simulated_prompts import correction, middle
from napari_sam2.train.forward import Script, rehearse
from napari_sam2.train.validation import masks_of

_OBJECTS = 20  # of a clip: more are not told apart
_TRUE, _ANSWERED = (0.2, 0.9, 0.2), (1.0, 0.2, 0.9)


@torch.no_grad()
def drawn(network: Network, clips: Sequence[Clip], script: Script, device: str) -> np.ndarray:
    """(rows, columns, 3) in 0..1: a clip is a row, its frames side by side; outlines, one click for each object on the first."""
    rows = []
    for clip in clips:
        batch = assembled([clip], np.random.default_rng(0), most=_OBJECTS, say=_clicked).to(device)
        walk = rehearse(network, batch, script, correction)
        frames = []
        for index, pixels in enumerate(clip.frames):
            picture = np.repeat(pixels[..., None], 3, axis=2)
            for masks, colour in (
                (batch.masks[:, index], _TRUE),
                (masks_of(walk, batch, index), _ANSWERED),
            ):
                for mask in masks.cpu().numpy():
                    picture[mask & ~binary_erosion(mask)] = colour
            frames.append(picture)
        rows.append(np.concatenate(frames, axis=1))
    return np.concatenate(rows, axis=0)


def _clicked(mask: np.ndarray) -> Said:
    return Said(points=(middle(mask),), positive=(True,))
