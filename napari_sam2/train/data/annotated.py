"""Annotated images: any image and labels that `io` can open, once the labels are checked."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.errors import AxesError, IntensityError, LabelsError
from napari_sam2.core.stack import Stack, Video
from napari_sam2.io.geometry import align_labels
from napari_sam2.io.open import open_labels, open_stack
from napari_sam2.measurement.label_faults import count_split_labels
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.tracking.relabel import relabel_planes
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack

_MAX_LABEL = int(np.iinfo(np.int32).max)
_MAX_MASK_VALUES = 3  # a mask of classes has few values; labels of objects have more
_NO_OBJECTS = "the labels have no objects: expected at least one; 0 is the background"
_UNSCALED = Contrast(0, 1)  # if only labels are read: estimating a contrast reads the image
_MIN_OVERLAPS = 20  # objects on two successive frames that are needed to judge their labels

LabelReader = Callable[[int], np.ndarray]
"""Reads the (H, W) int32 labels of a frame."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadOptions:
    """How to read an image if its file does not define it.

    Parameters
    ----------
    axes, along, channel
        As for `open_stack` and `as_video`.
    linked
        Whether a label is the same object on all frames. If not, frames are used as still images.
    """

    axes: str | None = None
    along: str | None = None
    channel: int | None = None
    linked: bool = True


def open_pairs(
    image: Any, labels: Any, *, name: str = "", group: str = "", options: ReadOptions | None = None
) -> list[AnnotatedStack]:
    """Open an image and its labels, paths or arrays.

    Frames without labels count as not annotated: a few annotated frames of a long stack are
    enough. Objects of one pixel are left out (`AnnotatedStack.left_out`), because a click cannot
    show them.

    Returns
    -------
    list of AnnotatedStack
        One for each index of the axes that are not propagated along.

    Raises
    ------
    LabelsError
        Labels and image of different shapes, no objects, mostly objects of one pixel, or labels
        that are not linked between frames.
    FileError, AxesError, IntensityError
        As `open_stack` and `Stack.as_video`.
    """
    found, name = _open_annotated(image, labels, name, group, options or ReadOptions())
    if not found:
        raise LabelsError(f"{name}: {_NO_OBJECTS}")
    return found


def _open_annotated(
    image: Any, labels: Any, name: str, group: str, options: ReadOptions
) -> tuple[list[AnnotatedStack], str]:
    """The annotated stacks of an image, none if its labels are empty; and the name of the image."""
    stack = open_stack(image, axes=options.axes or _guess_axes(image, options.along))
    name = name or (Path(stack.source).name if stack.source else stack.name)
    truth = _open_truth(labels, stack, name)
    video = Video.of(stack, along=options.along, channel=options.channel, contrast=_UNSCALED)
    others = [axis for axis in stack.axes[:-2] if axis not in ("c", video.along)]
    found = []
    for index in itertools.product(*(range(stack.sizes[axis]) for axis in others)):
        at = dict(zip(others, index, strict=True))
        full_name = name + "".join(f" {axis}={number}" for axis, number in at.items())
        open_video = partial(Video.of, stack, along=video.along, channel=options.channel, at=at)
        read_labels = _make_label_reader(truth, open_video(contrast=_UNSCALED), full_name)
        annotated, dots = _find_annotated_frames(
            read_labels, video.shape, linked=options.linked, name=full_name
        )
        if annotated:
            found.append(
                AnnotatedStack(
                    full_name,
                    group or stack.source or name,
                    video.shape,
                    annotated,
                    partial(_read_plane, _open_shown(open_video, full_name), read_labels, dots),
                    options.linked,
                    dots,
                )
            )
    return found, name


def _open_shown(open_video: Callable[[], Video], name: str) -> Video:
    """The video as the model sees it; an IntensityError names the image."""
    try:
        return open_video()
    except IntensityError as error:
        raise IntensityError(f"{name}: {error}") from error


def _make_label_reader(truth: Stack, video: Video, name: str) -> LabelReader:
    """Reads the labels of a frame; every piece of a mask of few values is an object."""

    def read_labels(frame: int) -> np.ndarray:
        return _load_label_plane(truth, video.get_axis_indices(frame), name)

    values: set[int] = set()
    masks = in_pieces = 0
    for frame in range(len(video)):
        labels, split = count_split_labels(read_labels(frame))
        values.update(labels.tolist())
        if len(values) > _MAX_MASK_VALUES:
            return read_labels
        masks, in_pieces = masks + labels.size, in_pieces + split
    if 2 * in_pieces <= masks:
        return read_labels
    log.warning(
        "%s: is a mask of the values %s in pieces: each piece is taken as an object",
        name,
        ", ".join(map(str, sorted(values))),
    )
    pieces = relabel_planes(LabelPlanes.of(read_labels, video.shape), "components", video.along)
    return lambda frame: pieces[frame].astype(np.int32)


