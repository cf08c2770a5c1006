"""Photometric interpretation of TIFF: how the stored samples of a page become pixels.

The values of PhotometricInterpretation: TIFF 6.0, section 8; technical notes for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, TiffPage, TiffPageSeries

from napari_sam2.core.errors import FileError

_RGB_PHOTOMETRICS = (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
_SAMPLES_AXIS = "S"
_REFUSED: Mapping[int, str] = {
    PHOTOMETRIC.CIELAB: "CIELAB",
    PHOTOMETRIC.ICCLAB: "ICCLAB",
    PHOTOMETRIC.ITULAB: "ITULAB",
    PHOTOMETRIC.LOGL: "LogL",
    PHOTOMETRIC.LOGLUV: "LogLuv",
    PHOTOMETRIC.CFA: "a colour filter array",
}
# compressions whose decoders convert YCbCr to RGB
_CONVERTED_FROM_YCBCR = (
    COMPRESSION.OJPEG,
    COMPRESSION.JPEG,
    COMPRESSION.ALT_JPEG,
    COMPRESSION.JPEG_LOSSY,
    COMPRESSION.APERIO_JP2000_YCBC,
    COMPRESSION.APERIO_JP2000_RGB,
    COMPRESSION.JPEG2000,
    COMPRESSION.JPEGXR,
    COMPRESSION.JPEGXR_NDPI,
    COMPRESSION.JPEGXL,
    COMPRESSION.WEBP,
)


@dataclass(frozen=True)
class PixelConversion:
    """How pages of a series become pixels.

    Parameters
    ----------
    shape, axes, dtype
        Those of the whole series, after the conversion.
    convert
        Converts one page; None if the samples are the pixels.
    rgb
        Whether the samples are red, green, blue and perhaps alpha.
    notes
        What was decided, one sentence each.
    """

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    convert: Callable[[np.ndarray], np.ndarray] | None = None
    rgb: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        series: TiffPageSeries,
        *,
        source: str,
        palette: np.ndarray | None = None,
        lookup: bool = False,
        mask: bool = False,
    ) -> PixelConversion:
        """The conversion of a series of a TIFF.

        Parameters
        ----------
        source
            Path of the file, for messages.
        palette
            (3, n) colours to apply to the indices; None for labels.
        lookup
            Whether the palette is a lookup table for display, as in ImageJ, and not applied.
        mask
            Whether zeros are background although they are declared as white.

        Raises
        ------
        FileError
            For a colour space that would be taken for another.
        """
        page = series.keyframe
        plain = cls(tuple(series.shape), series.axes, np.dtype(series.dtype).newbyteorder("="))
        _check_colour_space(page, source)
        if page.photometric == PHOTOMETRIC.MINISWHITE and mask:
            note = (
                f"{source}: says that zero is white, as tifffile does for every mask, but its "
                "border is zero: ones are taken as objects"
            )
            return plain._replace(notes=(note,))
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            return plain._with_inversion(page, source)
        if page.photometric == PHOTOMETRIC.PALETTE and palette is not None:
            return plain._with_palette(palette, source, lookup=lookup)
        if page.photometric == PHOTOMETRIC.SEPARATED:
            return plain._with_cmyk(page, source)
        return plain._with_samples(page, source)

    def _with_inversion(self, page: TiffPage, source: str) -> PixelConversion:
        """White is zero: the largest value minus the stored one, as libtiff shows it."""
        if self.dtype.kind == "f":
            note = f"{source}: says that zero is white, which means nothing for floats: ignored"
            return self._replace(notes=(note,))
        note = f"{source}: zero is white in this file; intensities are inverted"
        largest = None if self.dtype.kind == "b" else 2**page.bitspersample - 1
        return self._replace(convert=partial(_invert, largest=largest), notes=(note,))

    def _with_palette(self, palette: np.ndarray, source: str, *, lookup: bool) -> PixelConversion:
        """Indices as intensities if the palette is a ramp for display, else its colours."""
        colours = np.asarray(palette).T
        colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
        if lookup or _is_ramp(colours):
            note = f"{source}: its palette is a lookup table; the stored values are used"
            return self._replace(notes=(note,))
        if (colours == colours[:, :1]).all():
            colours = colours[:, 0]
            return self._replace(dtype=colours.dtype, convert=partial(_apply_palette, colours))
        return self._replace(
            shape=(*self.shape, 3),
            axes=self.axes + _SAMPLES_AXIS,
            dtype=colours.dtype,
            convert=partial(_apply_palette, colours),
            rgb=True,
        )

    def _with_cmyk(self, page: TiffPage, source: str) -> PixelConversion:
        number = self.axes.find(_SAMPLES_AXIS)
        if number < 0 or self.shape[number] != 4 or self.dtype.kind != "u":
            raise FileError(
                f"{source}: holds {page.samplesperpixel} inks of {self.dtype}: expected cyan, "
                "magenta, yellow and black; save it as RGB"
            )
        shape = (*self.shape[:number], 3, *self.shape[number + 1 :])
        # counted from the end, because a page has fewer dimensions than the series
        convert = partial(_convert_cmyk, axis=number - len(self.shape))
        note = f"{source}: CMYK is converted to red, green and blue without a colour profile"
        return self._replace(shape=shape, convert=convert, rgb=True, notes=(note,))

    def _with_samples(self, page: TiffPage, source: str) -> PixelConversion:
        """Samples as they are; a fourth one that is not declared as alpha is a channel."""
        rgb = page.photometric in _RGB_PHOTOMETRICS
        extra = page.extrasamples
        if rgb and len(extra) == 1 and extra[0] == EXTRASAMPLE.UNSPECIFIED:
            note = f"{source}: its fourth sample is not declared as alpha: four channels are read"
            return self._replace(notes=(note,))
        return self._replace(rgb=rgb)

    def _replace(self, **changes: Any) -> PixelConversion:
        return PixelConversion(**{**vars(self), **changes})


def is_inverted_mask(page: TiffPage) -> bool:
    """Whether a 1 bit page is declared as white-is-zero, but has a border of zeros.

    tifffile declares white-is-zero for every array of bool, so that its polarity says nothing. The
    file of the page must be open.
    """
    if page.photometric != PHOTOMETRIC.MINISWHITE or page.dtype != bool or page.ndim != 2:
        return False
    if not str(page.software).startswith("tifffile"):
        return False
    pixels = page.asarray()
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool(border.mean() < 0.5)


def _check_colour_space(page: TiffPage, source: str) -> None:
    """Raise FileError for a colour space that would be read as intensities or RGB."""
    space = _REFUSED.get(page.photometric)
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in _CONVERTED_FROM_YCBCR:
        space = "YCbCr without JPEG"
    if space:
        raise FileError(f"{source}: its pixels are {space}: expected grey or RGB; save it as RGB")


def _is_ramp(colours: np.ndarray) -> bool:
    """Whether (n, 3) colours get brighter, or darker, from entry to entry."""
    steps = np.diff(colours.astype(np.int64).sum(axis=1))
    return bool((steps >= 0).all() or (steps <= 0).all())


def _invert(pixels: np.ndarray, largest: int | None) -> np.ndarray:
    if largest is None or pixels.dtype.kind == "i":
        return np.asarray(~pixels)
    return np.asarray(pixels.dtype.type(largest) - pixels)


def _apply_palette(colours: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.asarray(colours[indices])


def _convert_cmyk(inks: np.ndarray, axis: int) -> np.ndarray:
    """Red, green and blue of the four inks along an axis, without a colour profile."""
    largest = np.iinfo(inks.dtype).max
    light = 1.0 - np.moveaxis(inks, axis, -1).astype(np.float64) / largest
    colours = np.round(light[..., :3] * light[..., 3:] * largest).astype(inks.dtype)
    return np.moveaxis(colours, -1, axis)
