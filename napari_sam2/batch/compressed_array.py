"""Arrays as they are sent between machines: compressed, without loss."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numcodecs import Blosc

_CODEC = Blosc(cname="zstd", clevel=1, shuffle=Blosc.BITSHUFFLE)


@dataclass(frozen=True)
class CompressedArray:
    """One array, compressed."""

    data: bytes
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> CompressedArray:
        """Compress an array of any shape; its values are numbers or bool."""
        return cls(
            _CODEC.encode(np.ascontiguousarray(array)) if array.size else b"",
            array.dtype.str,
            array.shape,
        )

    @property
    def array(self) -> np.ndarray:
        """The array; it can be written to."""
        if not self.data:
            return np.zeros(self.shape, dtype=self.dtype)
        return np.frombuffer(bytearray(_CODEC.decode(self.data)), dtype=self.dtype).reshape(
            self.shape
        )


def compress_arrays(value: Any) -> Any:
    """Replace every array by a CompressedArray, also in lists, tuples and dataclasses."""
    return _map_arrays(value, np.ndarray, CompressedArray.of)


def decompress_arrays(value: Any) -> Any:
    """The inverse of `compress_arrays`."""
    return _map_arrays(value, CompressedArray, lambda compressed: compressed.array)


def _map_arrays(value: Any, kind: type, convert: Any) -> Any:
    if isinstance(value, kind):
        return convert(value)
    if type(value) in (list, tuple):
        return type(value)(_map_arrays(each, kind, convert) for each in value)
    if not is_dataclass(value) or isinstance(value, type | CompressedArray):
        return value
    new = copy(value)  # not `replace`, because it would validate the compressed arrays
    for each in fields(value):
        object.__setattr__(new, each.name, _map_arrays(getattr(value, each.name), kind, convert))
    return new
