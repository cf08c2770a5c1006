"""Signs that a label image does not have one number for each object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.measure import label as label_pieces
from skimage.measure import regionprops_table

from napari_sam2.measurement.label_overlap import LabelOverlap
from napari_sam2.measurement.label_planes import LabelPlanes

_MIN_PIECE_SHARE = 0.1  # of the largest piece of a label; a smaller piece is a speck
_MAX_STEP_DIAMETERS = 1.5  # an object that overlaps nothing and is further away has moved too far
_MIN_DOUBTFUL = 2  # one object may have changed its place or be in pieces


@dataclass(frozen=True)
class LabelFaults:
    """How often labels of planes are not those of objects.

    Parameters
    ----------
    masks, in_pieces
        Pairs of a label and a frame, and those whose pixels are in several pieces that do not
        touch.
    values
        The number of different labels.
    kept, changed
        Objects that have the same label on the next frame, and those that have another one there,
        or whose label is elsewhere.
    """

    masks: int
    in_pieces: int
    values: int
    kept: int
    changed: int

    @classmethod
    def of(cls, planes: LabelPlanes) -> LabelFaults:
        """Read all planes once."""
        masks = in_pieces = kept = changed = 0
        values: set[int] = set()
        before: np.ndarray | None = None
        for plane in planes:
            labels, split = count_split_labels(plane)
            masks, in_pieces = masks + labels.size, in_pieces + split
            values.update(labels.tolist())
            if before is not None:
                more_kept, more_changed = count_kept_labels(before, plane)
                kept, changed = kept + more_kept, changed + more_changed
            before = plane
        return cls(masks, in_pieces, len(values), kept, changed)

    @property
    def is_semantic(self) -> bool:
        """Whether most labels are in pieces, as in a mask of 0 and 255."""
        return 2 * self.in_pieces > self.masks

    @property
    def is_renumbered(self) -> bool:
        """Whether most labels are other objects on the next frame."""
        return self.changed >= _MIN_DOUBTFUL and self.changed > self.kept

    def describe(self) -> tuple[str, ...]:
        """One sentence for each fault."""
        note = (
            f"{self.changed} of {self.changed + self.kept} labels are another object on the next "
            "frame: each label is taken as one object; if every frame was numbered anew, link the "
            'frames with `napari-sam2 measure --relabel linked` (relabel="linked")'
        )
        return (*self.describe_pieces(), *((note,) if self.is_renumbered else ()))

    def describe_pieces(self) -> tuple[str, ...]:
        """A sentence if most labels are in pieces."""
        note = (
            f"{self.in_pieces} of {self.masks} masks are in several pieces, with {self.values} "
            "different values: each value is taken as one object; if it is a mask of many objects, "
            "number its pieces with `napari-sam2 measure --relabel components` "
            '(relabel="components")'
        )
        return (note,) if self.is_semantic else ()


def count_split_labels(plane: np.ndarray) -> tuple[np.ndarray, int]:
    """The labels of an (H, W) plane, and how many of them are in pieces that do not touch.

    Specks beside a larger piece do not count.
    """
    pieces = label_pieces(plane, background=0, connectivity=2)
    sizes = np.bincount(pieces.ravel())[1:]
    if not sizes.size:
        return np.zeros(0, np.int64), 0
    first_pixels = np.unique(pieces, return_index=True)[1][-sizes.size :]
    labels, owner = np.unique(plane.ravel()[first_pixels], return_inverse=True)
    largest = np.zeros(labels.size, np.int64)
    np.maximum.at(largest, owner, sizes)
    whole = np.bincount(owner[sizes >= _MIN_PIECE_SHARE * largest[owner]], minlength=labels.size)
    return labels.astype(np.int64), int((whole > 1).sum())


def count_kept_labels(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Count the objects that keep their label on the next frame, and those that do not.

    An object keeps its label if it overlaps most with its own label there, or if it overlaps
    nothing and its label is near. Objects whose label ends do not count.
    """
    overlap = LabelOverlap.of(before, after)
    best = np.full(overlap.first.size, -1)
    for pair in np.argsort(overlap.shared_px, kind="stable"):  # the largest is written last
        best[overlap.first_index[pair]] = overlap.second_index[pair]
    kept = int(sum(overlap.second[best[best >= 0]] == overlap.first[best >= 0]))
    changed = int((best >= 0).sum()) - kept
    alone = np.intersect1d(overlap.first[best < 0], overlap.second)
    if alone.size:
        steps = np.hypot(*(_find_centroids(after, alone) - _find_centroids(before, alone)).T)
        areas = overlap.first_px[np.searchsorted(overlap.first, alone)]
        far = steps > _MAX_STEP_DIAMETERS * np.sqrt(4 * areas / np.pi)
        kept, changed = kept + int((~far).sum()), changed + int(far.sum())
    return kept, changed


def _find_centroids(plane: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, 2) centroids of some labels, ascending, that are on the plane."""
    codes = np.where(np.isin(plane, labels), np.searchsorted(labels, plane) + 1, 0)
    found = regionprops_table(codes, properties=("centroid",))
    return np.stack([found["centroid-0"], found["centroid-1"]], axis=1)
