"""PNG, JPEG and BMP: one plane a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np

from napari_sam2.io.readers.files import check_file, convert_read_errors
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")

_PLUGIN = "pillow"  # named, because imageio otherwise tries all plugins on an unreadable file


def open_image_file(path: Path) -> OpenedImage:
    """Open a PNG, JPEG or BMP file: y, x, and s in a colour image. Grey with alpha becomes grey."""
    planes = open_image_file_planes(path)
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        planes.axes,
        rgb=len(planes.axes) == 3,
        name=path.stem,
        source=str(path),
    )


def open_image_file_planes(path: Path) -> ImageFilePlanes:
    """The single plane of an image file; reads only its header."""
    check_file(path)
    with convert_read_errors(f"{path}: cannot be read", f"a whole {path.suffix[1:].upper()} image"):
        properties = imageio.improps(path, plugin=_PLUGIN)
        shape = tuple(int(length) for length in properties.shape)
        if len(shape) == 3 and shape[2] < 3:  # grey and alpha
            shape = shape[:2]
        return ImageFilePlanes(str(path), shape, np.dtype(properties.dtype))


@dataclass(frozen=True)
class ImageFilePlanes:
    """The single plane of an image file."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int = 0

    @property
    def axes(self) -> str:
        """Either "yx", or "yxs" for a colour image."""
        return "yxs"[: len(self.shape)]

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """All pixels; `index` is empty."""
        pixels = np.asarray(imageio.imread(self.path, plugin=_PLUGIN))
        return pixels[..., 0] if pixels.ndim > len(self.shape) else pixels
