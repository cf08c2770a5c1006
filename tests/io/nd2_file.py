"""Write ND2 files of version 3 as Nikon's program does: named chunks, and a map of them at the end.

A chunk is a header, a padded name, so that the content begins on a page, and the content. Metadata
are typed variants ("CLx lite"): a type, a name in UTF-16, and a value or further variants. Frames
are in the order of the loops of the experiment, with the channels of a pixel side by side.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC, _PAGE = 0x0ABECEDA, 4096
_SIGNATURE = b"ND2 FILE SIGNATURE CHUNK NAME01!"
_MAP, _MAP_END = b"ND2 FILEMAP SIGNATURE NAME 0001!", b"ND2 CHUNK MAP SIGNATURE 0000001!"
_BOOL, _UINT32, _DOUBLE, _STRING, _LEVEL = 1, 3, 6, 8, 11
_LOOPS = {"t": 1, "p": 2, "z": 4}
_LOSSLESS, _UNCOMPRESSED = 0, 2


@dataclass(frozen=True)
class AcquisitionSettings:
    """How the pixels were acquired; `padding` are extra bytes of each row."""

    pixel_um: float = 0.25
    calibrated: bool = True
    slice_um: float = 1.5
    period_ms: float = 30_000.0
    channels: tuple[str, ...] = ("GFP",)
    lossless: bool = False
    padding: int = 0


def write_nd2(
    path: Path, data: np.ndarray, axes: str, settings: AcquisitionSettings | None = None
) -> Path:
    """Write uint8, uint16 or float32 pixels, and return the path.

    `axes` is a subset of t, p and z in any order, then c if there are several, y, x, and perhaps s.
    """
    settings = settings or AcquisitionSettings()
    colours, channels = (
        data.shape[-1] if axes.endswith("s") else 1,
        data.shape[axes.index("c")] if "c" in axes else 1,
    )
    loops = [(axis, data.shape[place]) for place, axis in enumerate(axes) if axis in _LOOPS]
    height, width = data.shape[axes.index("y")], data.shape[axes.index("x")]
    frames = (
        data.reshape(-1, channels, height, width, colours)
        .transpose(0, 2, 3, 1, 4)
        .reshape(-1, height, width * channels * colours)
    )
    rows = np.pad(frames.view(np.uint8), [(0, 0), (0, 0), (0, settings.padding)])
    bits, shape = 8 * data.dtype.itemsize, (height, width, channels * colours)
    chunks = [
        (
            "ImageAttributesLV!",
            _encode_variants({"SLxImageAttributes": _make_attributes(shape, rows, bits, settings)}),
        ),
        (
            "ImageMetadataLV!",
            _encode_variants({"SLxExperiment": _make_experiment(loops, settings)})
            if loops
            else b"",
        ),
        (
            "ImageMetadataSeqLV|0!",
            _encode_variants({"SLxPictureMetadata": _make_metadata(channels, colours, settings)}),
        ),
    ]
    with path.open("wb") as file:
        places = {
            _SIGNATURE: (
                file.write(_make_chunk(_SIGNATURE, b"Ver3.0".ljust(64, b"\0"), padded_length=32))
                * 0,
                64,
            )
        }
        for name, content in ((name, content) for name, content in chunks if content):
            places[name.encode()] = (file.tell(), len(content))
            file.write(_make_chunk(name.encode(), content, padded_length=_PAGE - 16))
        for number, frame in enumerate(rows):
            pixels = frame.tobytes()
            content = struct.pack("<d", number * settings.period_ms) + (
                zlib.compress(pixels) if settings.lossless else pixels
            )
            places[b"ImageDataSeq|%d!" % number] = (file.tell(), len(content))
            file.write(_make_chunk(b"ImageDataSeq|%d!" % number, content, padded_length=_PAGE - 24))
        listed = b"".join(name + struct.pack("<QQ", *place) for name, place in places.items())
        end = _MAP_END + struct.pack("<Q", file.tell())
        file.write(_make_chunk(_MAP, listed + end, padded_length=len(_MAP)))
    return path


def _make_chunk(chunk_name: bytes, content: bytes, *, padded_length: int) -> bytes:
    return (
        struct.pack("<IIQ", _MAGIC, padded_length, len(content))
        + chunk_name.ljust(padded_length, b"\0")
        + content
    )


def _make_attributes(
    shape: tuple[int, int, int], rows: np.ndarray, bits: int, settings: AcquisitionSettings
) -> dict[str, Any]:
    height, width, components = shape
    return {
        "uiWidth": width,
        "uiWidthBytes": rows.shape[-1],
        "uiHeight": height,
        "uiComp": components,
        "uiBpcInMemory": bits,
        "uiBpcSignificant": bits,
        "uiSequenceCount": len(rows),
        "eCompression": _LOSSLESS if settings.lossless else _UNCOMPRESSED,
    }


def _make_experiment(
    loops: Iterable[tuple[str, int]], settings: AcquisitionSettings
) -> dict[str, Any]:
    """The outermost loop, which contains the next one."""
    (axis, count), *inner = loops
    by_axis: dict[str, dict[str, Any]] = {
        "t": {
            "dStart": 0.0,
            "dPeriod": settings.period_ms,
            "dDuration": settings.period_ms * count,
            "dAvgPeriodDiff": settings.period_ms,
        },
        "p": {
            "Points": {
                f"i{number:010}": {"dPosX": 100.0 * number, "dPosY": 0.0} for number in range(count)
            }
        },
        "z": {
            "dZLow": 0.0,
            "dZHigh": settings.slice_um * (count - 1),
            "dZStep": settings.slice_um,
            "dZHome": 0.0,
        },
    }
    level = {"eType": _LOOPS[axis], "uLoopPars": {"uiCount": count, **by_axis[axis]}}
    return {**level, "ppNextLevelEx": {"": _make_experiment(inner, settings)}} if inner else level


def _make_metadata(channels: int, colours: int, settings: AcquisitionSettings) -> dict[str, Any]:
    light = {"pPoint": {"Point0": {"eType": 1, "dWavelength": 488.0, "dTValue": 1.0}}}
    probe = {"m_ExcitationSpectrum": light, "m_EmissionSpectrum": light}
    planes = {
        f"a{number}": {
            "uiCompCount": colours,
            "uiSampleIndex": 0,
            "sDescription": name,
            "uiColor": 0xFF00,
            "pFluorescentProbe": probe,
        }
        for number, name in enumerate(settings.channels)
    }
    assert len(planes) == channels
    pictures = {"uiCount": channels, "uiSampleCount": 1, "sPlaneNew": planes}
    return {
        "bCalibrated": settings.calibrated,
        "dCalibration": settings.pixel_um,
        "sPicturePlanes": pictures,
    }


def _encode_variants(values: Mapping[str, Any]) -> bytes:
    return b"".join(_encode_variant(name, value) for name, value in values.items())


def _encode_variant(name: str, value: Any) -> bytes:
    """One value; a level ends with the offsets of its variants."""
    if isinstance(value, Mapping):
        head, parts = (
            _encode_header(_LEVEL, name),
            [_encode_variant(*each) for each in value.items()],
        )
        begin = len(head) + 12
        starts: Any = np.cumsum([begin, *map(len, parts[:-1])]) if parts else []
        return (
            head
            + struct.pack("<IQ", len(parts), begin + sum(map(len, parts)))
            + b"".join(parts)
            + struct.pack(f"<{len(parts)}Q", *starts)
        )
    if isinstance(value, str):
        return _encode_header(_STRING, name) + f"{value}\0".encode("utf-16-le")
    kind, form = {bool: (_BOOL, "<?"), int: (_UINT32, "<I"), float: (_DOUBLE, "<d")}[type(value)]
    return _encode_header(kind, name) + struct.pack(form, value)


def _encode_header(kind: int, name: str) -> bytes:
    return struct.pack("BB", kind, len(name) + 1) + f"{name}\0".encode("utf-16-le")
