"""The learned detector on sets it was not trained on: F1 at IoU 0.5, counts, recall of boxes.

    python -m benchmarks.accuracy.detector WEIGHTS --data ../shared/data [--csv FILE] [--only SET]

Each set is measured with the scale that the detector finds and with the true one.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile
import torch
from imageio.v3 import imread
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam2.core.protocols import WORKING_DIAMETER, ObjectMapModel
from napari_sam2.detection.maps.instances import segment_plane
from napari_sam2.detection.maps.intensities import PreparedPlane, normalise_image
from napari_sam2.detection.maps.planes import Steps
from napari_sam2.detection.maps.size_search import estimate_diameter
from napari_sam2.detection.maps.sizes import measure_sizes
from napari_sam2.detection.maps.volumes import segment_volume
from napari_sam2.models.network.object_maps import ObjectMapPredictor
from napari_sam2.models.weights.files import compute_sha256
from napari_sam2.train.detector.training import load_weights
from napari_sam2.train.detector.validation import count_matches

Labels = NDArray[np.integer]
_COLUMNS = ("set", "true", "found", "f1", "found_true_scale", "f1_true_scale", "diameters", "s")


@dataclass(frozen=True)
class Plane:
    """(Y, X) image in 0..1, and its labels, its boxes or only its count of objects.

    `boxes` are rows of y0, x0, y1, x1.
    """

    image: NDArray[np.float32]
    labels: Labels | None = None
    boxes: NDArray[np.float64] | None = None
    count: int | None = None


@dataclass(frozen=True)
class Volume:
    """(Z, Y, X) image in 0..1 with labels; planes are `depth_ratio` pixels apart."""

    image: NDArray[np.float32]
    labels: Labels
    depth_ratio: float


def read_stardist(data: Path) -> list[Plane]:
    """125 nuclei in 2D."""
    folder = data / "zstack_and_2d_stardist"
    return [_read_pair(folder / "img2d.tif", folder / "mask2d.tif")]


def read_hela(data: Path, frame: int) -> list[Plane]:
    """A frame of HeLa nuclei."""
    folder = data / "timelapse_hela_nuclei"
    return [_read_pair(folder / "Fluo_Hela_02_img.tif", folder / "Fluo_Hela_02_ERR_SEG.tif", frame)]


def read_laptrack(data: Path) -> list[Plane]:
    """The first of six frames of nuclei."""
    folder = data / "timelapse_small_laptrack" / "napari_interactive_fix_data"
    return [_read_pair(folder / "example_images.tif", folder / "example_label.tif", 0)]


def read_cells3d_slice(data: Path) -> list[Plane]:
    """One slice of a stack of nuclei."""
    folder = data / "zstack_nuclei_cells3d"
    return [_read_pair(folder / "nuclei.tif", folder / "nuclei_label.tif", 30)]


def read_maize(data: Path) -> list[Plane]:
    """460 cells with bright walls, of very different size."""
    folder = data / "plant_maize_2d"
    return [_read_pair(folder / "maize_clsm.tif", folder / "maize_clsm_labels.tif")]


def read_ecoli(data: Path, count: int) -> list[Plane]:
    """The first frame with at least so many cells."""
    images = tifffile.imread(data / "timelapse_ecoli" / "img.tif")
    masks = tifffile.imread(data / "timelapse_ecoli" / "mask.tif")
    counts = [len(np.unique(mask)) - 1 for mask in masks]
    frame = next(i for i, n in enumerate(counts) if n >= count)
    return [Plane(normalise_image(images[frame]), masks[frame])]


def read_ecoli_movie(data: Path) -> list[Plane]:
    """Every third frame."""
    images = tifffile.imread(data / "timelapse_ecoli" / "img.tif")[::3]
    masks = tifffile.imread(data / "timelapse_ecoli" / "mask.tif")[::3]
    return [Plane(normalise_image(i), m) for i, m in zip(images, masks, strict=True)]


def read_axons(data: Path) -> list[Plane]:
    """The two of five that may not be trained on."""
    folder = data / "em_axons_2d"
    planes = []
    for path in sorted(folder.rglob("*data11*_SEM.png")):
        mask = next(folder.rglob(f"{path.stem}_seg-axon-manual.png"))
        labels, _ = ndi.label(imread(mask) > 127)
        planes.append(Plane(normalise_image(imread(path)), labels))
    return planes


def read_vgg(data: Path) -> list[Plane]:
    """20 synthetic images with a count each."""
    folder = data / "counting_vgg_cells"
    rows = list(csv.DictReader((folder / "counts.csv").open()))
    return [
        Plane(normalise_image(imread(folder / "images" / row["file"])), count=int(row["n_cells"]))
        for row in rows
    ]


def read_bccd(data: Path) -> list[Plane]:
    """Red and white cells that have a box; platelets are left out."""
    folder = data / "counting_bccd"
    planes = []
    for row in csv.DictReader((folder / "counts.csv").open()):
        tree = ElementTree.parse(folder / "Annotations" / f"{Path(row['file']).stem}.xml")
        boxes = []
        for item in tree.iter("object"):
            if item.findtext("name") != "Platelets":
                corners = (item.findtext(f"bndbox/{k}") for k in ("ymin", "xmin", "ymax", "xmax"))
                boxes.append([float(c or 0) for c in corners])
        image = normalise_image(imread(folder / "JPEGImages" / row["file"]))
        planes.append(Plane(image, boxes=np.array(boxes)))
    return planes


def read_cells3d(data: Path) -> Volume:
    """20 nuclei in 3D."""
    folder = data / "zstack_nuclei_cells3d"
    image = normalise_image(tifffile.imread(folder / "nuclei.tif"))
    return Volume(image, tifffile.imread(folder / "nuclei_label.tif"), 0.29 / 0.26)


def read_stardist_volume(data: Path) -> Volume:
    """51 nuclei in 3D; planes are two pixels apart."""
    folder = data / "zstack_and_2d_stardist"
    image = normalise_image(tifffile.imread(folder / "img3d.tif"))
    return Volume(image, tifffile.imread(folder / "mask3d.tif"), 2.0)


PLANES: dict[str, Callable[[Path], list[Plane]]] = {
    "stardist 2D": read_stardist,
    "hela 0": lambda data: read_hela(data, 0),
    "hela 11": lambda data: read_hela(data, 11),
    "laptrack 0": read_laptrack,
    "cells3d slice 30": read_cells3d_slice,
    "maize": read_maize,
    "ecoli 2": lambda data: read_ecoli(data, 2),
    "ecoli 4": lambda data: read_ecoli(data, 4),
    "ecoli 17": lambda data: read_ecoli(data, 17),
    "ecoli all": read_ecoli_movie,
    "axons (2)": read_axons,
    "vgg (20)": read_vgg,
    "bccd (40)": read_bccd,
}
_MOVIES = ("ecoli all",)
VOLUMES: dict[str, Callable[[Path], Volume]] = {
    "cells3d 3D": read_cells3d,
    "stardist 3D": read_stardist_volume,
}


def measure_planes(
    model: ObjectMapModel, planes: list[Plane], *, as_movie: bool = False
) -> dict[str, object]:
    """One row of the table: totals over the planes; the frames of a movie have one scale."""
    own, true_scale, diameters = np.zeros(3, int), np.zeros(3, int), []
    shared = estimate_diameter(model, [plane.image for plane in planes]) if as_movie else None
    for plane in planes:
        guess = shared or estimate_diameter(model, [plane.image]) or WORKING_DIAMETER
        own += _score(plane, _segment(model, plane, guess))
        truth = _measure_diameter(plane)
        if truth:
            true_scale += _score(plane, _segment(model, plane, truth))
        diameters.append(f"{guess:.0f}/{truth:.0f}" if truth else f"{guess:.0f}")
    has_objects = planes[0].count is None
    row = {"true": own[1], "found": own[2], "diameters": " ".join(diameters[:4])}
    if has_objects:
        row["f1"] = _compute_score(own, recall=planes[0].boxes is not None)
        row["found_true_scale"] = true_scale[2]
        row["f1_true_scale"] = _compute_score(true_scale, recall=planes[0].boxes is not None)
    return row


def measure_volume(model: ObjectMapModel, volume: Volume) -> dict[str, object]:
    """One row of the table; scale found on the middle planes, and true."""
    planes = volume.image[len(volume.image) // 3 : -len(volume.image) // 3 : 5]
    guess = estimate_diameter(model, list(planes)) or WORKING_DIAMETER
    voxels = np.bincount(volume.labels.ravel())[1:]
    sizes = voxels[voxels > 0] * volume.depth_ratio
    truth = float(np.median(2 * (3 * sizes / 4 / np.pi) ** (1 / 3)))
    scores = []
    depth, height, width = volume.image.shape
    for diameter in (guess, truth):
        steps = segment_volume(
            model,
            lambda frame: PreparedPlane(volume.image[frame]),
            (depth, height, width),
            depth_ratio=volume.depth_ratio,
            diameter=diameter,
        )
        objects = Steps(steps).finish()
        found = np.stack([objects.draw_plane(frame) for frame in range(depth)])
        scores.append(count_matches(volume.labels, found))
    return {
        "true": scores[0][1],
        "found": scores[0][2],
        "f1": _compute_score(scores[0]),
        "found_true_scale": scores[1][2],
        "f1_true_scale": _compute_score(scores[1]),
        "diameters": f"{guess:.0f}/{truth:.0f}",
    }


def measure_sets(
    model: ObjectMapModel, data: Path, only: list[str] | None = None
) -> Iterator[dict[str, object]]:
    """Rows of the table, one a set, as they are ready."""
    for name in (*PLANES, *VOLUMES):
        if only and not any(part in name for part in only):
            continue
        start = time.monotonic()
        if name in PLANES:
            row = measure_planes(model, PLANES[name](data), as_movie=name in _MOVIES)
        else:
            row = measure_volume(model, VOLUMES[name](data))
        yield {"set": name, **row, "s": f"{time.monotonic() - start:.0f}"}


def _read_pair(image: Path, labels: Path, frame: int | None = None) -> Plane:
    grey, found = tifffile.imread(image), tifffile.imread(labels)
    if frame is not None:
        grey, found = grey[frame], found[frame]
    return Plane(normalise_image(grey), found)


def _segment(model: ObjectMapModel, plane: Plane, diameter: float) -> Labels:
    return Steps(segment_plane(model, PreparedPlane(plane.image), diameter)).finish().labels


def _measure_diameter(plane: Plane) -> float | None:
    if plane.labels is not None:
        sizes = measure_sizes(plane.labels)
        return float(np.median(sizes[sizes > 0]))
    if plane.boxes is not None and len(plane.boxes):
        return float(np.median((plane.boxes[:, 2:] - plane.boxes[:, :2]).mean(1)))
    return None


def _score(plane: Plane, found: Labels) -> NDArray[np.int_]:
    """Matches, true objects, found objects."""
    if plane.labels is not None:
        return count_matches(plane.labels, found)
    total = len(np.unique(found)) - 1
    if plane.boxes is None:
        return np.array([0, plane.count, total])
    matched = 0
    corners = [(s[0].start, s[1].start, s[0].stop, s[1].stop) for s in ndi.find_objects(found) if s]
    boxes = np.array(corners, float).reshape(-1, 4)
    for box in plane.boxes:
        low, high = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
        common = np.prod(np.clip(high - low, 0, None), 1)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], 1) + np.prod(box[2:] - box[:2]) - common
        matched += bool((common / area > 0.5).any())
    return np.array([matched, len(plane.boxes), total])


def _compute_score(counts: NDArray[np.int_], *, recall: bool = False) -> str:
    below = counts[1] if recall else (counts[1] + counts[2]) / 2
    return f"{counts[0] / max(1, below):.2f}"


def main() -> None:
    """Print the table, and write it as CSV if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = ObjectMapPredictor.of(load_weights(given.weights), compute_sha256(given.weights))
    rows = []
    print(" | ".join(_COLUMNS), flush=True)
    for row in measure_sets(model, given.data, given.only):
        rows.append(row)
        print(" | ".join(str(row.get(column, "")) for column in _COLUMNS), flush=True)
    if given.csv:
        with given.csv.open("w") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
