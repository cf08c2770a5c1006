"""Compression that does not keep pixels exactly: labels in such a file are not numbers any more."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from tifffile import COMPRESSION, TiffPage

_ALWAYS_LOSSY: Mapping[int, str] = {
    COMPRESSION.OJPEG: "JPEG",
    COMPRESSION.JPEG: "JPEG",
    COMPRESSION.ALT_JPEG: "JPEG",
    COMPRESSION.JPEG_LOSSY: "JPEG",
    COMPRESSION.JPEG_2000_LOSSY: "lossy JPEG 2000",
}
_JPEG2000 = (
    COMPRESSION.APERIO_JP2000_YCBC,
    COMPRESSION.APERIO_JP2000_RGB,
    COMPRESSION.JPEG2000,
)
_CODING_STYLE = b"\xff\x52"  # marker COD of JPEG 2000, ITU-T T.800, A.6.1
_TRANSFORM_OFFSET = 13  # of the wavelet transform behind the marker; 0 is the irreversible one
_WEBP_FRAME_HEADER_BYTES = 16
_RIFF_HEADER_BYTES = 12


def find_lossy_compression(page: TiffPage) -> str:
    """The name of the compression of a page if it does not keep pixels exactly, else "".

    The file of the page must be open.
    """
    if page.compression in _ALWAYS_LOSSY:
        return _ALWAYS_LOSSY[page.compression]
    if page.compression not in (*_JPEG2000, COMPRESSION.WEBP) or not page.dataoffsets:
        return ""
    file = page.parent.filehandle
    file.seek(page.dataoffsets[0])
    segment = file.read(page.databytecounts[0])
    if page.compression == COMPRESSION.WEBP:
        return "lossy WebP" if is_lossy_webp(segment) else ""
    at = segment.find(_CODING_STYLE)
    irreversible = at >= 0 and segment[at + _TRANSFORM_OFFSET : at + _TRANSFORM_OFFSET + 1] == b"\0"
    return "lossy JPEG 2000" if irreversible else ""


def is_lossy_webp(data: bytes) -> bool:
    """Whether any frame of a WebP file is lossy."""
    return b"VP8 " in _iterate_webp_chunks(data)


def _iterate_webp_chunks(data: bytes) -> Iterator[bytes]:
    """The names of the chunks, those inside animated frames included."""
    position = _RIFF_HEADER_BYTES
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        yield name
        position += 8 + (_WEBP_FRAME_HEADER_BYTES if name == b"ANMF" else length + length % 2)
