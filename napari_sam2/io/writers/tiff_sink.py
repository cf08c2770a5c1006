"""Write label planes, in any order, into a compressed OME-TIFF."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from tifffile import TiffWriter

from napari_sam2.core.files.atomic import (
    convert_write_errors,
    get_part_path,
    remove_path,
    write_atomically,
)
from napari_sam2.io.writers.label_spec import LabelSpec

MAX_CLASSIC_BYTES = 2**32 - 2**25
"""Size from which on the file is a BigTIFF: 4 GiB minus 32 MiB for the directories of pages."""

_PAGE_BYTES = 512  # an upper bound for the directory of a page


class OmeTiffSink:
    """``labels.ome.tif``: one zlib-compressed page a frame, with spacing in its metadata.

    Planes are compressed when they arrive and collected in a temporary file beside the final one;
    one plane is in memory at a time.
    """

    def __init__(self, folder: Path, spec: LabelSpec) -> None:
        self._path = Path(folder) / "labels.ome.tif"
        self._spec = spec
        self._byte_ranges: dict[int, tuple[int, int]] = {}
        self._planes_path = get_part_path(self._path, "planes")
        self._file: IO[bytes] | None = None

    @property
    def path(self) -> Path:
        """The file that exists after a successful exit."""
        return self._path

    def __enter__(self) -> OmeTiffSink:
        with convert_write_errors(self._path):
            self._file = self._planes_path.open("w+b")
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        assert self._file is not None
        try:
            if kind is None:
                self._spec.check_complete(self._byte_ranges.keys())
                with write_atomically(self._path) as part:
                    self._file.flush()
                    self._write_tiff(part)
        finally:
            # closing flushes; if the disk is full, an earlier write has already raised
            with suppress(OSError):
                self._file.close()
            remove_path(self._planes_path)

    def put(self, frame: int, plane: np.ndarray) -> None:
        """Write the (H, W) labels of a frame; put every frame once, in any order."""
        assert self._file is not None, "a sink is used as a context manager"
        labels = self._spec.convert_plane(frame, plane, self._byte_ranges.keys())
        packed = zlib.compress(
            np.ascontiguousarray(labels, labels.dtype.newbyteorder("<")).tobytes()
        )
        with convert_write_errors(self._path):
            start = self._file.seek(0, 2)
            self._file.write(packed)
        self._byte_ranges[frame] = (start, len(packed))

    def _write_tiff(self, part: Path) -> None:
        spec = self._spec
        n_bytes = sum(length + _PAGE_BYTES for _, length in self._byte_ranges.values())
        is_big = n_bytes > MAX_CLASSIC_BYTES
        x_um, y_um = spec.spacing.x_um, spec.spacing.y_um
        with TiffWriter(part, bigtiff=is_big, byteorder="<", ome=True) as tiff:
            tiff.write(
                self._iterate_compressed(),
                shape=spec.shape,
                dtype=spec.dtype.newbyteorder("<"),
                photometric="minisblack",
                compression="zlib",
                rowsperstrip=spec.shape[1],
                resolution=(1e4 / x_um, 1e4 / y_um) if x_um and y_um else None,
                resolutionunit="CENTIMETER" if x_um and y_um else None,
                metadata=_make_ome_metadata(spec),
            )

    def _iterate_compressed(self) -> Iterator[bytes]:
        assert self._file is not None
        for frame in range(self._spec.shape[0]):
            start, length = self._byte_ranges[frame]
            self._file.seek(start)
            yield self._file.read(length)


def _make_ome_metadata(spec: LabelSpec) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": spec.axes.upper(), "Channel": {"Name": "labels"}}
    for axis in "xyz":
        value = getattr(spec.spacing, f"{axis}_um")
        if value is not None and axis in spec.axes:
            key = f"PhysicalSize{axis.upper()}"
            metadata |= {key: value, f"{key}Unit": "µm"}
    if spec.spacing.t_s is not None and "t" in spec.axes:
        metadata |= {"TimeIncrement": spec.spacing.t_s, "TimeIncrementUnit": "s"}
    return metadata
