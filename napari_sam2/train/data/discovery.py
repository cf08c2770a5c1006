"""Found data: what lies in a folder, by the layouts that labs and challenges use."""

from __future__ import annotations

import re
from pathlib import Path

from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.io.readers.folder import get_natural_sort_key
from napari_sam2.io.readers.registry import PLANE_FILE_SUFFIXES
from napari_sam2.io.readers.zarr import is_store
from napari_sam2.train.data.annotated import ReadOptions, open_all_pairs, open_pairs
from napari_sam2.train.data.ctc import is_ctc, open_ctc
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.data.pairs import AnnotatedStack

LABEL_WORDS = ("labels", "label", "masks", "mask", "seg", "segmentation")
"""What a file or folder of labels is called: ``cells_labels.tif`` beside ``cells.tif``, ``masks/`` beside ``images/``."""

IMAGE_FOLDERS = ("images", "image", "raw", "img")

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
    """The pairs that a path holds, in any of these layouts.

    - a Cell Tracking Challenge folder (``01`` with ``01_GT``),
    - a folder with ``manifest.csv`` and .npz files,
    - a folder with ``images`` and ``masks`` (or ``labels``) in it, files of the same name belonging together,
    - a folder of files, ``NAME_labels`` (or ``_mask``, ``_masks``, ``_seg``) beside ``NAME`` or ``NAME_img``,
    - one image of that kind, or an OME-Zarr with its labels inside.

    Raises FileError where there is none of these, and what `pairs_of` raises.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"{path}: is not there")
    if path.is_dir() and not is_store(path):
        if is_ctc(path):
            return open_ctc(path, options=options)
        if (path / "manifest.csv").is_file():
            return open_pack(path)
        return open_all_pairs(_find_in_folder(path), options=options)
    inside = _find_inner_labels(path)
    if inside is not None:
        return open_pairs(path, inside, options=options)
    images = [file for file in path.parent.iterdir() if _is_labels_of(file, path)]
    if not images:
        words = ", ".join(f"_{word}" for word in LABEL_WORDS[:4])
        raise FileError(
            f"{path}: no labels beside it: expected a file of the same name ending in {words}"
        )
    return open_pairs(path, sorted(images)[0], options=options)


def _find_in_folder(folder: Path) -> list[tuple[Path, Path]]:
    """Images and labels of a folder, by subfolders or by name."""
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
            f"{folder}: no image with its labels: expected NAME.tif with NAME_labels.tif, "
            "folders images and masks, or 01 with 01_GT"
        )
    return pairs


def _match_by_name(images: list[Path], labels: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    truths = {_get_base_name(file): file for file in labels}
    lacking = [image.name for image in images if _get_base_name(image) not in truths]
    if lacking or not images:
        raise LabelsError(
            f"{folder}: {len(lacking)} of {len(images)} images have no labels of the same name "
            f"({', '.join(lacking[:3])}): "
            "expected one for each"
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
    """The name without its ending and without the word that says what it is."""
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
    """The labels of an OME-Zarr, None where it has none; FileError where it has several."""
    folder = store / "labels"
    if not folder.is_dir():
        return None
    names = sorted(child for child in folder.iterdir() if child.is_dir() and is_store(child))
    if len(names) > 1:
        raise FileError(
            f"{store}: holds {len(names)} label images "
            f"({', '.join(child.name for child in names)}): keep one beside the image"
        )
    return names[0] if names else None
