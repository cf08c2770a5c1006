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
from napari_sam2.models.weights.card_files import card_of
from napari_sam2.models.weights.files import cache, embedded, sha256_of
from napari_sam2.models.weights.published import PUBLISHED

SUFFIXES = (".safetensors", ".pt", ".pth")
PLUG_INS = "napari_sam2.models"
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


def known() -> dict[str, KnownModel]:
    """Every model by name: embedded, published, imported, plugged in.

    Where a name is there twice, the first of these.
    """
    models: dict[str, KnownModel] = {}
    for found in (
        _recorded(embedded(), "embedded"),
        _published(),
        _recorded(cache(), "imported"),
        _plugged_in(),
    ):
        models.update({name: model for name, model in found.items() if name not in models})
    return models


def list_models() -> list[KnownModel]:
    """Every known model: those on this machine first."""
    return sorted(known().values(), key=lambda model: model.path is None)


def locate(name_or_path: str | Path) -> KnownModel:
    """The model of that name, else the one in that file or folder; nothing is read but its card.

    Raises UnknownModelError where nothing is called so, FileError where a path leads nowhere.
    """
    models = known()
    if isinstance(name_or_path, str) and name_or_path in models:
        return models[name_or_path]
    path = Path(name_or_path).expanduser()
    if str(name_or_path) and path.exists():
        return _of_path(path)
    if isinstance(name_or_path, Path) or path.suffix in SUFFIXES or len(path.parts) > 1:
        raise FileError(
            f"{str(name_or_path)!r}: no such file; expected a checkpoint ({', '.join(SUFFIXES)}) "
            "or a model folder"
        )
    raise unknown(str(name_or_path), models)


def card_for(name_or_path: str | Path) -> ModelCard:
    """What the model is; `sha256` is that of the file as it is now, checked against what its card says.

    Reads the whole file, where it is on this machine. Raises UnknownModelError, FileError, and
    CheckpointError for a file that was changed or damaged.
    """
    return identified(locate(name_or_path))


def identified(model: KnownModel) -> ModelCard:
    """The card of `model` with the SHA-256 of its file.

    Raises CheckpointError where its card says another.
    """
    card, path = model.card, model.path
    if path is None:
        return card
    actual = sha256_of(path)
    if card.sha256 and card.sha256 != actual:
        raise CheckpointError(
            f"{card.name}: {path} has SHA-256 {actual}, its card says {card.sha256}: the file "
            "was changed or damaged; "
            "remove it and fetch or import it again"
        )
    return replace(card, sha256=actual)


def published_with(sha256: str) -> ModelCard | None:
    """The card of the published checkpoint with that sum, None where there is none."""
    return next((each.card for each in PUBLISHED.values() if each.card.sha256 == sha256), None)


def unknown(name: str, models: Mapping[str, object]) -> UnknownModelError:
    """What to tell a person who asked for a `name` that none of the `models` has."""
    near = difflib.get_close_matches(name, models, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UnknownModelError(
        f"no model is called {name!r}: {hint}expected one of {', '.join(models)}, or the path of "
        f"a checkpoint ({', '.join(SUFFIXES)})"
    )


def name_of(path: Path) -> str:
    """What a model without a card is called: its file without the suffix, or its folder."""
    path = path.absolute()
    return path.name if path.is_dir() else path.stem


def _recorded(folder: Path, state: State) -> dict[str, KnownModel]:
    """The checkpoints in `folder` that have a card; others there are no models of their own."""
    models = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            card, now = card_of(path), state
        except CheckpointError as error:
            card, now = ModelCard(path.stem, description=str(error)), "damaged"
        if card is not None:
            models[card.name] = KnownModel(card, now, path, path.stat().st_size)
    return models


def _published() -> dict[str, KnownModel]:
    models = {}
    for name, each in PUBLISHED.items():
        path = cache() / each.filename
        there = path.is_file()
        models[name] = KnownModel(
            each.card, "fetched" if there else "available", path if there else None, each.size_bytes
        )
    return models


def _plugged_in() -> dict[str, KnownModel]:
    """Names only: what they bring is loaded when it is asked for."""
    brought = {
        entry.name: entry.dist.name if entry.dist else entry.value
        for entry in entry_points(group=PLUG_INS)
    }
    return {
        name: KnownModel(ModelCard(name, description=f"brought by {package}"), "plug-in")
        for name, package in brought.items()
    }


def _of_path(path: Path) -> KnownModel:
    """The model in a file, or in a folder as transformers writes it."""
    file = _in_folder(path) if path.is_dir() else path
    return KnownModel(
        card_of(file) or ModelCard(name_of(path), source=file.name),
        "file",
        file,
        file.stat().st_size,
    )


def _in_folder(folder: Path) -> Path:
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
