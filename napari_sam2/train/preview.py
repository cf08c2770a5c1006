"""A picture of held-out clips, with outlines of the truth and of the predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import binary_erosion

from napari_sam2.core.prompt import FramePrompts
from napari_sam2.models.network.sam2_network import Sam2Network
from napari_sam2.train.clip_propagation import PropagationOptions, propagate_batch
from napari_sam2.train.data.batches import assemble_batch
from napari_sam2.train.data.clip import Clip
from napari_sam2.train.data.simulated_prompts import choose_correction, find_middle
from napari_sam2.train.validation import compute_predicted_masks

_MAX_OBJECTS = 20  # objects of a clip: more outlines cannot be distinguished
_TRUE_COLOUR, _PREDICTED_COLOUR = (0.2, 0.9, 0.2), (1.0, 0.2, 0.9)


@torch.no_grad()
def draw_preview(
    network: Sam2Network, clips: Sequence[Clip], options: PropagationOptions, device: str
) -> np.ndarray:
    """Draw a (rows, columns, 3) picture in 0..1: a row per clip, its frames side by side.

    Each object is prompted by one click on the first frame.
    """
    rows = []
    for clip in clips:
        batch = assemble_batch(
            [clip], np.random.default_rng(0), max_objects=_MAX_OBJECTS, sample_prompt=_click_middle
        ).to(device)
        result = propagate_batch(network, batch, options, choose_correction)
        frames = []
        for index, pixels in enumerate(clip.frames):
            picture = np.repeat(pixels[..., None], 3, axis=2)
            for masks, colour in (
                (batch.masks[:, index], _TRUE_COLOUR),
                (compute_predicted_masks(result, batch, index), _PREDICTED_COLOUR),
            ):
                for mask in masks.cpu().numpy():
                    picture[mask & ~binary_erosion(mask)] = colour
            frames.append(picture)
        rows.append(np.concatenate(frames, axis=1))
    return np.concatenate(rows, axis=0)


def _click_middle(mask: np.ndarray) -> FramePrompts:
    return FramePrompts(points=(find_middle(mask),), positive=(True,))
