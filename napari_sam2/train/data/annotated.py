"""Annotated images: any image and any labels that `io` can open, as pairs, once their labels have been looked through."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import AxesError, LabelsError
from napari_sam2.core.stack import Stack, Video
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack

_MAX_LABEL = int(np.iinfo(np.int32).max)
_UNSCALED = Contrast(
    0, 1
)  # of videos whose labels alone are looked at: finding a contrast reads the image
_MIN_OVERLAPS = (
    20  # objects seen on two frames in a row before anything is said about how they are numbered
)


@dataclass(frozen=True)
class ReadOptions:
    """How an image is to be read where its file does not say.

    `axes`, `along` and `channel` are those of `open_stack` and `as_video`. `linked` says that a
    label is the same object on all frames; False for labels that are numbered anew on each, whose
    frames are then used as still images.
    """

    axes: str | None = None
    along: str | None = None
    channel: int | None = None
    linked: bool = True


def open_pairs(
    image: Any, labels: Any, *, name: str = "", group: str = "", options: ReadOptions | None = None
) -> list[AnnotatedStack]:
    """The pairs of an image and its labels, paths or arrays: one for each index of the axes that are not walked.

    Frames without any label count as not annotated: a few annotated frames of a long stack are
    enough. Objects that are nowhere larger than one pixel are left out (`AnnotatedStack.left_out`), for a
    click there shows nothing of them.

    Raises
    ------
    LabelsError
        Labels and image of different shape, no objects, mostly objects of one pixel, labels
        numbered anew on each frame.
    FileError, AxesError, IntensityError
        As `open_stack` and `Stack.as_video`.
    """
    options = options or ReadOptions()
    stack = open_stack(image, axes=options.axes or _guess_axes(image, options.along))
    name = name or (Path(stack.source).name if stack.source else stack.name)
    truth = _open_truth(labels, stack, name)
    video = Video.of(stack, along=options.along, channel=options.channel, contrast=_UNSCALED)
    others = [axis for axis in stack.axes[:-2] if axis not in ("c", video.along)]
    found = []
    for index in itertools.product(*(range(stack.sizes[axis]) for axis in others)):
        at = dict(zip(others, index, strict=True))
        where = "".join(f" {axis}={number}" for axis, number in at.items())
        fixed = Video.of(
            stack, along=video.along, channel=options.channel, contrast=_UNSCALED, at=at
        )
        shown, dots = _find_annotated_frames(truth, fixed, linked=options.linked, name=name + where)
        if shown:
            read = partial(
                _read_plane,
                Video.of(stack, along=video.along, channel=options.channel, at=at),
                truth,
                dots,
            )
            found.append(
                AnnotatedStack(
                    name + where,
                    group or stack.source or name,
                    video.shape,
                    shown,
                    read,
                    options.linked,
                    dots,
                )
            )
    if not found:
        raise LabelsError(
            f"{name}: has no objects: expected labels with at least one, 0 being the background"
        )
    return found


def _guess_axes(image: Any, along: str | None) -> str | None:
    """Axes of an array of three dimensions that is said to be walked along one; napari's layers come as such."""
    shape = getattr(image, "shape", ())
    return f"{along}yx" if along and len(shape) == 3 else None


def _open_truth(labels: Any, stack: Stack, name: str) -> Stack:
    axes = stack.axes.replace("c", "")
    expected = tuple(stack.sizes[axis] for axis in axes)
    try:
        truth = open_labels(labels, axes=axes)
    except AxesError as error:
        raise LabelsError(
            f"{name}: the image is {expected!r} ({axes.upper()}), its labels are not: {error}"
        ) from error
    if truth.data.shape != expected:
        raise LabelsError(
            f"{name}: labels {tuple(truth.data.shape)!r}, image {expected!r} ({axes.upper()}): "
            "expected the same shape"
        )
    return truth


def _load_label_plane(truth: Stack, position: Mapping[str, int], name: str) -> np.ndarray:
    plane = truth.read_plane(position)
    if plane.size and plane.max() > _MAX_LABEL:
        raise LabelsError(
            f"{name}: holds the label {int(plane.max())}: expected numbers up to {_MAX_LABEL}"
        )
    return plane.astype(np.int32)


def _read_plane(
    video: Video, truth: Stack, single_pixel_labels: tuple[int, ...], frame: int
) -> AnnotatedPlane:
    labels = _load_label_plane(truth, video.axis_indices(frame), video.stack.name)
    return video.read_frame(frame).pixels, np.where(
        np.isin(labels, single_pixel_labels), 0, labels
    ) if single_pixel_labels else labels


def _find_annotated_frames(
    truth: Stack, video: Video, *, linked: bool, name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The frames with objects, and the labels that are one pixel; both ascending, once all labels have been looked through."""
    largest: Counter[int] = Counter()
    kept, lost = 0, 0
    shown: list[tuple[int, set[int]]] = []
    before = np.zeros(video.shape[1:], dtype=np.int32)
    for frame in range(len(video)):
        plane = _load_label_plane(truth, video.axis_indices(frame), name)
        ids, sizes = np.unique(plane[plane > 0], return_counts=True)
        largest |= Counter(dict(zip(ids.tolist(), sizes.tolist(), strict=True)))
        shown.append((frame, set(ids.tolist())))
        same, other = _count_kept_labels(before, plane)
        kept, lost, before = kept + same, lost + other, plane
    dots = _find_single_pixel_labels(largest, name)
    if linked and lost > kept and lost + kept >= _MIN_OVERLAPS:
        raise LabelsError(
            f"{name}: {lost} of {lost + kept} objects have another label on the next frame: "
            "expected a label to be the same object "
            "on all frames; link them first, or use them as still images (linked=False)"
        )
    return tuple(frame for frame, ids in shown if ids - set(dots)), dots


def _count_kept_labels(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Objects that mostly lie on their own label on the next frame, and those that lie on another one."""
    both = (before > 0) & (after > 0)
    pairs, counts = np.unique(np.stack([before[both], after[both]]), axis=1, return_counts=True)
    best: dict[int, tuple[int, int]] = {}
    for (one, other), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        best[one] = max(best.get(one, (0, 0)), (count, other))
    same = sum(one == other for one, (_, other) in best.items())
    return same, len(best) - same


def _find_single_pixel_labels(largest_px: Mapping[int, int], name: str) -> tuple[int, ...]:
    """Labels that are nowhere larger than one pixel, ascending; raises LabelsError where most of them are."""
    dots = tuple(sorted(label for label, size in largest_px.items() if size == 1))
    if 2 * len(dots) > len(largest_px):
        raise LabelsError(
            f"{name}: {len(dots)} of {len(largest_px)} objects are one pixel (first: {dots[0]}): "
            "expected filled objects; "
            "points and markers cannot be trained on"
        )
    return dots


def open_all_pairs(
    items: Sequence[tuple[Any, Any]], *, options: ReadOptions | None = None
) -> list[AnnotatedStack]:
    """The pairs of several images and their labels; each image is a group."""
    return [pair for image, labels in items for pair in open_pairs(image, labels, options=options)]
