"""Checkpoint files: find, read, write and verify them."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError, FileError, OutputError
from napari_sam2.models.weights import card_files
from napari_sam2.models.weights.cards import (
    DETECTOR_SUFFIX,
    find_published_card,
    locate,
    verify_card,
)
from napari_sam2.models.weights.files import compute_sha256, replace_atomically
from napari_sam2.models.weights.unpickling import read_pickled_tensors

if TYPE_CHECKING:
    from torch import Tensor

_KINDS = "a .safetensors file, or a .pt or .pth file of PyTorch"


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The file of a model given by its name or path.

    Raises
    ------
    UnknownModelError
        No model has this name.
    FileError
        The file is not on this machine; the text tells how to fetch it.
    """
    model = locate(name_or_path)
    if model.path is None:
        size = f" ({model.size_bytes / 1e6:.0f} MB)" if model.size_bytes else ""
        raise FileError(
            f"model {model.card.name!r} is not on this machine: fetch it with `napari-sam2 "
            f"models fetch {model.card.name}`{size}"
        )
    return model.path


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a checkpoint on the CPU, and its metadata.

    The first bytes tell the kind of the file. No code in it is run.

    Returns
    -------
    tensors
        By their names in the file.
    metadata
        The texts in the header of a safetensors file, and the ``config.json`` of transformers
        beside it under "config". Empty for a ``.pt`` file.

    Raises
    ------
    FileError
        The file does not exist or is empty.
    CheckpointError
        The file is truncated or not a checkpoint, or has weights that are not finite.
    """
    start = _read_first_bytes(path)
    if start[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        tensors, metadata = _read_safetensors(path)
        _check_finite(tensors, path)
        return tensors, metadata
    if start[:2] == b"PK" or start[:1] == b"\x80":  # zip, or a pickle of protocol 2 and later
        tensors = read_pickled_tensors(path)
        _check_finite(tensors, path)
        return tensors, {}
    raise CheckpointError(
        f"{path}: not a checkpoint, it starts with {start[:12]!r}; expected {_KINDS}"
    )


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for weights that are NaN or infinite: every mask would be empty."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path}: {name} is not finite (NaN or infinity): the training diverged, or the "
                "file is damaged; take an earlier checkpoint"
            )


def write_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    card: ModelCard,
    *,
    metadata: Mapping[str, str] | None = None,
) -> ModelCard:
    """Write ``name.safetensors``, and its card as ``name.json`` beside it.

    Each file is complete when it appears.

    Parameters
    ----------
    metadata
        More texts for the header.

    Returns
    -------
    ModelCard
        The card with the SHA-256 of the file.

    Raises
    ------
    OutputError
        The file cannot be written, or its name does not end in .safetensors.
    """
    if path.suffix != ".safetensors":
        raise OutputError(f"{path}: expected a name ending in .safetensors")
    texts = {
        **(metadata or {}),
        "format": "pt",
        card_files.CARD_KEY: card_files.card_to_json(replace(card, sha256="")),
    }
    with replace_atomically(path) as temporary:
        _save_safetensors(temporary, tensors, texts)
        written = replace(card, sha256=compute_sha256(temporary))
    with replace_atomically(path.with_suffix(".json")) as temporary:
        temporary.write_text(card_files.card_to_json(written), encoding="utf-8")
    return written


def write_detector(model: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write the detector of a model beside its checkpoint, in half precision; return its SHA-256.

    The card of the model has to name the hash. Raises OutputError if it cannot be written.
    """
    half = {name: tensor.half() for name, tensor in tensors.items()}
    with replace_atomically(model.with_name(model.stem + DETECTOR_SUFFIX)) as temporary:
        _save_safetensors(temporary, half, {"format": "pt", "content": "detector"})
        return compute_sha256(temporary)


def verify_checkpoint(name_or_path: str | Path) -> ModelCard:
    """The card of a checkpoint whose SHA-256 is as expected.

    Raises
    ------
    CheckpointError
        The SHA-256 is another one, or the expected one is not known.
    FileError
        The file is not on this machine.
    """
    model = locate(name_or_path)
    path = find_checkpoint(name_or_path)
    card = verify_card(model)
    if model.card.sha256:
        return card
    published = find_published_card(card.sha256)
    if published is None:
        raise CheckpointError(
            f"{path}: its SHA-256 is {card.sha256}, but no card has the expected one to compare "
            "it with"
        )
    return published


def _read_first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not start:
        raise FileError(f"{path}: is empty; expected {_KINDS}")
    return start


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors.torch import load_file

    metadata = card_files.read_header(path)
    config = path.with_name("config.json")
    if config.is_file() and path.name == "model.safetensors":  # transformers' file names
        metadata = {"config": card_files.read_text(config), **metadata}
    return load_file(path), metadata


def _save_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # safetensors refuses tensors that share memory or have gaps, so each gets a copy.
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(own, path, metadata=metadata)
        path.chmod(0o644)  # safetensors makes it readable by its owner only
    except SafetensorError as error:
        if os.strerror(errno.ENOSPC) in str(error):  # safetensors gives no error code
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise OutputError(f"{path.name} cannot be written ({error})") from error
