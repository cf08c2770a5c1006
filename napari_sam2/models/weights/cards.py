"""Cards: which models there are, where each one is, and what it is."""

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

SUFFIXES = (".safetensors", ".pt", ".pth")
ENTRY_POINT_GROUP = "napari_sam2.models"
"""Entry point group under which other packages bring models."""

State = Literal["embedded", "fetched", "imported", "available", "damaged", "plug-in", "file"]


@dataclass(frozen=True)
class KnownModel:
    """A model one can ask for.

    `state`: *embedded* in the package, *fetched* from where it is published, *imported* by this
    user, *available* for fetching, *damaged* (its card cannot be read: the description says why),
    brought by a *plug-in*, or a *file* named by its path. `path` is None where the file is not on
    this machine, `size_bytes` None where it is not known.
    """

    card: ModelCard
    state: State
    path: Path | None = None
    size_bytes: int | None = None


def find_models() -> dict[str, KnownModel]:
    """Every model by name: embedded, published, imported, plugged in.

    Where a name is there twice, the first of these.
    """
    models: dict[str, KnownModel] = {}
    for found in (
        _find_models_in(get_embedded_folder(), "embedded"),
        _find_published(),
        _find_models_in(get_cache_folder(), "imported"),
        _find_plugins(),
    ):
        models.update({name: model for name, model in found.items() if name not in models})
    return models


def list_models() -> list[KnownModel]:
    """Every known model: those on this machine first."""
    return sorted(find_models().values(), key=lambda model: model.path is None)


def locate(name_or_path: str | Path) -> KnownModel:
    """The model of that name, else the one in that file or folder; nothing is read but its card.

    Raises UnknownModelError where nothing is called so, FileError where a path leads nowhere.
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
    """What the model is; `sha256` is that of the file as it is now, checked against what its card says.

    Reads the whole file, where it is on this machine. Raises UnknownModelError, FileError, and
    CheckpointError for a file that was changed or damaged.
    """
    return verify_card(locate(name_or_path))


def verify_card(model: KnownModel) -> ModelCard:
    """The card of `model` with the SHA-256 of its file.

    Raises CheckpointError where its card says another.
    """
    card, path = model.card, model.path
    if path is None:
        return card
    actual = compute_sha256(path)
    if card.sha256 and card.sha256 != actual:
        raise CheckpointError(
            f"{card.name}: {path} has SHA-256 {actual}, its card says {card.sha256}: the file "
            "was changed or damaged; "
            "remove it and fetch or import it again"
        )
    return replace(card, sha256=actual)


def find_published_card(sha256: str) -> ModelCard | None:
    """The card of the published checkpoint with that sum, None where there is none."""
    return next((each.card for each in PUBLISHED.values() if each.card.sha256 == sha256), None)


def make_unknown_model_error(name: str, models: Mapping[str, object]) -> UnknownModelError:
    """What to tell a person who asked for a `name` that none of the `models` has."""
    near = difflib.get_close_matches(name, models, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownModelError(
        f"no model is called {name!r}: {hint}expected one of {', '.join(models)}, or the path of "
        f"a checkpoint ({', '.join(SUFFIXES)})"
    )


def get_model_name(path: Path) -> str:
    """What a model without a card is called: its file without the suffix, or its folder."""
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def _find_models_in(folder: Path, state: State) -> dict[str, KnownModel]:
    """The checkpoints in `folder` that have a card; others there are no models of their own."""
    models = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            card, now = read_card(path), state
        except CheckpointError as error:
            card, now = ModelCard(path.stem, description=str(error)), "damaged"
        if card is not None:
            models[card.name] = KnownModel(card, now, path, path.stat().st_size)
    return models


def _find_published() -> dict[str, KnownModel]:
    models = {}
    for name, each in PUBLISHED.items():
        path = get_cache_folder() / each.filename
        there = path.is_file()
        models[name] = KnownModel(
            each.card, "fetched" if there else "available", path if there else None, each.size_bytes
        )
    return models


def _find_plugins() -> dict[str, KnownModel]:
    """Names only: what they bring is loaded when it is asked for."""
    brought = {
        entry.name: entry.dist.name if entry.dist else entry.value
        for entry in entry_points(group=ENTRY_POINT_GROUP)
    }
    return {
        name: KnownModel(ModelCard(name, description=f"brought by {package}"), "plug-in")
        for name, package in brought.items()
    }


def _make_model_for_path(path: Path) -> KnownModel:
    """The model in a file, or in a folder as transformers writes it."""
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
        f"{folder}: holds no model.safetensors; give a folder as transformers saves it, or a "
        "checkpoint file"
    )
