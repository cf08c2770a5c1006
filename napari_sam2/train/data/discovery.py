"""Discovery of annotated images in folders, by the layouts that labs and challenges use."""

from __future__ import annotations

import re
from pathlib import Path

from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.io.readers.folder import get_natural_sort_key
from napari_sam2.io.readers.registry import PLANE_FILE_SUFFIXES
from napari_sam2.io.readers.sets.label_names import LABEL_WORDS
from napari_sam2.io.readers.zarr import is_store
from napari_sam2.train.data.annotated import ReadOptions, open_all_pairs, open_pairs
from napari_sam2.train.data.ctc import is_ctc, open_ctc
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.data.pairs import AnnotatedStack

IMAGE_FOLDERS = ("images", "image", "raw", "img")
"""Names of folders of images."""

_IMAGE_WORDS = ("image", "img", "raw")
_SUFFIXES = (
    ".ome.tif",
    ".ome.tiff",
    ".ome.zarr",
    ".zarr",
    *PLANE_FILE_SUFFIXES,
    ".npy",
)


def find_pairs(path: str | Path, *, options: ReadOptions | None = None) -> list[AnnotatedStack]:
    """Open the annotated images at a path, in any of these layouts.

    - a Cell Tracking Challenge folder (``01`` with ``01_GT``),
    - a folder with ``manifest.csv`` and .npz files,
    - a folder with ``images`` and ``masks`` (or ``labels``), whose files have the same names,
    - a folder with ``NAME_labels`` (or ``_mask``, ``_masks``, ``_seg``) beside ``NAME`` or
      ``NAME_img``,
    - one such image, or an OME-Zarr with its labels inside.

    Raises FileError if there is none of these, and the errors of `open_pairs`.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path} does not exist")
    if path.is_dir() and not is_store(path):
        if is_ctc(path):
            return open_ctc(path, options=options)
        if (path / "manifest.csv").is_file():
            return open_pack(path)
        return open_all_pairs(_find_in_folder(path), options=options)
    inner = _find_inner_labels(path)
    if inner is not None:
        return open_pairs(path, inner, options=options)
    labels = [file for file in path.parent.iterdir() if _is_labels_of(file, path)]
    if not labels:
        words = ", ".join(f"_{word}" for word in LABEL_WORDS[:5])
        raise FileError(
            f"{path}: has no labels beside it: expected a file of the same name ending in {words}"
        )
    return open_pairs(path, sorted(labels)[0], options=options)


def _find_in_folder(folder: Path) -> list[tuple[Path, Path]]:
    """Find images and labels in a folder, by subfolders or by names."""
    inner = {child.name.lower(): child for child in folder.iterdir() if child.is_dir()}
    images = next((inner[name] for name in IMAGE_FOLDERS if name in inner), None)
    labels = next((inner[name] for name in LABEL_WORDS if name in inner), None)
    if images and labels:
        return _match_by_name(_list_files(images), _list_files(labels), folder)
    files = _list_files(folder)
    truths = [file for file in files if _is_labels(file)]
    pairs = [
        (image, truth)
        for truth in truths
        for image in files
        if not _is_labels(image) and _is_labels_of(truth, image)
    ]
    if not pairs:
        raise FileError(
            f"{folder}: holds no image with its labels: expected NAME.tif with NAME_labels.tif, "
            "folders images and masks, or 01 with 01_GT"
        )
    return pairs


def _match_by_name(images: list[Path], labels: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    truths = {_get_base_name(file): file for file in labels}
    lacking = [image.name for image in images if _get_base_name(image) not in truths]
    if lacking or not images:
        raise LabelsError(
            f"{folder}: {len(lacking)} of {len(images)} images have no labels of the same name "
            f"({', '.join(lacking[:3])}): expected labels for each image"
        )
    return [(image, truths[_get_base_name(image)]) for image in images]


def _list_files(folder: Path) -> list[Path]:
    return sorted(
        (
            file
            for file in folder.iterdir()
            if file.name.lower().endswith(_SUFFIXES) and not file.name.startswith(".")
        ),
        key=get_natural_sort_key,
    )


def _get_stem(file: Path) -> str:
    name = file.name.lower()
    return next((name.removesuffix(ending) for ending in _SUFFIXES if name.endswith(ending)), name)


def _get_base_name(file: Path) -> str:
    """Return the name without its suffix, and without a word such as "labels" or "img"."""
    words = "|".join((*LABEL_WORDS, *_IMAGE_WORDS))
    return re.sub(rf"[_\-. ]({words})$", "", _get_stem(file))


def _is_labels(file: Path) -> bool:
    return re.search(rf"[_\-. ]({'|'.join(LABEL_WORDS)})$", _get_stem(file)) is not None


def _is_labels_of(labels: Path, image: Path) -> bool:
    return (
        labels != image
        and _is_labels(labels)
        and labels.name.lower().endswith(_SUFFIXES)
        and _get_base_name(labels) == _get_base_name(image)
    )


def _find_inner_labels(store: Path) -> Path | None:
    """Find the labels inside an OME-Zarr; None if it has none. Raises FileError for several."""
    folder = store / "labels"
    if not folder.is_dir():
        return None
    names = sorted(child for child in folder.iterdir() if child.is_dir() and is_store(child))
    if len(names) > 1:
        raise FileError(
            f"{store}: holds {len(names)} label images "
            f"({', '.join(child.name for child in names)}): expected one"
        )
    return names[0] if names else None
