"""PNG, JPEG, BMP, GIF and WebP: one plane a file, or one a frame if the picture is animated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.io.readers.files import check_file, convert_read_errors, get_file_stamp
from napari_sam2.io.readers.lazy import make_lazy_array
from napari_sam2.io.readers.opened import OpenedImage, ReadRequest, separate_times
from napari_sam2.io.readers.pixels.compression import is_lossy_webp

SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

_GREY_PNG_TYPES = (0, 4)  # without and with alpha
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_PALETTE_MODES = {"P", "PA"}
_GIF_TICK_S = 0.01  # GIF rounds durations to hundredths of a second
_MS_PER_S = 1000.0
_decoder_lock = Lock()  # all threads share the open picture


def open_image_file(path: Path, request: ReadRequest | None = None) -> OpenedImage:
    """Open a PNG, JPEG, BMP, GIF or WebP file: y, x, and s in a colour image; t if it is animated.

    Pixels have the depth that the file declares. Grey with alpha becomes grey; a palette becomes
    colours, or its indices if labels are requested; CMYK becomes red, green and blue.

    Raises FileError if the file cannot be read, or is an animated PNG of 16 bits.
    """
    planes = open_image_file_planes(path, request)
    header = _read_header(str(path), get_file_stamp(path))
    interval_s, times_s = separate_times(header.times_s, _GIF_TICK_S)
    return OpenedImage(
        make_lazy_array(planes, str(path)),
        planes.axes,
        Spacing(t_s=interval_s),
        rgb="s" in planes.axes,
        name=path.stem,
        source=str(path),
        times_s=times_s,
        notes=header.notes,
        lossy=header.lossy,
    )


def open_image_file_planes(path: Path, request: ReadRequest | None = None) -> ImageFilePlanes:
    """The planes of an image file.

    Reads only its header, and all frames of an animated picture once, to see whether it is grey.
    """
    check_file(path)
    with convert_read_errors(f"{path}: cannot be read", f"a whole {path.suffix[1:].upper()} image"):
        header = _read_header(str(path), get_file_stamp(path))
    labels = request is not None and request.labels
    shape = header.size if header.grey or (labels and header.palette) else (*header.size, 3)
    if header.n_frames == 1:
        return ImageFilePlanes(str(path), shape, header.dtype, labels)
    return ImageFilePlanes(str(path), (header.n_frames, *shape), header.dtype, labels, 1)


@dataclass(frozen=True)
class ImageFilePlanes:
    """The planes of an image file; `labels` reads a palette as indices."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labels: bool = False
    n_leading: int = 0

    @property
    def axes(self) -> str:
        """One of "yx", "yxs" (in colour), "tyx" and "tyxs" (animated)."""
        return "t" * self.n_leading + "yxs"[: len(self.shape) - self.n_leading]

    def __call__(self, index: tuple[int, ...]) -> np.ndarray:
        """All pixels of a frame; `index` is empty for a still image."""
        header = _read_header(self.path, get_file_stamp(Path(self.path)))
        if header.bits == 16:
            pixels = np.asarray(imagecodecs.png_decode(Path(self.path).read_bytes()))
        elif index:
            pixels = self._read_frame(index[0], header)
        else:
            with Image.open(self.path) as picture:
                pixels = _convert_pixels(picture, header, self.labels)
        if len(self.shape) - self.n_leading == 2:
            pixels = pixels[..., 0] if pixels.ndim == 3 else pixels
        else:
            pixels = pixels[..., :3]
        return _check_pixels(pixels, self)

    def _read_frame(self, frame: int, header: _ImageHeader) -> np.ndarray:
        key = self.path, get_file_stamp(Path(self.path))
        with _decoder_lock:
            if _open_animation(*key).tell() > frame:  # Pillow 13 cannot rewind every APNG
                _open_animation.cache_clear()
            picture = _open_animation(*key)
            picture.seek(frame)
            return _convert_pixels(picture, header, self.labels)


def _convert_pixels(picture: Image.Image, header: _ImageHeader, labels: bool) -> np.ndarray:
    """The pixels of the current frame: (H, W) if grey or labels, else (H, W, 3)."""
    if labels and header.palette:
        return np.asarray(picture)[..., : 1 if picture.mode == "PA" else None]
    if header.grey:
        grey = picture if picture.mode in _GREY_MODES else picture.convert("L")
        pixels = np.asarray(grey)
        # Pillow stretches grey values of 2 and 4 bits to 8; labels are numbers
        return pixels // (255 // (2**header.bits - 1)) if labels and 1 < header.bits < 8 else pixels
    return np.asarray(picture.convert("RGB"))


