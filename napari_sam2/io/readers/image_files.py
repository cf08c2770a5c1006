"""Pictures: PNG, JPEG and BMP, one plane a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np

from napari_sam2.io.readers.lazy import check_file, lazily, reading
from napari_sam2.io.readers.opened import Content

_READER = "pillow"  # named, for imageio tries all others on a file that this one cannot read


def open_picture(path: Path) -> Content:
    """What a picture holds: y, x, and the samples of a colour image. Grey with alpha is grey."""
    planes = picture_planes(path)
    return Content(
        lazily(planes, str(path)),
        planes.axes,
        colour=len(planes.axes) == 3,
        name=path.stem,
        source=str(path),
    )


def picture_planes(path: Path) -> PicturePlanes:
    """The one plane of a picture; only its head is read."""
    check_file(path)
    with reading(f"{path}: cannot be read", f"a whole {path.suffix[1:].upper()} image"):
        found = imageio.improps(path, plugin=_READER)
        shape = found.shape[:2] if len(found.shape) == 3 and found.shape[2] < 3 else found.shape
        return PicturePlanes(
            str(path), tuple(int(length) for length in shape), np.dtype(found.dtype)
        )


@dataclass(frozen=True)
class PicturePlanes:
    """The one plane of a picture."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    lead: int = 0

    @property
    def axes(self) -> str:
        """y, x, and s where it has colours."""
        return "yxs"[: len(self.shape)]

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """All pixels; `index` is empty."""
        pixels = np.asarray(imageio.imread(self.path, plugin=_READER))
        return pixels[..., 0] if pixels.ndim > len(self.shape) else pixels
