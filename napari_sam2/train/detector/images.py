"""Crops of annotated images and stacks, zoomed so that objects have a chosen size."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from imageio.v3 import imread
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam2.core.protocols import WORKING_DIAMETER
from napari_sam2.detection.maps.intensities import scale_intensities
from napari_sam2.detection.maps.sizes import measure_sizes
from napari_sam2.models.network.detector import LARGEST, SMALLEST

Image = NDArray[np.uint8]
Labels = NDArray[np.uint16]

# How often a source is drawn. Sources of one kind of image share what that kind is worth.
SOURCE_WEIGHTS = {
    "nuclei fluorescence": 0.20,
    "nuclei H&E/colour": 0.07,
    "nuclei brightfield grey": 0.03,
    "EM neurites": 0.05,
    "bacteria": 0.18,
    "cardiac MRI LV": 0.01,
    "phase contrast mammalian cells": 0.12,
    "phase contrast yeast": 0.04,
    "phase contrast yeast time-lapse": 0.04,
    "3D nuclei organoid (confocal)": 0.03,
    "3D membrane organoid (confocal)": 0.05,
    "brightfield bacteria (E. coli)": 0.08,
    "quantitative phase mammalian cells (ptychography)": 0.06,
    "brightfield yeast in traps": 0.06,
    "SEM powder particles": 0.03,
    "phase/brightfield mother-machine bacteria": 0.02,
    "light-sheet intestinal organoid nuclei": 0.03,
    "light-sheet intestinal organoid membrane": 0.05,
    "EM axons": 0.02,
    "CT and MR organs": 0.02,
    "MR lesion (brain)": 0.005,
    "MR lesion (breast)": 0.005,
    "MR spinal cord (t2)": 0.005,
    "MR spinal cord (t2s)": 0.005,
}
# Groups kept aside for validation, of sources whose tables name no validation part.
_HELD_OUT_GROUPS = ("baby_prime95b_testA", "baby_mmB", "colicoords_ds2", "omni_e1t1_crop")
_TINY_SHARE, _TINY = 0.08, 3.5  # pixels
_SPREAD_SHARE, _USUAL_SPREAD = 0.32, 0.35  # the deviation of log(size)
_MOST_BEYOND = 1.6  # a crop looks at no more than so many times the plane's length
_WIDEST_WINDOW = 900  # px of the source image a crop may look at: keeps the loader fast


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with labels; (Y, X), (Y, X, 3) or, with `axis`, a stack (N, Y, X).

    `depth_ratio` is the spacing along z in pixels of y and x; None: planes are seen flat only.
    """

    image: Image
    labels: Labels
    kind: str
    group: str
    axis: str = ""
    depth_ratio: float | None = None
    diameter: float = field(init=False)

    def __post_init__(self) -> None:
        planes = self.labels if self.labels.ndim == 3 else self.labels[None]
        sizes = np.concatenate([measure_sizes(plane) for plane in planes])
        sizes = sizes[sizes > 0]
        object.__setattr__(self, "diameter", float(np.median(sizes)) if sizes.size else 24.0)


def load_images(folder: Path, split: str) -> list[AnnotatedImage]:
    """Annotated images of the training folder: `split` "train" or "val", cut by group."""
    rows = []
    for name in ("manifest.csv", "more.csv"):
        with (folder / name).open() as file:
            rows += list(csv.DictReader(file))
    images = []
    for row in rows:
        held_out = row["split"] == "val" or row["group"] in _HELD_OUT_GROUPS
        if held_out == (split == "val"):
            images.append(_load_image(folder / row["file"], row))
    return images


def _load_image(path: Path, row: dict[str, str]) -> AnnotatedImage:
    with np.load(path) as arrays:
        spacing = arrays.get("spacing")
        return AnnotatedImage(
            image=arrays["image"],
            labels=arrays["labels"].astype(np.uint16),
            kind=row["modality"],
            group=row["group"],
            axis=row.get("axis") or "",
            depth_ratio=float(spacing[0] / spacing[-1]) if spacing is not None else None,
        )


def load_extra_images(folder: Path) -> list[AnnotatedImage]:
    """The parts of the evaluation data that may be trained on: three images of axons, two scans."""
    images = []
    axons = folder / "em_axons_2d"
    for path in sorted(axons.glob("sub-*/**/*_SEM.png"))[:3]:
        mask = next(axons.rglob(f"{path.stem}_seg-axon-manual.png"))
        labels, _ = ndi.label(imread(mask) > 127)
        images.append(
            AnnotatedImage(_to_bytes(imread(path)), labels.astype(np.uint16), "EM axons", path.stem)
        )
    organs = folder / "medical_ct_mr_organs"
    for name, labels_name in (("ct_sm", "seg_fast"), ("mr_sm", "seg_mr")):
        scan = _read_volume(organs / f"example_{name}.nii.gz")
        organ_labels = _read_volume(organs / f"example_{labels_name}.nii.gz")
        if name == "ct_sm":
            scan = np.clip(scan, -200, 300)  # soft tissue, as a radiologist looks at it
        kind = "CT and MR organs"
        images.append(
            AnnotatedImage(_to_bytes(scan), organ_labels.astype(np.uint16), kind, name, "z", 1.0)
        )
    return images


