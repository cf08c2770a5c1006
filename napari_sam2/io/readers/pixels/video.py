"""Pixel formats of movies: their depth, and arrays that keep it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam2.core.errors import FileError

_PLANES_OF_RGB = (2, 0, 1)  # planar formats have the order green, blue, red
_UNREADABLE = ("bayer", "xyz")


@dataclass(frozen=True)
class VideoPixels:
    """How frames of one pixel format become arrays that keep its depth.

    Parameters
    ----------
    dtype
        Type of the arrays.
    grey
        Whether the format has no colours: arrays are (H, W), else (H, W, 3).
    target
        The format that frames are converted to; "" if their planes are the pixels.
    """

    dtype: np.dtype[Any]
    grey: bool
    target: str = ""

    @classmethod
    def of(cls, pixel_format: Any) -> VideoPixels:
        """The arrays of a format of PyAV; FileError if they would lose depth or meaning."""
        name, components = str(pixel_format.name), pixel_format.components
        bits = max(component.bits for component in components)
        coloured = pixel_format.is_rgb or pixel_format.has_palette or len(components) > 2
        if name.startswith(_UNREADABLE) or (bits > 16 and not name.startswith("grayf32")):
            raise FileError(
                f"the movie has the pixel format {name}: expected grey, YUV or RGB of up to 16 "
                "bits; convert it to one of them"
            )
        if bits <= 8:
            return cls(np.dtype(np.uint8), not coloured, "rgb24" if coloured else "gray")
        if name.startswith("grayf32"):
            return cls(np.dtype(np.float32), grey=True)
        if coloured:
            target = "" if name.startswith("gbrp") else "rgb48le"
            return cls(np.dtype(np.uint16), grey=False, target=target)
        return cls(np.dtype(np.uint16), grey=True, target="gray16le" if name[0] == "y" else "")

    def read(self, frame: Any) -> np.ndarray:
        """The pixels of a frame of PyAV, (H, W) or (H, W, 3)."""
        if self.target:
            pixels = frame.to_ndarray(format=self.target)
        elif self.grey:
            pixels = self._read_plane(frame, 0)
        else:
            pixels = np.stack([self._read_plane(frame, n) for n in _PLANES_OF_RGB], axis=-1)
        return np.asarray(pixels, dtype=self.dtype)

    def _read_plane(self, frame: Any, number: int) -> np.ndarray:
        """The (H, W) samples of a plane, whose rows may be padded."""
        plane = frame.planes[number]
        big_endian = frame.format.name.endswith("be")
        rows = np.frombuffer(plane, dtype=self.dtype.newbyteorder(">" if big_endian else "<"))
        rows = rows.reshape(plane.height, plane.line_size // self.dtype.itemsize)
        return rows[:, : plane.width].astype(self.dtype)
