"""What travels to the browser: one frame at 8 bit and its labels, both compressed.

The raw pixels stay in the kernel.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from napari_sam2.core.contrast import Contrast
from napari_sam2.core.stack import Video

MAX_PIXELS = 1024
"""Side of a picture at most: larger frames are shrunk by a whole factor for the screen, never for the model."""

_MIN_JPEG_PIXELS = 512 * 512  # pixels; smaller planes go as PNG, which loses nothing
_JPEG_QUALITY = 92
_ZLIB_LEVEL = 3  # label planes are mostly background: more effort saves next to nothing


@dataclass(frozen=True, eq=False)
class FrameEncoder:
    """How frames of a Video are shown.

    `shrink` is the whole factor by which a plane is made smaller; the last row and column of a
    shown plane may stand for fewer pixels than the others.
    """

    video: Video

    @cached_property
    def shrink(self) -> int:
        """1 where frames are shown pixel by pixel."""
        return -(-max(self.video.shape[1:]) // MAX_PIXELS)

    def get_contrast(self, channel: int | None) -> Contrast:
        """Where the sliders of a channel start: the video's own contrast for its channel, else one of that channel's."""
        if channel == self.video.channel:
            return self.video.contrast
        return Video.of(
            self.video.stack, along=self.video.along, channel=channel, at=dict(self.video.at)
        ).contrast

    def encode_image(
        self, frame: int, channel: int | None, contrast: tuple[float, float]
    ) -> dict[str, Any]:
        """``{"frame", "mime", "bytes"}``: the frame of one channel as 8-bit PNG, or JPEG where it is large."""
        grey = Contrast(*contrast).apply(self.video.read_raw_plane(frame, channel))
        picture = Image.fromarray(np.round(grey * 255).astype(np.uint8)).reduce(self.shrink)
        small = picture.width * picture.height <= _MIN_JPEG_PIXELS
        file = io.BytesIO()
        if small:
            picture.save(file, "PNG", compress_level=1)
        else:
            picture.save(file, "JPEG", quality=_JPEG_QUALITY)
        return {
            "frame": frame,
            "mime": "image/png" if small else "image/jpeg",
            "bytes": file.getvalue(),
        }

    def encode_labels(self, frame: int, plane: np.ndarray) -> dict[str, Any]:
        """``{"frame", "shape", "bits", "bytes"}``: (H, W) labels, little-endian whole numbers of 16 or 32 bits, zlib."""
        middle = self.shrink // 2
        shown = plane[middle :: self.shrink, middle :: self.shrink] if self.shrink > 1 else plane
        shown = np.ascontiguousarray(shown, dtype=plane.dtype.newbyteorder("<"))
        packed = zlib.compress(shown.tobytes(), _ZLIB_LEVEL)
        return {
            "frame": frame,
            "shape": list(shown.shape),
            "bits": shown.dtype.itemsize * 8,
            "bytes": packed,
        }
