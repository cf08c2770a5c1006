"""Simulated prompts and corrections, made from the truth.

Corrections are as in SAM 2's training: a click on a random one of the wrong pixels. In validation,
a click is in the middle of the larger wrong region, which is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

from napari_sam2.core.errors import LabelsError, PromptError
from napari_sam2.core.prompt import FramePrompts

CorrectionClick = tuple[tuple[float, float], bool]
"""(y, x) of a pixel, and whether the click is positive."""

_CENTRAL_DEPTH = 0.6  # share of the largest depth: people who aim at the middle click deeper
_MIN_BOX_PX = 1.0


@dataclass(frozen=True)
class PromptSampling:
    """How objects are prompted first.

    Parameters
    ----------
    point, box, mask
        Relative frequencies of a click, a box and a mask.
    deep
        Share of clicks near the middle; the others are anywhere on the object.
    jitter, jitter_px
        Standard deviation of a box's sides, as a share of its height and width, and the largest
        shift in pixels (SAM 2: 0.1 and 20).
    """

    point: float = 0.6
    box: float = 0.3
    mask: float = 0.1
    deep: float = 0.6
    jitter: float = 0.1
    jitter_px: float = 20.0

    def __post_init__(self) -> None:
        shares = (self.point, self.box, self.mask)
        if min(*shares, self.jitter, self.jitter_px) < 0 or not sum(shares):
            raise PromptError(
                f"point {self.point!r}, box {self.box!r}, mask {self.mask!r}, jitter "
                f"{self.jitter!r}, jitter_px {self.jitter_px!r}: expected no negative value, and "
                "a positive one among the first three"
            )
        if not 0 <= self.deep <= 1:
            raise PromptError(f"deep is {self.deep!r}: expected a share from 0 to 1")


def sample_first_prompt(
    mask: np.ndarray, rng: np.random.Generator, sampling: PromptSampling | None = None
) -> FramePrompts:
    """Sample a click, a box or a mask for a (H, W) bool mask. Raises LabelsError if it is empty."""
    sampling = sampling or PromptSampling()
    shares = np.array([sampling.point, sampling.box, sampling.mask])
    kind = int(rng.choice(3, p=shares / shares.sum()))
    if kind == 2:
        return FramePrompts(mask=_check_not_empty(mask))
    if kind == 1:
        return FramePrompts(
            box=jitter_box(compute_box(mask), rng, shape=mask.shape, sampling=sampling)
        )
    sample = _sample_central_point if rng.random() < sampling.deep else _sample_point
    return FramePrompts(points=(sample(mask, rng),), positive=(True,))


def find_middle(mask: np.ndarray) -> tuple[float, float]:
    """Find the (y, x) of the pixel deepest inside a (H, W) bool mask.

    Of equally deep pixels, the one nearest to their mean.
    """
    return _find_deepest(_check_not_empty(mask))[0]


def compute_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Compute the (y, x, y2, x2) outer edges of the outermost pixels of a (H, W) bool mask."""
    rows, columns = _find_extent(_check_not_empty(mask))
    return rows.start - 0.5, columns.start - 0.5, rows.stop - 0.5, columns.stop - 0.5


def jitter_box(
    box: tuple[float, float, float, float],
    rng: np.random.Generator,
    *,
    shape: tuple[int, ...],
    sampling: PromptSampling,
) -> tuple[float, float, float, float]:
    """Move each side of a box a little, inside a frame of `shape`."""
    low, high = np.array(box[:2]), np.array(box[2:])
    spread = sampling.jitter * (high - low)
    moves = np.clip(rng.normal(0.0, 1.0, (2, 2)) * spread, -sampling.jitter_px, sampling.jitter_px)
    edge = np.array(shape) - 0.5
    low, high = (
        np.clip(low + moves[0], -0.5, edge - _MIN_BOX_PX),
        np.clip(high + moves[1], -0.5, edge),
    )
    high = np.maximum(high, low + _MIN_BOX_PX)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def choose_correction(
    prediction: np.ndarray, truth: np.ndarray, rng: np.random.Generator | None = None
) -> CorrectionClick:
    """Choose the next click, given (H, W) bool masks: a random wrong pixel.

    Without `rng`, the middle of the larger wrong region. If nothing is wrong, a random background
    pixel, as in SAM 2's training, or without `rng` the middle of the object.
    """
    wrong = prediction != truth
    if not wrong.any():
        return _choose_confirmation(truth, rng)
    if rng is not None:
        y, x = _sample_point(wrong, rng)
        return (y, x), bool(truth[int(y), int(x)])
    missed, extra = wrong & truth, wrong & prediction
    depths = [_find_deepest(missed), _find_deepest(extra)]
    positive = depths[0][1] >= depths[1][1]
    return (depths[0] if positive else depths[1])[0], positive


def _choose_confirmation(truth: np.ndarray, rng: np.random.Generator | None) -> CorrectionClick:
    if truth.all() or (rng is None and truth.any()):
        return find_middle(truth), True
    if rng is None:
        return find_middle(~truth), False
    return _sample_point(~truth, rng), False


def _find_deepest(mask: np.ndarray) -> tuple[tuple[float, float], float]:
    """Find the deepest pixel of a mask, and its depth; a depth of 0 if the mask is empty."""
    if not mask.any():
        return (0.0, 0.0), 0.0
    depth, top, left = _compute_depth(mask)
    max_depth = float(depth.max())
    ridge = np.argwhere(depth == max_depth)
    y, x = ridge[((ridge - ridge.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return (float(top + y), float(left + x)), max_depth


def _sample_central_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    depth, top, left = _compute_depth(_check_not_empty(mask))
    y, x = _sample_point(depth >= _CENTRAL_DEPTH * depth.max(), rng)
    return top + y, left + x


def _sample_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    pixels = np.flatnonzero(_check_not_empty(mask))
    y, x = divmod(int(pixels[rng.integers(len(pixels))]), mask.shape[1])
    return float(y), float(x)


def _compute_depth(mask: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Compute distances to the outside in the mask's extent, and the extent's corner.

    The edge of the frame counts as outside.
    """
    rows, columns = _find_extent(mask)
    depth = distance_transform_edt(np.pad(mask[rows, columns], 1))[1:-1, 1:-1]
    return np.asarray(depth), rows.start, columns.start


def _find_extent(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = find_objects(
        mask.view(np.uint8) if mask.dtype == bool else mask.astype(bool).view(np.uint8), max_label=1
    )[0]
    return rows, columns


def _check_not_empty(mask: np.ndarray) -> np.ndarray:
    if not mask.any():
        raise LabelsError("the object is not on this frame: prompt it on a frame that shows it")
    return mask
