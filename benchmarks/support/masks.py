"""Agreement of masks and of label stacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def compute_iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Compute the IoU of two bool masks of any shape; 0 if both are empty."""
    return float((mask & other).sum() / max(1, (mask | other).sum()))


def compute_frame_ious(labels: np.ndarray, truth: np.ndarray, track: int) -> np.ndarray:
    """Compute (frames,) IoUs of one track of two (frames, H, W) label stacks."""
    ours, theirs = labels == track, truth == track
    union = (ours | theirs).sum(axis=(1, 2))
    return np.asarray((ours & theirs).sum(axis=(1, 2)) / np.maximum(1, union))


def compute_track_iou(labels: np.ndarray, others: np.ndarray, tracks: Sequence[int]) -> float:
    """Compute the mean, over tracks, of the IoU over all frames of two label stacks."""
    return float(np.mean([compute_iou(labels == track, others == track) for track in tracks]))


def compute_mask_iou(masks: np.ndarray, others: np.ndarray) -> float:
    """Compute the mean IoU of (frames, n, H, W) masks, pairs of empty ones left out."""
    both, either = (masks & others).sum(axis=(2, 3)), (masks | others).sum(axis=(2, 3))
    return float((both[either > 0] / either[either > 0]).mean())


def split_masks(labels: np.ndarray, tracks: Iterable[int]) -> np.ndarray:
    """Split (frames, H, W) labels into (frames, n, H, W) bool masks."""
    return np.stack([labels == track for track in tracks], axis=1)