def _read_volume(path: Path) -> NDArray[np.float32]:
    """(Z, Y, X) of a NIfTI file."""
    import nibabel  # of an extra; fine-tuning does without

    image = cast(nibabel.Nifti1Image, nibabel.load(path))
    return np.ascontiguousarray(np.asarray(image.dataobj, np.float32).T)


def _to_bytes(image: NDArray[Any]) -> Image:
    grey = np.asarray(image[..., 0] if image.ndim == 3 and image.shape[-1] < 5 else image, float)
    low, high = np.percentile(grey, [0.1, 99.9])
    return np.asarray(np.rint(255 * np.clip((grey - low) / (high - low), 0, 1)), np.uint8)


class ImageCrops:
    """Draws crops from annotated images, each kind as often as `weights` says.

    Parameters
    ----------
    side
        Height and width of a crop in pixels.
    """

    def __init__(
        self, images: Iterable[AnnotatedImage], side: int, weights: dict[str, float] | None = None
    ) -> None:
        self._by_kind: dict[str, list[AnnotatedImage]] = {}
        for image in images:
            self._by_kind.setdefault(image.kind, []).append(image)
        self.kinds = sorted(self._by_kind)
        shares = np.array([(weights or SOURCE_WEIGHTS).get(kind, 0.02) for kind in self.kinds])
        self._shares = shares / shares.sum()
        self._side = side

    def draw(
        self, rng: np.random.Generator, kind: str | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """A grey crop in 0..1 and its labels 0..n, both (side, side)."""
        kind = kind or str(rng.choice(self.kinds, p=self._shares))
        group = self._by_kind[kind]
        source = group[rng.integers(len(group))]
        plane, labels, stretch = _choose_plane(source, rng)
        extent = max(labels.shape[0] * stretch, labels.shape[1])
        zoom = _choose_zoom(source.diameter, self._side, extent, rng)
        return cut_crop(plane, labels, self._side, zoom, rng, stretch=stretch)


def _choose_plane(source: AnnotatedImage, rng: np.random.Generator) -> tuple[Image, Labels, float]:
    """A plane of the source, its labels, and how many times rows are farther apart than columns."""
    if source.labels.ndim == 2:
        return source.image, source.labels, 1.0
    sideways = source.axis == "z" and source.depth_ratio is not None and rng.random() < 0.4
    axis = int(rng.integers(1, 3)) if sideways else 0
    for _ in range(20):  # most stacks hold planes without any object
        index = int(rng.integers(source.labels.shape[axis]))
        labels = np.asarray(source.labels.take(index, axis))
        if labels.any():
            break
    stretch = source.depth_ratio if sideways and source.depth_ratio else 1.0
    return np.asarray(source.image.take(index, axis)), labels, stretch


def draw_size(rng: np.random.Generator) -> float:
    """Pixels of a typical object in a crop: mostly about the size that the detector works at.

    A part is spread over all sizes, because the detector must tell the size of what it sees; a
    tenth is smaller than the range, so that blocks of objects are no objects.
    """
    chance = rng.random()
    if chance < _TINY_SHARE:
        return float(np.exp(rng.uniform(np.log(_TINY), np.log(SMALLEST))))
    if chance < _TINY_SHARE + _SPREAD_SHARE:
        return float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
    size = WORKING_DIAMETER * np.exp(rng.normal(0, _USUAL_SPREAD))
    return float(np.clip(size, SMALLEST, LARGEST))


def _choose_zoom(diameter: float, side: int, extent: float, rng: np.random.Generator) -> float:
    """Pixels of the crop per pixel of a plane that is `extent` px long."""
    target = draw_size(rng)
    least = side / min(_WIDEST_WINDOW, _MOST_BEYOND * extent)
    return float(np.clip(target / diameter, min(least, 2.0), 4.0))


def cut_crop(
    plane: Image,
    labels: Labels,
    side: int,
    zoom: float,
    rng: np.random.Generator,
    *,
    stretch: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A turned, stretched and zoomed window around some object, as grey in 0..1 and labels 0..n.

    Parameters
    ----------
    plane
        (Y, X) or (Y, X, 3).
    zoom
        Pixels of the crop per pixel of the plane's columns.
    stretch
        Rows of the plane are so many columns apart.
    """
    half = side / 2
    matrix = _draw_matrix(zoom, stretch, rng)  # from crop to plane coordinates
    centre = _draw_centre(labels, matrix, half, rng)
    reach = np.abs(matrix) @ np.array([half, half]) + 2
    low = np.floor(centre - reach).astype(int)
    high = np.ceil(centre + reach).astype(int) + 1
    fill_border = rng.random() < 0.25
    window = _cut_window(to_grey(plane, rng), low, high, fill_border, rng)
    window_labels = _cut_window(labels, low, high, fill_border, rng, is_labels=True)
    if zoom < 0.7:
        window = ndi.gaussian_filter(window, 0.4 / zoom / np.array([stretch, 1.0]))
    offset = centre - low - matrix @ np.array([half, half])
    shape = (side, side)
    grey = ndi.affine_transform(window, matrix, offset, shape, order=1, mode="nearest")
    found = ndi.affine_transform(window_labels, matrix, offset, shape, order=0, mode="nearest")
    return normalise(grey, rng), relabel(found.astype(np.int32))


def _draw_matrix(zoom: float, stretch: float, rng: np.random.Generator) -> NDArray[np.float64]:
    quarter = rng.integers(4) * np.pi / 2
    angle = quarter + (rng.uniform(-np.pi / 4, np.pi / 4) if rng.random() < 0.5 else 0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.exp(rng.uniform(-0.15, 0.15))
    scale = np.diag([squeeze / zoom, 1 / squeeze / zoom])
    mirror = np.diag([1.0, rng.choice([-1.0, 1.0])])
    return np.asarray(np.diag([1 / stretch, 1.0]) @ turn @ scale @ mirror)


def _draw_centre(
    labels: Labels, matrix: NDArray[np.float64], half: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A point around an object, moved so that the window lies in the plane as far as it can."""
    size = np.array(labels.shape, float)
    y, x = np.nonzero(labels[:: max(1, labels.shape[0] // 128), :: max(1, labels.shape[1] // 128)])
    if y.size and rng.random() < 0.85:
        index = rng.integers(y.size)
        steps = np.maximum(1, np.array(labels.shape) // 128)
        centre = np.array([y[index], x[index]]) * steps + matrix @ rng.uniform(-half, half, 2) / 2
    else:
        centre = rng.uniform(0, size)
    reach = np.abs(matrix) @ np.array([half, half])
    inner = np.minimum(reach, size / 2)
    return np.asarray(np.clip(centre, inner, size - inner))


def _cut_window(
    plane: NDArray[np.generic],
    low: NDArray[np.int_],
    high: NDArray[np.int_],
    fill_border: bool,
    rng: np.random.Generator,
    *,
    is_labels: bool = False,
) -> NDArray[np.float32]:
    """The part from `low` to `high`, mirrored or filled with one value beyond the plane."""
    stop = np.minimum(high, plane.shape)
    start = np.maximum(low, 0)
    part = np.asarray(plane[start[0] : stop[0], start[1] : stop[1]], np.float32)
    margins = tuple(zip(start - low, high - stop, strict=True))
    if not any(before or after for before, after in margins):
        return part
    if not fill_border:
        return np.pad(part, margins, mode="symmetric")
    value = 0 if is_labels else rng.choice([0.0, float(np.median(part)), rng.uniform(0, 255)])
    return np.pad(part, margins, constant_values=value)


def to_grey(plane: Image, rng: np.random.Generator) -> NDArray[np.float32]:
    """(Y, X) of (Y, X) or (Y, X, 3), colours mixed at random."""
    if plane.ndim == 2:
        return plane.astype(np.float32)
    mix = rng.dirichlet([1.5] * plane.shape[-1]).astype(np.float32)
    return np.asarray(plane.astype(np.float32) @ mix)


def normalise(grey: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Between a low and a high percentile, both somewhat at random, to 0..1."""
    low, high = np.percentile(grey[::2, ::2], [rng.uniform(0, 2), rng.uniform(99, 100)])
    if high - low < 4:  # an almost empty crop must not be blown up to full contrast
        middle = (low + high) / 2
        low, high = middle - rng.uniform(2, 30), middle + rng.uniform(2, 30)
    return scale_intensities(grey, low, high)


def relabel(labels: NDArray[np.integer], least: int = 6) -> NDArray[np.int32]:
    """Labels numbered 1..n without gaps; objects of fewer than `least` pixels are dropped."""
    areas = np.bincount(labels.ravel())
    keep = areas >= least
    keep[0] = False
    numbers = np.zeros(areas.size, np.int32)
    numbers[keep] = np.arange(1, int(keep.sum()) + 1)
    return np.asarray(numbers[labels])
