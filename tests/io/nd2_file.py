"""An ND2 file of version 3 as Nikon's own program lays one out: named chunks, and at the end a map of where each of them is.

A chunk is a header, a name that is padded so that what follows begins on a page, and content. What
is known of the image is said in typed variants ("CLx lite"): a type, a name in UTF-16, a value, or
a level that holds further variants. Frames follow each other as the innermost loop of the
experiment goes, with all channels of a pixel side by side.
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
_LOSSLESS, _AS_IT_IS = 0, 2


@dataclass(frozen=True)
class Acquired:
    """How the pixels were taken: µm per pixel and slice, ms per time point, channels; bytes by which rows are longer than their pixels."""

    pixel_um: float = 0.25
    calibrated: bool = True
    slice_um: float = 1.5
    period_ms: float = 30_000.0
    channels: tuple[str, ...] = ("GFP",)
    lossless: bool = False
    padding: int = 0


def write_nd2(path: Path, data: np.ndarray, axes: str, how: Acquired | None = None) -> Path:
    """Pixels of uint8, uint16 or float32 of these axes: some of t, p and z in any order, then c where there are several, y, x; s last."""
    how = how or Acquired()
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
    rows = np.pad(frames.view(np.uint8), [(0, 0), (0, 0), (0, how.padding)])
    bits, shape = 8 * data.dtype.itemsize, (height, width, channels * colours)
    chunks = [
        (
            "ImageAttributesLV!",
            _variants({"SLxImageAttributes": _attributes(shape, rows, bits, how)}),
        ),
        (
            "ImageMetadataLV!",
            _variants({"SLxExperiment": _experiment(loops, how)}) if loops else b"",
        ),
        (
            "ImageMetadataSeqLV|0!",
            _variants({"SLxPictureMetadata": _metadata(channels, colours, how)}),
        ),
    ]
    with path.open("wb") as file:
        places = {
            _SIGNATURE: (
                file.write(_chunk(_SIGNATURE, b"Ver3.0".ljust(64, b"\0"), name=32)) * 0,
                64,
            )
        }
        for name, content in ((name, content) for name, content in chunks if content):
            places[name.encode()] = (file.tell(), len(content))
            file.write(_chunk(name.encode(), content, name=_PAGE - 16))
        for number, frame in enumerate(rows):
            pixels = frame.tobytes()
            content = struct.pack("<d", number * how.period_ms) + (
                zlib.compress(pixels) if how.lossless else pixels
            )
            places[b"ImageDataSeq|%d!" % number] = (file.tell(), len(content))
            file.write(_chunk(b"ImageDataSeq|%d!" % number, content, name=_PAGE - 24))
        listed = b"".join(name + struct.pack("<QQ", *place) for name, place in places.items())
        end = _MAP_END + struct.pack("<Q", file.tell())
        file.write(_chunk(_MAP, listed + end, name=len(_MAP)))
    return path


def _chunk(named: bytes, content: bytes, *, name: int) -> bytes:
    return struct.pack("<IIQ", _MAGIC, name, len(content)) + named.ljust(name, b"\0") + content


def _attributes(
    shape: tuple[int, int, int], rows: np.ndarray, bits: int, how: Acquired
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
        "eCompression": _LOSSLESS if how.lossless else _AS_IT_IS,
    }


def _experiment(loops: Iterable[tuple[str, int]], how: Acquired) -> dict[str, Any]:
    """The outermost loop, and in it the next one."""
    (axis, count), *inner = loops
    parameters: dict[str, Any] = {
        "t": {
            "dStart": 0.0,
            "dPeriod": how.period_ms,
            "dDuration": how.period_ms * count,
            "dAvgPeriodDiff": how.period_ms,
        },
        "p": {
            "Points": {
                f"i{number:010}": {"dPosX": 100.0 * number, "dPosY": 0.0} for number in range(count)
            }
        },
        "z": {
            "dZLow": 0.0,
            "dZHigh": how.slice_um * (count - 1),
            "dZStep": how.slice_um,
            "dZHome": 0.0,
        },
    }[axis]
    level = {"eType": _LOOPS[axis], "uLoopPars": {"uiCount": count, **parameters}}
    return {**level, "ppNextLevelEx": {"": _experiment(inner, how)}} if inner else level


def _metadata(channels: int, colours: int, how: Acquired) -> dict[str, Any]:
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
        for number, name in enumerate(how.channels)
    }
    assert len(planes) == channels
    pictures = {"uiCount": channels, "uiSampleCount": 1, "sPlaneNew": planes}
    return {"bCalibrated": how.calibrated, "dCalibration": how.pixel_um, "sPicturePlanes": pictures}


def _variants(values: Mapping[str, Any]) -> bytes:
    return b"".join(_variant(name, value) for name, value in values.items())


def _variant(name: str, value: Any) -> bytes:
    """One value; a level is followed by where in it each of its variants begins."""
    if isinstance(value, Mapping):
        head, parts = _named(_LEVEL, name), [_variant(*each) for each in value.items()]
        begin = len(head) + 12
        starts = np.cumsum([begin, *map(len, parts[:-1])]) if parts else []
        return (
            head
            + struct.pack("<IQ", len(parts), begin + sum(map(len, parts)))
            + b"".join(parts)
            + struct.pack(f"<{len(parts)}Q", *starts)
        )
    if isinstance(value, str):
        return _named(_STRING, name) + f"{value}\0".encode("utf-16-le")
    kind, form = {bool: (_BOOL, "<?"), int: (_UINT32, "<I"), float: (_DOUBLE, "<d")}[type(value)]
    return _named(kind, name) + struct.pack(form, value)


def _named(kind: int, name: str) -> bytes:
    return struct.pack("BB", kind, len(name) + 1) + f"{name}\0".encode("utf-16-le")
