"""Checkpoints from elsewhere, made models of this user: recognised, validated, converted, kept under a name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, FileError
from napari_sam2.models.weights import checkpoints
from napari_sam2.models.weights.card_files import read_card
from napari_sam2.models.weights.cards import (
    KnownModel,
    find_models,
    find_published_card,
    get_model_name,
)
from napari_sam2.models.weights.files import compute_sha256, get_cache_folder, replace_atomically
from napari_sam2.models.weights.published import PUBLISHED

if TYPE_CHECKING:
    from torch import Tensor


def import_checkpoint(
    path: str | Path,
    *,
    name: str | None = None,
    input_size: int | None = None,
    configuration: str | None = None,
) -> KnownModel:
    """Make a checkpoint known by a name: that of the file, or `name`.

    Takes Meta's ``.pt`` (``{"model": …}``) and fine-tunes of it, bare state dicts, safetensors
    files, and folders as transformers saves them. A copy is kept in the user's cache as safetensors
    with a card that says where it came from; a published checkpoint, recognised by its SHA-256, is
    kept as it is and counts as fetched.

    `input_size` is the side of the input it was fine-tuned with, in pixels, which no weights tell:
    1024 unless given or written in the folder's ``config.json`` (MedSAM2: 512). `configuration` is
    that of a network of no published size, as JSON (`Configuration.to_json`).

    Raises FileError for a file that is not there, CheckpointError for one that is no SAM 2, is
    damaged or wants to run code, or whose name is taken; OutputError where the copy cannot be
    written.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise FileError(f"{str(path)!r}: no such file; expected a checkpoint or a model folder")
    file = checkpoints.find_checkpoint(source)
    sha256 = compute_sha256(file)
    published = find_published_card(sha256)
    if published:
        return _copy_published(
            file,
            published,
            options={"name": name, "input_size": input_size, "configuration": configuration},
        )
    card = replace(
        _make_card(source, file, sha256), name=_clean_name(name or get_model_name(source))
    )
    _check_name_free(card, source)
    tensors, metadata = checkpoints.read_checkpoint(file)
    card, metadata = _set_input_size(card, metadata, input_size)
    metadata.update({"configuration": configuration} if configuration else {})
    _validate_weights(tensors, metadata, source)
    checkpoints.write_checkpoint(
        get_cache_folder() / f"{card.name}.safetensors", tensors, card, metadata=metadata
    )
    return find_models()[card.name]


def _copy_published(file: Path, card: ModelCard, *, options: Mapping[str, object]) -> KnownModel:
    """A published checkpoint, put where fetching would have put it."""
    if any(options.values()):
        names = ", ".join(option for option, value in options.items() if value)
        raise CheckpointError(
            f"{file}: is {card.name!r} as published, and is kept as that: leave out {names}"
        )
    target = get_cache_folder() / PUBLISHED[card.name].filename
    if not (target.exists() and target.samefile(file)):
        with replace_atomically(target) as temporary:
            shutil.copyfile(file, temporary)
    return find_models()[card.name]


def _check_name_free(card: ModelCard, source: Path) -> None:
    """Raise CheckpointError where another model has that name; the same file may be imported again, with other options."""
    there = find_models().get(card.name)
    if there is None or (
        there.path
        and there.path.parent == get_cache_folder()
        and (there.state == "damaged" or there.card.source == card.source)
    ):
        return
    raise CheckpointError(
        f"{source}: a model is called {card.name!r} already ({there.state}): import this one "
        "under another name"
    )


def _set_input_size(
    card: ModelCard, metadata: dict[str, str], input_size: int | None
) -> tuple[ModelCard, dict[str, str]]:
    """With the input size given, else that of the ``config.json`` of transformers, in both of the places that say it."""
    try:
        config = json.loads(metadata.get("config", "{}"))
        size = input_size or config.get("image_size")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(
            f"config.json beside the checkpoint cannot be read ({error})"
        ) from error
    if not size:
        return card, metadata
    if "config" in metadata:
        metadata = {**metadata, "config": json.dumps({**config, "image_size": size})}
    return replace(card, input_sizes=(int(size),)), metadata


def _make_card(source: Path, file: Path, sha256: str) -> ModelCard:
    """The card the file brings along, or a plain one; either says what was imported."""
    card = read_card(file) or ModelCard(get_model_name(source))
    origin = f"imported from {source.name}, SHA-256 {sha256}"
    return replace(card, source=f"{card.source}; {origin}" if card.source else origin)


def _clean_name(requested: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", requested).strip("-.")
    if not name:
        raise CheckpointError(f"name {requested!r}: expected letters, digits, '.', '_' or '-'")
    return name


def _validate_weights(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], source: Path
) -> None:
    """Raise CheckpointError unless the network that these tensors belong to can be built and takes them all."""
    from napari_sam2.models.load import build_network
    from napari_sam2.models.weights.key_mapping import rename_keys

    try:
        build_network(rename_keys(tensors), metadata)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
