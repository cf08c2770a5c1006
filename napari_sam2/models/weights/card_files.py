"""Cards in files: ``name.json`` beside ``name.safetensors``, and the header of the latter."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError

CARD_KEY = "card"
"""Key of the card in the header of a safetensors file.

That card has no SHA-256, because a file cannot hold its own hash.
"""


def read_card(path: Path) -> ModelCard | None:
    """The card in the JSON file beside a safetensors file, else in its header, else None.

    Raises CheckpointError if the card cannot be read or has unknown fields, or if the file is
    truncated.
    """
    if path.suffix != ".safetensors":
        return None
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        return _parse_card(read_text(sidecar), sidecar)
    text = read_header(path).get(CARD_KEY)
    return _parse_card(text, path) if text else None


def card_to_json(card: ModelCard) -> str:
    """The card as JSON, one field per line."""
    return json.dumps(card.to_dict(), indent=2, ensure_ascii=False) + "\n"


def read_header(path: Path) -> dict[str, str]:
    """The texts in the header of a safetensors file.

    Raises CheckpointError if the file is truncated or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: truncated, or not a safetensors file ({error}); get it again"
        ) from error


def read_text(path: Path) -> str:
    """The text of a file. Raises CheckpointError if it is not valid UTF-8 or cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


class _CardFile(BaseModel):
    model_config = ConfigDict(extra="forbid")  # pydantic applies it to the card too

    card: ModelCard


def _parse_card(text: str, path: Path) -> ModelCard:
    try:
        values = json.loads(text)
        fields = ModelCard.rename_fields(values) if isinstance(values, dict) else values
        return _CardFile.model_validate({"card": fields}).card
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc'][1:])) or 'all'}: {each['msg']}"
            for each in error.errors()
        )
        raise CheckpointError(
            f"{path}: not a model card ({wrong}); expected the fields of ModelCard"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); expected a model card") from error
