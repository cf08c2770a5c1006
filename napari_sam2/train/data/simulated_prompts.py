"""Clicks: what a person would say about an object, simulated from the truth, and where they would correct a prediction.

Corrections follow SAM 2's training: a click falls on a pixel chosen uniformly among all that are
wrong; at validation in the middle of the larger wrong region, which is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

from napari_sam2.core.errors import LabelsError, PromptError
from napari_sam2.core.prompt import FramePrompts

CorrectionClick = tuple[tuple[float, float], bool]
"""(y, x) of a pixel, and whether the object is there."""

_CENTRAL_DEPTH = 0.6  # of the largest depth: where people click who aim at the middle
_MIN_BOX_PX = 1.0


@dataclass(frozen=True)
class PromptSampling:
    """How often an object is first shown by a click, a box or a mask (parts of a whole), and how well it is aimed.

    `deep` is the share of clicks aimed at the middle, the others fall anywhere on the object.
    `jitter` is the standard deviation of a box's sides, as a share of its height and width, and
    `jitter_px` the most they are moved (SAM 2: 0.1 and 20).
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
                f"point {self.point!r}, box {self.box!r}, mask {self.mask!r}: expected parts of "
                "a whole, none below 0"
            )
        if not 0 <= self.deep <= 1:
            raise PromptError(f"deep is {self.deep!r}: expected a share from 0 to 1")


def sample_first_prompt(
    mask: np.ndarray, rng: np.random.Generator, sampling: PromptSampling | None = None
) -> FramePrompts:
    """A click inside, a box around, or all of a (H, W) bool mask; LabelsError where it is empty."""
    sampling = sampling or PromptSampling()
    shares = np.array([sampling.point, sampling.box, sampling.mask])
    kind = int(rng.choice(3, p=shares / shares.sum()))
    if kind == 2:
        return FramePrompts(mask=_check_not_empty(mask))
    if kind == 1:
        return FramePrompts(
            box=jitter_box(compute_box(mask), rng, shape=mask.shape, sampling=sampling)
        )
    place = (
        _sample_central_point(mask, rng)
        if rng.random() < sampling.deep
        else _sample_point(mask, rng)
    )
    return FramePrompts(points=(place,), positive=(True,))


def find_middle(mask: np.ndarray) -> tuple[float, float]:
    """(y, x) of the pixel deepest inside a (H, W) bool mask, of equally deep ones the midmost: the first click at validation."""
    return _find_deepest(_check_not_empty(mask))[0]


def compute_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """(y, x, y2, x2) of the outer edges of a (H, W) bool mask: half a pixel beyond the centres of the outermost ones."""
    rows, columns = _find_extent(_check_not_empty(mask))
    return rows.start - 0.5, columns.start - 0.5, rows.stop - 0.5, columns.stop - 0.5


def jitter_box(
    box: tuple[float, float, float, float],
    rng: np.random.Generator,
    *,
    shape: tuple[int, ...],
    sampling: PromptSampling,
) -> tuple[float, float, float, float]:
    """A box drawn by hand: each side moved a little, kept on a frame of `shape`, never turned inside out."""
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
    """Where the next click goes, given (H, W) bool masks: on a wrong pixel, at random.

    Without `rng` in the middle of the larger wrong region. Where nothing is wrong: on a background
    pixel at random, as SAM 2's training does, or, without `rng`, in the middle of the object.
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
    """The deepest pixel of a mask and its depth; depth 0 where the mask is empty."""
    if not mask.any():
        return (0.0, 0.0), 0.0
    depth, top, left = _compute_depth(mask)
    most = float(depth.max())
    ridge = np.argwhere(depth == most)
    y, x = ridge[((ridge - ridge.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return (float(top + y), float(left + x)), most


def _sample_central_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    depth, top, left = _compute_depth(_check_not_empty(mask))
    y, x = _sample_point(depth >= _CENTRAL_DEPTH * depth.max(), rng)
    return top + y, left + x


def _sample_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    places = np.flatnonzero(_check_not_empty(mask))
    y, x = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
    return float(y), float(x)


def _compute_depth(mask: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Distance to the outside within the mask's extent, the frame's edge counting as outside; and the extent's corner."""
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
        raise LabelsError("no pixel of the object is on this frame: prompt it where it is seen")
    return mask
