"""Import of checkpoints from other sources: they are validated, converted and named."""

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
from napari_sam2.models.weights.transformers_config import parse_config, set_input_size

if TYPE_CHECKING:
    from torch import Tensor


def import_checkpoint(
    path: str | Path,
    *,
    name: str | None = None,
    input_size: int | None = None,
    configuration: str | None = None,
) -> KnownModel:
    """Copy a checkpoint into the user's cache, as safetensors with a card.

    A published checkpoint, recognised by its SHA-256, is copied as it is and counts as fetched.

    Parameters
    ----------
    path
        Meta's ``.pt`` (``{"model": …}``) or a fine-tune of it, a bare state dict, a safetensors
        file, or a folder saved by transformers.
    name
        Of the model; by default that of the file.
    input_size
        Side of the input in pixels, which weights do not tell (MedSAM2: 512). By default that in
        the folder's ``config.json``, else 1024.
    configuration
        Of a network of no published size, as JSON (`Configuration.to_json`).

    Raises
    ------
    FileError
        The file does not exist.
    CheckpointError
        The file is not a SAM 2 checkpoint, is damaged or contains code, or the name is taken.
    OutputError
        The copy cannot be written.
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
    card = set_input_size(card, metadata, input_size)
    if input_size and "config" in metadata:
        # Loading prefers the size in the config to that of the card.
        config = {**parse_config(metadata), "image_size": input_size}
        metadata = {**metadata, "config": json.dumps(config)}
    metadata.update({"configuration": configuration} if configuration else {})
    _validate_weights(tensors, metadata, source)
    checkpoints.write_checkpoint(
        get_cache_folder() / f"{card.name}.safetensors", tensors, card, metadata=metadata
    )
    return find_models()[card.name]


def _copy_published(file: Path, card: ModelCard, *, options: Mapping[str, object]) -> KnownModel:
    """Copy a published checkpoint to where fetching would put it."""
    if any(options.values()):
        names = ", ".join(option for option, value in options.items() if value)
        raise CheckpointError(
            f"{file}: is the published {card.name!r} and is imported unchanged: leave out {names}"
        )
    target = get_cache_folder() / PUBLISHED[card.name].filename
    if not (target.exists() and target.samefile(file)):
        with replace_atomically(target) as temporary:
            shutil.copyfile(file, temporary)
    return find_models()[card.name]


def _check_name_free(card: ModelCard, source: Path) -> None:
    """Raise CheckpointError if another model has this name.

    The same file may be imported again, with other options.
    """
    existing = find_models().get(card.name)
    if existing is None or (
        existing.path
        and existing.path.parent == get_cache_folder()
        and (existing.state == "damaged" or existing.card.source == card.source)
    ):
        return
    raise CheckpointError(
        f"{source}: the name {card.name!r} is taken by another model ({existing.state}): import "
        "this one under another name"
    )


def _make_card(source: Path, file: Path, sha256: str) -> ModelCard:
    """The file's own card or a new one, with the imported file and its SHA-256 as source."""
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
    """Raise CheckpointError unless a network can be built from exactly these tensors."""
    from napari_sam2.models.load import build_network
    from napari_sam2.models.weights.key_mapping import rename_keys

    try:
        build_network(rename_keys(tensors), metadata)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
