"""The learned detector on sets it was not trained on: F1, SA50, mSA, counts, recall of boxes.

    python -m benchmarks.accuracy.detector --data ../shared/data [--weights FILE] [--only SET]

Each set is measured with the size of objects that the detector finds and with the true one, and by
the classical detector. SA50 is TP / (TP + FP + FN) at an IoU of 0.5, mSA its mean over IoUs of
0.5 to 0.95 in steps of 0.05, both the mean over frames; F1 is of all objects together.
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
from skimage.segmentation import relabel_sequential

from napari_sam2.core.prompt import MaskPrompt
from napari_sam2.core.protocols import Detector, ObjectMapModel
from napari_sam2.core.stack import Spacing, Stack, Video
from napari_sam2.detection.classical import ClassicalDetector
from napari_sam2.detection.learned import LearnedDetector
from napari_sam2.detection.maps.instances import measure_diameters
from napari_sam2.detection.maps.sizes import measure_sizes
from napari_sam2.detection.options import DetectionOptions
from napari_sam2.measurement.label_overlap import LabelOverlap
from napari_sam2.models.load import load_detector
from napari_sam2.models.network.object_maps import ObjectMapPredictor
from napari_sam2.models.weights.files import compute_sha256
from napari_sam2.train.detector.training import load_weights
from napari_sam2.train.detector.validation import count_matches

Labels = NDArray[np.integer]
_COLUMNS = (
    *("set", "frames", "true", "found", "f1", "sa50", "msa", "msa_spread", "f1_true_size"),
    *("f1_classical", "found_classical", "sizes", "s"),
)
_THRESHOLDS = np.arange(0.5, 0.96, 0.05)  # of the IoU, for mSA


@dataclass(frozen=True)
class Plane:
    """(Y, X) image, and its labels, its boxes or only its count of objects.

    `boxes` are rows of y0, x0, y1, x1.
    """

    image: NDArray[np.generic]
    labels: Labels | None = None
    boxes: NDArray[np.float64] | None = None
    count: int | None = None


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
    return [Plane(images[frame], masks[frame])]


def read_ecoli_movie(data: Path) -> list[Plane]:
    """Every third frame."""
    images = tifffile.imread(data / "timelapse_ecoli" / "img.tif")[::3]
    masks = tifffile.imread(data / "timelapse_ecoli" / "mask.tif")[::3]
    return [Plane(i, m) for i, m in zip(images, masks, strict=True)]


def read_axons(data: Path) -> list[Plane]:
    """The two of five that may not be trained on."""
    folder = data / "em_axons_2d"
    planes = []
    for path in sorted(folder.rglob("*data11*_SEM.png")):
        mask = next(folder.rglob(f"{path.stem}_seg-axon-manual.png"))
        labels, _ = ndi.label(imread(mask) > 127)
        planes.append(Plane(_to_grey(imread(path)), labels))
    return planes


def read_vgg(data: Path) -> list[Plane]:
    """20 synthetic images with a count each."""
    folder = data / "counting_vgg_cells"
    rows = list(csv.DictReader((folder / "counts.csv").open()))
    return [
        Plane(_to_grey(imread(folder / "images" / row["file"])), count=int(row["n_cells"]))
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
        image = _to_grey(imread(folder / "JPEGImages" / row["file"]))
        planes.append(Plane(image, boxes=np.array(boxes)))
    return planes


def read_cells3d(data: Path) -> list[Plane]:
    """20 nuclei in 3D."""
    folder = data / "zstack_nuclei_cells3d"
    return _read_planes(folder / "nuclei.tif", folder / "nuclei_label.tif")


def read_stardist_volume(data: Path) -> list[Plane]:
    """51 nuclei in 3D; planes are two pixels apart."""
    folder = data / "zstack_and_2d_stardist"
    return _read_planes(folder / "img3d.tif", folder / "mask3d.tif")


def _read_planes(image: Path, labels: Path) -> list[Plane]:
    pairs = zip(tifffile.imread(image), tifffile.imread(labels), strict=True)
    return [Plane(plane, found) for plane, found in pairs]


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
_VOLUMES: dict[str, tuple[Callable[[Path], list[Plane]], float]] = {
    "cells3d 3D": (read_cells3d, 0.29 / 0.26),
    "stardist 3D": (read_stardist_volume, 2.0),
}
"""With the spacing of their planes in pixels."""
_MOVIES = ("ecoli all",)  # whose frames have one size of objects; others are single images


def measure_sets(
    maps: ObjectMapModel, data: Path, only: list[str] | None = None
) -> Iterator[dict[str, object]]:
    """Rows of the table, one a set, as they are ready."""
    for name in (*PLANES, *_VOLUMES):
        if only and not any(part in name for part in only):
            continue
        start = time.monotonic()
        if name in PLANES:
            planes = PLANES[name](data)
            videos = [planes] if name in _MOVIES else [[plane] for plane in planes]
            row = measure_planes(maps, videos)
        else:
            read, depth_ratio = _VOLUMES[name]
            row = measure_volume(maps, read(data), depth_ratio)
        yield {"set": name, **row, "s": f"{time.monotonic() - start:.0f}"}


def measure_planes(maps: ObjectMapModel, videos: list[list[Plane]]) -> dict[str, object]:
    """A row of the table: totals over all frames of the videos."""
    own, true_size, classical = np.zeros(3, int), np.zeros(3, int), np.zeros(3, int)
    accuracies, sizes = [], []
    for planes in videos:
        video = Stack(np.stack([plane.image for plane in planes]), "tyx").as_video("t")
        detector = LearnedDetector(DetectionOptions(maps=maps))
        truth = _measure_size(planes)
        with_truth = LearnedDetector(DetectionOptions(maps=maps, diameter_px=truth))
        for frame, plane in enumerate(planes):
            found = detector.get_frame(video, frame).labels
            own += _score(plane, found)
            classical += _score(plane, _draw(ClassicalDetector(), video, frame))
            if plane.labels is not None:
                accuracies.append(measure_accuracies(plane.labels, found))
            if truth:
                true_size += _score(plane, with_truth.get_frame(video, frame).labels)
        scale = detector.get_scale(video)
        sizes.append(f"{scale.diameter_px if scale else 0:.0f}/{truth or 0:.0f}")
    return _make_row(videos[0][0], own, true_size, classical, accuracies, sizes)


def measure_volume(
    maps: ObjectMapModel, planes: list[Plane], depth_ratio: float
) -> dict[str, object]:
    """A row of the table, with objects as volumes."""
    volume = np.stack([plane.image for plane in planes])
    labels = np.stack([plane.labels for plane in planes if plane.labels is not None])
    video = Stack(volume, "zyx", spacing=Spacing(z_um=depth_ratio, y_um=1, x_um=1)).as_video("z")
    truth = float(np.median(measure_diameters(relabel_sequential(labels)[0])))
    found = []
    detector = LearnedDetector(DetectionOptions(maps=maps))
    with_truth = LearnedDetector(DetectionOptions(maps=maps, diameter_px=truth))
    for each in (detector, with_truth, ClassicalDetector()):
        draw = each.detect_volume(video)
        if draw is None:
            raise ValueError(f"{each.name} has found no volume")
        found.append(np.stack([draw(frame) for frame in range(len(planes))]))
    scores = [count_matches(labels, each) for each in found]
    scale = detector.get_scale(video)
    size = f"{scale.diameter_px if scale else 0:.0f}/{truth:.0f}"
    accuracy = measure_accuracies(labels, found[0])
    row = _make_row(planes[0], scores[0], scores[1], scores[2], [accuracy], [size])
    return {**row, "frames": 1}


def measure_accuracies(truth: Labels, found: Labels) -> NDArray[np.float64]:
    """TP / (TP + FP + FN) at each of `_THRESHOLDS`."""
    overlap = LabelOverlap.of(truth, found)
    matched = (overlap.iou > _THRESHOLDS[:, None]).sum(1)
    return np.asarray(matched / np.maximum(1, overlap.first.size + overlap.second.size - matched))


def _make_row(
    plane: Plane,
    own: NDArray[np.int_],
    true_size: NDArray[np.int_],
    classical: NDArray[np.int_],
    accuracies: list[NDArray[np.float64]],
    sizes: list[str],
) -> dict[str, object]:
    row: dict[str, object] = {"true": own[1], "found": own[2], "sizes": " ".join(sizes[:4])}
    row["found_classical"], row["frames"] = classical[2], max(len(accuracies), len(sizes))
    if plane.count is not None:
        return row
    recall = plane.boxes is not None
    row["f1"], row["f1_true_size"] = (_compute_score(c, recall=recall) for c in (own, true_size))
    row["f1_classical"] = _compute_score(classical, recall=recall)
    if accuracies:
        means = [float(each.mean()) for each in accuracies]
        row["sa50"] = f"{np.mean([each[0] for each in accuracies]):.2f}"
        row["msa"], row["msa_spread"] = f"{np.mean(means):.2f}", f"{np.std(means):.2f}"
    return row


def _draw(detector: Detector, video: Video, frame: int) -> Labels:
    """(Y, X) labels of the masks of a detector that knows no other way."""
    labels = np.zeros(video.shape[1:], np.int32)
    for number, prompt in enumerate(detector.detect(video, frame), start=1):
        if isinstance(prompt, MaskPrompt):
            labels[prompt.mask] = number
    return labels


def _to_grey(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """(Y, X) of (Y, X) or (Y, X, 3 or 4): the mean of the colours."""
    return np.asarray(image[..., :3], np.float32).mean(-1) if image.ndim == 3 else image


def _read_pair(image: Path, labels: Path, frame: int | None = None) -> Plane:
    grey, found = tifffile.imread(image), tifffile.imread(labels)
    if frame is not None:
        grey, found = grey[frame], found[frame]
    return Plane(grey, found)


def _measure_size(planes: list[Plane]) -> float | None:
    """Median size of the objects of all frames; None if their outlines are not known."""
    known = [measure_sizes(plane.labels) for plane in planes if plane.labels is not None]
    boxes = [plane.boxes for plane in planes if plane.boxes is not None and len(plane.boxes)]
    sizes = [each[each > 0] for each in known] + [(b[:, 2:] - b[:, :2]).mean(1) for b in boxes]
    return float(np.median(np.concatenate(sizes))) if sizes else None


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
    parser.add_argument("--weights", type=Path, help="safetensors; else the embedded detector")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    torch.set_num_threads(1)
    maps: ObjectMapModel = (
        ObjectMapPredictor.of(load_weights(given.weights), compute_sha256(given.weights))
        if given.weights
        else load_detector()
    )
    rows = []
    print(" | ".join(_COLUMNS), flush=True)
    for row in measure_sets(maps, given.data, given.only):
        rows.append(row)
        print(" | ".join(str(row.get(column, "")) for column in _COLUMNS), flush=True)
    if given.csv:
        with given.csv.open("w") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
