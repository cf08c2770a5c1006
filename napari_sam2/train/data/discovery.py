"""Found data: what lies in a folder, by the layouts that labs and challenges use."""

from __future__ import annotations

import re
from pathlib import Path

from napari_sam2.core.errors import FileError, LabelsError
from napari_sam2.io.readers.folder import PICTURE_SUFFIXES, TIFF_SUFFIXES, natural
from napari_sam2.io.readers.zarr import is_store
from napari_sam2.train.data.annotated import Reading, all_pairs, pairs_of
from napari_sam2.train.data.ctc import is_ctc, open_ctc
from napari_sam2.train.data.packs import open_pack
from napari_sam2.train.data.pairs import Pair

LABEL_WORDS = ("labels", "label", "masks", "mask", "seg", "segmentation")
"""What a file or folder of labels is called: ``cells_labels.tif`` beside ``cells.tif``, ``masks/`` beside ``images/``."""

IMAGE_FOLDERS = ("images", "image", "raw", "img")

_IMAGE_WORDS = ("image", "img", "raw")
_ENDINGS = (
    ".ome.tif",
    ".ome.tiff",
    ".ome.zarr",
    ".zarr",
    *TIFF_SUFFIXES,
    *PICTURE_SUFFIXES,
    ".npy",
)


def find_pairs(path: str | Path, *, how: Reading | None = None) -> list[Pair]:
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
            return open_ctc(path, how=how)
        if (path / "manifest.csv").is_file():
            return open_pack(path)
        return all_pairs(_in_folder(path), how=how)
    inside = _inside(path)
    if inside is not None:
        return pairs_of(path, inside, how=how)
    images = [file for file in path.parent.iterdir() if _belongs(file, path)]
    if not images:
        words = ", ".join(f"_{word}" for word in LABEL_WORDS[:4])
        raise FileError(
            f"{path}: no labels beside it: expected a file of the same name ending in {words}"
        )
    return pairs_of(path, sorted(images)[0], how=how)


def _in_folder(folder: Path) -> list[tuple[Path, Path]]:
    """Images and labels of a folder, by subfolders or by name."""
    inner = {child.name.lower(): child for child in folder.iterdir() if child.is_dir()}
    images = next((inner[name] for name in IMAGE_FOLDERS if name in inner), None)
    labels = next((inner[name] for name in LABEL_WORDS if name in inner), None)
    if images and labels:
        return _by_name(_files(images), _files(labels), folder)
    files = _files(folder)
    truths = [file for file in files if _is_labels(file)]
    pairs = [
        (image, truth)
        for truth in truths
        for image in files
        if not _is_labels(image) and _belongs(truth, image)
    ]
    if not pairs:
        raise FileError(
            f"{folder}: no image with its labels: expected NAME.tif with NAME_labels.tif, "
            "folders images and masks, or 01 with 01_GT"
        )
    return pairs


def _by_name(images: list[Path], labels: list[Path], folder: Path) -> list[tuple[Path, Path]]:
    truths = {_bare(file): file for file in labels}
    lacking = [image.name for image in images if _bare(image) not in truths]
    if lacking or not images:
        raise LabelsError(
            f"{folder}: {len(lacking)} of {len(images)} images have no labels of the same name "
            f"({', '.join(lacking[:3])}): "
            "expected one for each"
        )
    return [(image, truths[_bare(image)]) for image in images]


def _files(folder: Path) -> list[Path]:
    return sorted(
        (
            file
            for file in folder.iterdir()
            if file.name.lower().endswith(_ENDINGS) and not file.name.startswith(".")
        ),
        key=natural,
    )


def _stem(file: Path) -> str:
    name = file.name.lower()
    return next((name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)), name)


def _bare(file: Path) -> str:
    """The name without its ending and without the word that says what it is."""
    words = "|".join((*LABEL_WORDS, *_IMAGE_WORDS))
    return re.sub(rf"[_\-. ]({words})$", "", _stem(file))


def _is_labels(file: Path) -> bool:
    return re.search(rf"[_\-. ]({'|'.join(LABEL_WORDS)})$", _stem(file)) is not None


def _belongs(labels: Path, image: Path) -> bool:
    return (
        labels != image
        and _is_labels(labels)
        and labels.name.lower().endswith(_ENDINGS)
        and _bare(labels) == _bare(image)
    )


def _inside(store: Path) -> Path | None:
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
