"""Encoding of one frame for the browser: an 8-bit image and its labels, both compressed.

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
"""Longest side of an image in the browser; larger frames are shrunk by a whole factor.

The model always sees the full frame.
"""

_MIN_JPEG_PIXELS = 512 * 512  # smaller images are sent as PNG, which is lossless
_JPEG_QUALITY = 92
_ZLIB_LEVEL = 3  # label planes are mostly background, so higher levels save nothing


@dataclass(frozen=True, eq=False)
class FrameEncoder:
    """Encodes frames of a video for the browser.

    If frames are shrunk, the last row and column of an image may cover fewer pixels than the
    others.
    """

    video: Video

    @cached_property
    def shrink(self) -> int:
        """Whole factor by which frames are shrunk; 1 if they are shown pixel by pixel."""
        return -(-max(self.video.shape[1:]) // MAX_PIXELS)

    def get_contrast(self, channel: int | None) -> Contrast:
        """Initial contrast of a channel; that of the video for the channel it uses."""
        if channel == self.video.channel:
            return self.video.contrast
        return Video.of(
            self.video.stack, along=self.video.along, channel=channel, at=dict(self.video.at)
        ).contrast

    def encode_image(
        self, frame: int, channel: int | None, contrast: tuple[float, float]
    ) -> dict[str, Any]:
        """``{"frame", "mime", "bytes"}``: one channel as 8-bit PNG, or JPEG if it is large."""
        normalized = Contrast(*contrast).apply(self.video.read_raw_plane(frame, channel))
        image = Image.fromarray(np.round(normalized * 255).astype(np.uint8)).reduce(self.shrink)
        small = image.width * image.height <= _MIN_JPEG_PIXELS
        file = io.BytesIO()
        if small:
            image.save(file, "PNG", compress_level=1)
        else:
            image.save(file, "JPEG", quality=_JPEG_QUALITY)
        return {
            "frame": frame,
            "mime": "image/png" if small else "image/jpeg",
            "bytes": file.getvalue(),
        }

    def encode_labels(self, frame: int, plane: np.ndarray) -> dict[str, Any]:
        """``{"frame", "shape", "bits", "bytes"}``: (H, W) labels, little-endian, zlib.

        `bits` is 16 or 32, the size of one label.
        """
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