def _guess_axes(image: Any, along: str | None) -> str | None:
    """Guess the axes of a 3D array, such as a napari layer, from the axis to propagate along."""
    shape = getattr(image, "shape", ())
    return f"{along}yx" if along and len(shape) == 3 else None


def _open_truth(labels: Any, stack: Stack, name: str) -> Stack:
    axes = stack.axes.replace("c", "")
    expected = tuple(stack.sizes[axis] for axis in axes)
    try:
        truth = align_labels(open_labels(labels, axes=axes), stack)
    except AxesError as error:
        raise LabelsError(
            f"{name}: the image is {expected!r} ({axes.upper()}), but its labels are not: {error}"
        ) from error
    if truth.data.shape != expected:
        raise LabelsError(
            f"{name}: the labels are {tuple(truth.data.shape)!r}, the image {expected!r} "
            f"({axes.upper()}): expected the same shape"
        )
    return truth


def _load_label_plane(truth: Stack, position: Mapping[str, int], name: str) -> np.ndarray:
    plane = truth.read_plane(position)
    if plane.size and plane.max() > _MAX_LABEL:
        raise LabelsError(
            f"{name}: has the label {int(plane.max())}: expected numbers up to {_MAX_LABEL}"
        )
    return plane.astype(np.int32)


def _read_plane(
    video: Video, read_labels: LabelReader, single_pixel_labels: tuple[int, ...], frame: int
) -> AnnotatedPlane:
    labels = read_labels(frame)
    if single_pixel_labels:
        labels = np.where(np.isin(labels, single_pixel_labels), 0, labels)
    try:
        return video.read_frame(frame).pixels, labels
    except IntensityError as error:
        raise IntensityError(f"{video.stack.source or video.stack.name}: {error}") from error


def _find_annotated_frames(
    read_labels: LabelReader, shape: tuple[int, int, int], *, linked: bool, name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find the frames with objects, and the labels of one pixel, both ascending.

    Reads all labels, and checks that they are linked between frames.
    """
    largest: Counter[int] = Counter()
    kept, changed = 0, 0
    frame_ids: list[set[int]] = []
    previous = np.zeros(shape[1:], dtype=np.int32)
    for frame in range(shape[0]):
        plane = read_labels(frame)
        ids, sizes = np.unique(plane[plane > 0], return_counts=True)
        largest |= Counter(dict(zip(ids.tolist(), sizes.tolist(), strict=True)))
        frame_ids.append(set(ids.tolist()))
        more_kept, more_changed = _count_kept_labels(previous, plane)
        kept, changed, previous = kept + more_kept, changed + more_changed, plane
    dots = _find_single_pixel_labels(largest, name)
    if linked and changed > kept and changed + kept >= _MIN_OVERLAPS:
        raise LabelsError(
            f"{name}: {changed} of {changed + kept} objects have another label on the next frame: "
            "expected a label to be the same object on all frames; link them first, or use them "
            "as still images (linked=False)"
        )
    annotated = tuple(frame for frame, ids in enumerate(frame_ids) if ids - set(dots))
    return annotated, dots


def _count_kept_labels(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Count the objects that mostly lie on their own label on the next frame, and the others."""
    both = (before > 0) & (after > 0)
    pairs, counts = np.unique(np.stack([before[both], after[both]]), axis=1, return_counts=True)
    best: dict[int, tuple[int, int]] = {}
    for (label, next_label), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        best[label] = max(best.get(label, (0, 0)), (count, next_label))
    kept = sum(label == next_label for label, (_, next_label) in best.items())
    return kept, len(best) - kept


def _find_single_pixel_labels(largest_px: Mapping[int, int], name: str) -> tuple[int, ...]:
    """Find the labels of at most one pixel, ascending. Raises LabelsError if most labels are."""
    dots = tuple(sorted(label for label, size in largest_px.items() if size == 1))
    if 2 * len(dots) > len(largest_px):
        raise LabelsError(
            f"{name}: {len(dots)} of {len(largest_px)} objects are one pixel (first: {dots[0]}): "
            "expected filled objects, because points and markers cannot be trained on"
        )
    return dots


def open_all_pairs(
    items: Sequence[tuple[Any, Any]], *, options: ReadOptions | None = None
) -> list[AnnotatedStack]:
    """Open several images and their labels; each image is a group.

    Images that show nothing and labels without objects are left out, with a warning that names
    them. Raises LabelsError if none is left, and the other errors of `open_pairs`.
    """
    found: list[AnnotatedStack] = []
    left_out = []
    for image, labels in items:
        try:
            opened, name = _open_annotated(image, labels, "", "", options or ReadOptions())
            reason = "" if opened else f"{name}: {_NO_OBJECTS}"
        except IntensityError as error:
            opened, reason = [], str(error)
        found += opened
        if reason:
            left_out.append(reason)
            log.warning("left out: %s", reason)
    if not found and left_out:
        raise LabelsError(f"none of {len(left_out)} images can be trained on; {left_out[0]}")
    return found
