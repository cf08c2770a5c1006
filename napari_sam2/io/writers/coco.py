"""COCO: one image a frame, one annotation an object and frame, run-length encoded masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.files.extras import EXPORT, import_extra
from napari_sam2.core.track import Track
from napari_sam2.io.tables import write_json

_DEFAULT_CATEGORY = "object"


def write_coco(
    labels: np.ndarray, path: Path, name: str = "", tracks: Sequence[Track] = ()
) -> None:
    """Write labels (frames, H, W) as COCO JSON.

    The `track_id` of an annotation is its label; the `frame` of an image counts from 0. `name` is
    the first part of the file names of images; `tracks` give the categories.
    """
    height, width = labels.shape[-2:]
    planes = labels.reshape(-1, height, width)
    names = {track.id: track.category for track in tracks if track.category}
    by_label = {
        int(label): names.get(int(label), _DEFAULT_CATEGORY) for label in np.unique(labels) if label
    }
    categories = sorted(set(by_label.values()))
    category_ids = {label: categories.index(name) + 1 for label, name in by_label.items()}
    images = [
        {
            "id": frame + 1,
            "file_name": f"{name or 'frame'}#{frame}",
            "height": height,
            "width": width,
            "frame": frame,
        }
        for frame in range(len(planes))
    ]
    content = {
        "images": images,
        "annotations": _make_annotations(planes, category_ids),
        "categories": [{"id": n, "name": name} for n, name in enumerate(categories, start=1)],
    }
    write_json(content, path)


def _make_annotations(planes: np.ndarray, category_ids: Mapping[int, int]) -> list[dict[str, Any]]:
    encode = import_extra("pycocotools.mask", EXPORT, "COCO").encode
    annotations: list[dict[str, Any]] = []
    for frame, plane in enumerate(planes):
        for label in np.unique(plane[plane > 0]):
            mask = plane == label
            runs = encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame + 1,
                    "track_id": int(label),
                    "category_id": category_ids[int(label)],
                    "segmentation": {
                        "size": list(plane.shape),
                        "counts": runs["counts"].decode("ascii"),
                    },
                    "area": int(mask.sum()),
                    "bbox": _compute_bounding_box(mask),
                    "iscrowd": 0,
                }
            )
    return annotations


def _compute_bounding_box(mask: np.ndarray) -> list[int]:
    """The box of a mask as COCO gives it: x, y, width, height."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    ]
