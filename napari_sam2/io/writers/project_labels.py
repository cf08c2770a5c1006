"""The label stack of a project: written frame by frame, complete after every frame."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_sam2.core.errors import LabelsError
from napari_sam2.core.files.atomic import convert_write_errors, remove_path, write_atomically
from napari_sam2.io.writers.label_spec import LabelSpec
from napari_sam2.io.writers.zarr_sink import create_label_array

LABELS_NAME = "labels.ome.zarr"


class ProjectLabels:
    """``labels.ome.zarr`` in a folder; frames that were never written are empty.

    If the process is killed, every chunk is either the old or the new one.
    """

    def __init__(self, folder: Path, spec: LabelSpec) -> None:
        self.path = folder / LABELS_NAME
        self._spec = spec
        self._checksums: dict[int, int] = {}
        self._array: Any = None

    def put(self, frame: int, plane: np.ndarray) -> bool:
        """Write the (H, W) labels of a frame if they differ from those written last.

        Returns whether anything was written.
        """
        if plane.shape != self._spec.shape[1:]:
            raise LabelsError(
                f"label plane of shape {plane.shape!r}: expected {self._spec.shape[1:]!r}",
                frame=frame,
            )
        labels = np.ascontiguousarray(plane, self._spec.dtype)
        checksum = zlib.crc32(labels.tobytes())
        if self._checksums.get(frame) == checksum:
            return False
        with convert_write_errors(self.path):
            self._open_array()[frame] = labels
        self._checksums[frame] = checksum
        return True

    def get(self, frame: int) -> np.ndarray:
        """The (H, W) labels of a frame as written last; zeros if it was never written."""
        return np.asarray(self._open_array()[frame])

    def _open_array(self) -> Any:
        if self._array is None:
            self._array = self._open_existing() if self.path.is_dir() else None
            if self._array is None:
                remove_path(self.path)
                with write_atomically(self.path) as part:
                    create_label_array(part, self._spec)
                self._array = self._open_existing()
        return self._array

    def _open_existing(self) -> Any:
        """The array on disk if it has the layout of these labels, else None."""
        try:
            array: Any = zarr.open_array(self.path / "0", mode="r+")
        except (OSError, ValueError, KeyError):
            return None
        return array if (array.shape, array.dtype) == (self._spec.shape, self._spec.dtype) else None
