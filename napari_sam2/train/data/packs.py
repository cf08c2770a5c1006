"""Packs: folders of .npz files, each an image with its labels, and a manifest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Stack
from napari_sam2.train.data.pairs import AnnotatedPlane, AnnotatedStack

_COLUMNS = ("file", "height", "width", "group", "split")


def open_pack(
    folder: str | Path, *, row_filter: Callable[[pd.Series[Any]], bool] | None = None
) -> list[AnnotatedStack]:
    """Open the images of a pack; files are read when they are first used.

    The folder holds ``manifest.csv`` (columns file, height, width, group, split) and .npz files
    with `image` (H, W) or (H, W, 3) and `labels` (H, W).

    Parameters
    ----------
    row_filter
        Selects rows of the manifest, e.g. ``lambda row: row.split == "train"``; all by default.
    """
    manifest = _read_manifest(Path(folder) / "manifest.csv")
    rows = [row for _, row in manifest.iterrows() if row_filter is None or row_filter(row)]
    return [
        AnnotatedStack(
            name=Path(row.file).stem,
            group=str(row.group),
            shape=(1, int(row.height), int(row.width)),
            annotated=(0,),
            read=partial(_read_plane, Path(folder) / row.file),
        )
        for row in rows
    ]


def _read_manifest(path: Path) -> pd.DataFrame:
    try:
        manifest = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read as a table: {error}") from error
    lacking = [column for column in _COLUMNS if column not in manifest]
    if lacking:
        raise FileError(
            f"{path}: has no column {', '.join(lacking)}: expected the columns "
            f"{', '.join(_COLUMNS)}"
        )
    return manifest


def _read_plane(path: Path, _frame: int) -> AnnotatedPlane:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            image, labels = arrays["image"], arrays["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"{path}: cannot be read as an image with labels: {error}") from error
    stack = (
        Stack(np.moveaxis(image, -1, 0), "cyx", rgb=True) if image.ndim == 3 else Stack(image, "yx")
    )
    return stack.as_video().read_frame(0).pixels, labels
