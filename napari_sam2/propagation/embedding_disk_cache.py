"""EmbeddingDiskCache: image features in a folder, so that no frame is encoded twice."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_sam2.core.card import ModelCard
from napari_sam2.core.stack import Video

log = logging.getLogger(__name__)


class EmbeddingDiskCache:
    """Arrays by name, in a zarr group per video, model, precision and windows.

    The folder takes up to about `budget` bytes; beyond, or if the disk is full, no more is stored.
    If the folder is full when it is opened, the groups of other videos and models are deleted.
    """

    def __init__(self, folder: Path, video: Video, card: ModelCard, budget: int) -> None:
        self._budget = budget
        self._path = own = folder / f"{_make_group_key(video, card)}.zarr"
        self._bytes = _compute_folder_bytes(folder)
        if self._bytes >= budget:
            for other in set(folder.glob("*.zarr")) - {own}:
                shutil.rmtree(other, ignore_errors=True)
            self._bytes = _compute_folder_bytes(folder)
        self._group = zarr.open_group(own, mode="a")

    def put(self, name: str, arrays: Sequence[np.ndarray]) -> None:
        """Store arrays, if there is room."""
        size = sum(array.nbytes for array in arrays)
        if self._bytes + size > self._budget:
            return
        try:
            group = self._group.create_group(name, overwrite=True)
            for number, array in enumerate(arrays):
                group.create_array(str(number), data=array, chunks=array.shape)
            # written last: a group without it is incomplete and is computed again
            group.attrs["arrays"] = len(arrays)
        except OSError as error:
            log.warning(
                "%s: %s; no more is stored there, so corrections will encode frames again",
                self._path,
                error,
            )
            self._budget = 0
        self._bytes += size

    def get(self, name: str) -> list[np.ndarray] | None:
        """The stored arrays, without loss; None if they are missing or incomplete."""
        if name not in self._group:
            return None
        group: Any = self._group[name]
        count = group.attrs.get("arrays")
        return (
            None
            if count is None
            else [np.asarray(group[str(number)][...]) for number in range(count)]
        )


def _make_group_key(video: Video, card: ModelCard) -> str:
    """The group of a video (with its contrast), model, precision and windows."""
    unusual = [each for each in (card.precision, card.windows) if each not in ("float32", "whole")]
    weights = "|".join([card.sha256 or card.name, *unusual])
    return hashlib.sha256(f"{video.identity}|{weights}".encode()).hexdigest()[:16]


def _compute_folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
