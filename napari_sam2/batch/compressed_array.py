"""Parcels: arrays as they travel between machines, compressed and without loss."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numcodecs import Blosc

_CODEC = Blosc(cname="zstd", clevel=1, shuffle=Blosc.BITSHUFFLE)


@dataclass(frozen=True)
class Parcel:
    """One array, compressed."""

    content: bytes
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: np.ndarray) -> Parcel:
        """The parcel of an array of any shape and of numbers or bool."""
        return cls(
            _CODEC.encode(np.ascontiguousarray(array)) if array.size else b"",
            array.dtype.str,
            array.shape,
        )

    @property
    def array(self) -> np.ndarray:
        """What was packed; writable."""
        if not self.content:
            return np.zeros(self.shape, dtype=self.dtype)
        return np.frombuffer(bytearray(_CODEC.decode(self.content)), dtype=self.dtype).reshape(
            self.shape
        )


def packed(value: Any) -> Any:
    """The same with a Parcel in the place of every array, also within lists, tuples and dataclasses."""
    return _changed(value, np.ndarray, Parcel.of)


def unpacked(value: Any) -> Any:
    """The inverse of `packed`."""
    return _changed(value, Parcel, lambda parcel: parcel.array)


def _changed(value: Any, kind: type, change: Any) -> Any:
    if isinstance(value, kind):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(_changed(each, kind, change) for each in value)
    if not is_dataclass(value) or isinstance(value, type | Parcel):
        return value
    new = copy(value)  # not `replace`, which would check parcels as if they were arrays
    for each in fields(value):
        object.__setattr__(new, each.name, _changed(getattr(value, each.name), kind, change))
    return new
