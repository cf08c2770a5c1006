"""Pictures: PNG, JPEG and BMP, one plane a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np

from napari_sam2.io.readers.lazy import check_file, convert_read_errors, make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage

_PLUGIN = "pillow"  # named, for imageio tries all others on a file that this one cannot read


def open_image_file(path: Path) -> OpenedImage:
    """What a picture holds: y, x, and the samples of a colour image. Grey with alpha is grey."""
    planes = open_image_file_planes(path)
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        planes.axes,
        rgb=len(planes.axes) == 3,
        name=path.stem,
        source=str(path),
    )


def open_image_file_planes(path: Path) -> ImageFilePlanes:
    """The one plane of a picture; only its head is read."""
    check_file(path)
    with convert_read_errors(f"{path}: cannot be read", f"a whole {path.suffix[1:].upper()} image"):
        found = imageio.improps(path, plugin=_PLUGIN)
        shape = found.shape[:2] if len(found.shape) == 3 and found.shape[2] < 3 else found.shape
        return ImageFilePlanes(
            str(path), tuple(int(length) for length in shape), np.dtype(found.dtype)
        )


@dataclass(frozen=True)
class ImageFilePlanes:
    """The one plane of a picture."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    n_leading: int = 0

    @property
    def axes(self) -> str:
        """y, x, and s where it has colours."""
        return "yxs"[: len(self.shape)]

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """All pixels; `index` is empty."""
        pixels = np.asarray(imageio.imread(self.path, plugin=_PLUGIN))
        return pixels[..., 0] if pixels.ndim > len(self.shape) else pixels