def _check_pixels(pixels: np.ndarray, planes: ImageFilePlanes) -> np.ndarray:
    """The pixels in the byte order of this machine; ValueError unless they are as declared."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    shape = planes.shape[planes.n_leading :]
    if (pixels.shape, pixels.dtype) != (shape, planes.dtype):
        raise ValueError(
            f"decoded as {pixels.dtype} {pixels.shape!r}, declared as {planes.dtype} {shape!r}"
        )
    return pixels


@dataclass(frozen=True)
class _ImageHeader:
    """What an image file declares; `size` is (H, W), `times_s` the times of animated frames."""

    size: tuple[int, int]
    bits: int
    grey: bool
    palette: bool
    dtype: np.dtype[Any]
    n_frames: int
    times_s: tuple[float, ...]
    lossy: str
    notes: tuple[str, ...]


@lru_cache(maxsize=256)
def _read_header(path: str, _: tuple[int, int]) -> _ImageHeader:
    with Image.open(path) as picture:
        file_format, mode = str(picture.format), picture.mode
        n_frames = int(getattr(picture, "n_frames", 1))
        notes: tuple[str, ...] = ()
        if file_format == "MPO" and n_frames > 1:
            notes = (f"{path}: holds {n_frames} pictures; the first is read",)
            n_frames = 1
        bits, colour_type = _read_png_type(path) if file_format == "PNG" else (8, None)
        if n_frames > 1 and bits == 16:
            raise FileError(
                f"{path}: is an animated PNG of 16 bits, which would be cut to 8: save its frames "
                "as TIFF"
            )
        palette = mode in _PALETTE_MODES and n_frames == 1
        grey, durations_s = _scan_frames(picture, n_frames)
        grey = grey or colour_type in _GREY_PNG_TYPES
        size = picture.height, picture.width
        dtype = np.dtype(np.uint16) if bits == 16 else _get_pixel_type(mode if grey else "RGB")
    times_s = tuple(accumulate(durations_s, initial=0.0))[:-1] if all(durations_s) else ()
    return _ImageHeader(
        size, bits, grey, palette, dtype, n_frames, times_s, _find_lossy(path, file_format), notes
    )


def _scan_frames(picture: Image.Image, n_frames: int) -> tuple[bool, list[float]]:
    """Whether all frames are grey, and the duration of each in s, 0 if unknown."""
    if n_frames == 1:
        return picture.mode in _GREY_MODES or _has_grey_palette(picture), []
    grey, durations_s = True, []
    for number in range(n_frames):
        picture.seek(number)
        picture.load()  # WebP tells the duration of a frame when it is decoded
        durations_s.append(float(picture.info.get("duration") or 0) / _MS_PER_S)
        if grey and picture.mode not in _GREY_MODES:
            colours = np.asarray(picture.convert("RGB"))
            grey = bool((colours == colours[..., :1]).all())
    return grey, durations_s


def _has_grey_palette(picture: Image.Image) -> bool:
    """Whether the palette shows its indices as grey values, none of them transparent."""
    if picture.mode not in _PALETTE_MODES:
        return False
    colours = np.asarray(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _get_pixel_type(mode: str) -> np.dtype[Any]:
    """The type of the pixels in a mode of Pillow, by one pixel."""
    mode = mode if mode in _GREY_MODES or mode == "RGB" else "L"
    return np.asarray(Image.new(mode, (1, 1))).dtype.newbyteorder("=")


@lru_cache(maxsize=1)
def _open_animation(path: str, _: tuple[int, int]) -> Image.Image:
    """The last animated picture that was read, kept because frames are decoded in order."""
    return Image.open(BytesIO(Path(path).read_bytes()))  # leaves no file open


def _read_png_type(path: str) -> tuple[int, int]:
    """The bits of a sample and the colour type of a PNG file, from its first chunk."""
    with Path(path).open("rb") as file:
        head = file.read(26)
    return head[24], head[25]


def _find_lossy(path: str, file_format: str) -> str:
    """The name of the compression if it does not keep pixels exactly, else ""."""
    if file_format in ("JPEG", "MPO"):
        return "JPEG"
    return "lossy WebP" if file_format == "WEBP" and is_lossy_webp(Path(path).read_bytes()) else ""
