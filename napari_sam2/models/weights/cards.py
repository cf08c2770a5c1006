"""The known models, their files and their cards."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, FileError, UnknownModelError
from napari_sam2.models.weights.card_files import read_card
from napari_sam2.models.weights.files import compute_sha256, get_cache_folder, get_embedded_folder
from napari_sam2.models.weights.published import PUBLISHED

EMBEDDED = "nano"
"""The name of the embedded model."""

SUFFIXES = (".safetensors", ".pt", ".pth")
DETECTOR_SUFFIX = "-detector.safetensors"
"""A model's detector is a file of its own, named like its checkpoint with this at the end.

The hash of a checkpoint is the identity of the model in every project and cache. If the detector
were in the same file, a better detector would make all saved work that of another model.
"""
ENTRY_POINT_GROUP = "napari_sam2.models"
"""Entry point group of models in other packages."""

State = Literal["embedded", "fetched", "imported", "available", "damaged", "plug-in", "file"]


@dataclass(frozen=True)
class KnownModel:
    """A model that can be loaded, or fetched first.

    Parameters
    ----------
    state
        *embedded* in the package, *fetched* from its publisher, *imported* by this user,
        *available* to fetch, *damaged* (its card cannot be read; the description says why), from a
        *plug-in*, or a *file* given by its path.
    path
        None if the file is not on this machine.
    size_bytes
        None if it is not known.
    """

    card: ModelCard
    state: State
    path: Path | None = None
    size_bytes: int | None = None


def find_models() -> dict[str, KnownModel]:
    """All known models by name, those on this machine first.

    If a name exists twice, the embedded model wins over the published one, then the imported one,
    then the plug-in.
    """
    models: dict[str, KnownModel] = {}
    for group in (
        _find_models_in(get_embedded_folder(), "embedded"),
        _find_published(),
        _find_models_in(get_cache_folder(), "imported"),
        _find_plugins(),
    ):
        models.update({name: model for name, model in group.items() if name not in models})
    return dict(sorted(models.items(), key=lambda item: item[1].path is None))


def locate(name_or_path: str | Path) -> KnownModel:
    """The model of this name, else the one in this file or folder. Only its card is read.

    Raises
    ------
    UnknownModelError
        No model has this name.
    FileError
        The path does not exist.
    """
    models = find_models()
    if isinstance(name_or_path, str) and name_or_path in models:
        return models[name_or_path]
    path = Path(name_or_path).expanduser()
    if str(name_or_path) and path.exists():
        return _make_model_for_path(path)
    if isinstance(name_or_path, Path) or path.suffix in SUFFIXES or len(path.parts) > 1:
        raise FileError(
            f"{str(name_or_path)!r}: no such file; expected a checkpoint ({', '.join(SUFFIXES)}) "
            "or a model folder"
        )
    raise make_unknown_model_error(str(name_or_path), models)


def load_card(name_or_path: str | Path) -> ModelCard:
    """The verified card of a model.

    Its `sha256` is computed from the file if that is on this machine.

    Raises
    ------
    UnknownModelError, FileError
        See `locate`.
    CheckpointError
        The file was changed or damaged.
    """
    return verify_card(locate(name_or_path))


def verify_card(model: KnownModel) -> ModelCard:
    """The card of a model with the SHA-256 of its file.

    Raises CheckpointError if the card has another one.
    """
    card, path = model.card, model.path
    if path is None:
        return card
    actual = compute_sha256(path)
    if card.sha256 and card.sha256 != actual:
        raise CheckpointError(
            f"{card.name}: {path} has SHA-256 {actual}, its card {card.sha256}: the file was "
            "changed or damaged; remove it and fetch or import it again"
        )
    return replace(card, sha256=actual)


def find_detector(model: KnownModel) -> Path | None:
    """The verified file of a model's detector; None if it has none of its own.

    It lies beside the checkpoint, or, for a model that was made from another one, beside that.

    Raises
    ------
    FileError
        The file is not on this machine.
    CheckpointError
        The file was changed or damaged.
    """
    expected = model.card.detector_sha256
    if not expected or model.path is None:
        return None
    beside = model.path.with_name(model.path.stem + DETECTOR_SUFFIX)
    if beside.is_file():
        actual = compute_sha256(beside)
        if actual == expected:
            return beside
        raise CheckpointError(
            f"{beside}: has SHA-256 {actual}, the card of {model.card.name} says {expected}: the "
            "file was changed or damaged; get it again"
        )
    for folder in (get_embedded_folder(), get_cache_folder()):
        for path in sorted(folder.glob(f"*{DETECTOR_SUFFIX}")):
            if compute_sha256(path) == expected:
                return path
    raise FileError(
        f"{beside}: not on this machine, and the card of {model.card.name} says that the model has "
        "a detector: put its file there"
    )


def find_published_card(sha256: str) -> ModelCard | None:
    """The card of the published checkpoint with this SHA-256; None if there is none."""
    return next((each.card for each in PUBLISHED.values() if each.card.sha256 == sha256), None)


def make_unknown_model_error(name: str, models: Mapping[str, object]) -> UnknownModelError:
    """The error for a name that no model has; it suggests the most similar one."""
    near = difflib.get_close_matches(name, models, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownModelError(
        f"no model is called {name!r}: {hint}expected one of {', '.join(models)}, or the path of "
        f"a checkpoint ({', '.join(SUFFIXES)})"
    )


def get_model_name(path: Path) -> str:
    """The name of a model without a card: its file without the suffix, or its folder."""
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def _find_models_in(folder: Path, state: State) -> dict[str, KnownModel]:
    """The checkpoints in a folder that have a card; others are not models of their own."""
    models = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name.endswith(DETECTOR_SUFFIX):
            continue
        try:
            card, actual_state = read_card(path), state
        except CheckpointError as error:
            card, actual_state = ModelCard(path.stem, description=str(error)), "damaged"
        if card is not None:
            models[card.name] = KnownModel(card, actual_state, path, path.stat().st_size)
    return models


def _find_published() -> dict[str, KnownModel]:
    models = {}
    for name, each in PUBLISHED.items():
        path = get_cache_folder() / each.filename
        models[name] = (
            KnownModel(each.card, "fetched", path, each.size_bytes)
            if path.is_file()
            else KnownModel(each.card, "available", None, each.size_bytes)
        )
    return models


def _find_plugins() -> dict[str, KnownModel]:
    """The models of plug-ins, by name only: their code is not loaded."""
    packages = {
        entry.name: entry.dist.name if entry.dist else entry.value
        for entry in entry_points(group=ENTRY_POINT_GROUP)
    }
    return {
        name: KnownModel(ModelCard(name, description=f"from the package {package}"), "plug-in")
        for name, package in packages.items()
    }


def _make_model_for_path(path: Path) -> KnownModel:
    """The model in a file, or in a folder saved by transformers."""
    file = _find_weights_in(path) if path.is_dir() else path
    return KnownModel(
        read_card(file) or ModelCard(get_model_name(path), source=file.name),
        "file",
        file,
        file.stat().st_size,
    )


def _find_weights_in(folder: Path) -> Path:
    file = folder / "model.safetensors"
    if file.is_file():
        return file
    if (folder / "model.safetensors.index.json").is_file():
        raise FileError(
            f"{folder}: the model is split over several files; save it as one model.safetensors "
            "first"
        )
    raise FileError(
        f"{folder}: contains no model.safetensors; give a folder saved by transformers, or a "
        "checkpoint file"
    )
