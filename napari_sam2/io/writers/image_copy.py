"""Copy the pixels of a Stack into a zarr array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.stack import Stack


def write_image_copy(stack: Stack, path: Path) -> None:
    """Write the pixels of a Stack as a zarr array with named dimensions, plane by plane."""
    with write_atomically(path) as part:
        shape = tuple(stack.sizes.values())
        array: Any = zarr.create_array(
            part,
            shape=shape,
            chunks=(*(1 for _ in shape[:-2]), *shape[-2:]),
            dtype=get_dtype_name(stack),
            dimension_names=list(stack.axes),
        )
        for position in _iterate_positions(stack):
            array[tuple(position.values())] = stack.read_plane(position)


def get_dtype_name(stack: Stack) -> str:
    """The name of the type of the pixels, in the byte order of this machine."""
    return str(np.dtype(stack.data.dtype).newbyteorder("="))


def _iterate_positions(stack: Stack) -> Iterator[Mapping[str, int]]:
    """The index of each plane, by axis."""
    leading = stack.axes[:-2]
    for index in product(*(range(stack.sizes[axis]) for axis in leading)):
        yield dict(zip(leading, index, strict=True))
