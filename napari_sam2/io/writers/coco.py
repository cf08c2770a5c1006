"""COCO: one image a frame, one annotation an object and frame, masks run-length encoded by pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam2.core.track import Track
from napari_sam2.io.extras import EXPORT, import_extra
from napari_sam2.io.tables import write_json


def write_coco(
    labels: np.ndarray, path: Path, name: str = "", tracks: Sequence[Track] = ()
) -> None:
    """Labels (frames, H, W) as COCO JSON.

    `track_id` of an annotation is the label; `frame` of an image counts from 0.
    """
    encode = import_extra("pycocotools.mask", EXPORT, "COCO").encode
    categories = {track.id: track.category or "object" for track in tracks}
    known = sorted({categories.get(int(label), "object") for label in np.unique(labels) if label})
    numbers = {category: number for number, category in enumerate(known, start=1)}
    height, width = labels.shape[-2:]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame, plane in enumerate(labels.reshape(-1, height, width)):
        images.append(
            {
                "id": frame + 1,
                "file_name": f"{name or 'frame'}#{frame}",
                "height": height,
                "width": width,
                "frame": frame,
            }
        )
        for label in np.unique(plane[plane > 0]):
            mask = plane == label
            runs = encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame + 1,
                    "track_id": int(label),
                    "category_id": numbers[categories.get(int(label), "object")],
                    "segmentation": {
                        "size": [height, width],
                        "counts": runs["counts"].decode("ascii"),
                    },
                    "area": int(mask.sum()),
                    "bbox": _compute_bounding_box(mask),
                    "iscrowd": 0,
                }
            )
    kinds = [{"id": number, "name": category} for category, number in numbers.items()]
    write_json({"images": images, "annotations": annotations, "categories": kinds}, path)


def _compute_bounding_box(mask: np.ndarray) -> list[int]:
    """x, y, width, height, as COCO has them."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return [
        int(columns[0]),
        int(rows[0]),
        int(columns[-1] - columns[0] + 1),
        int(rows[-1] - rows[0] + 1),
    ]
