"""Record: the card of a checkpoint as it is written down, in ``name.json`` beside ``name.safetensors`` and inside it."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_sam2.core.card import ModelCard
from napari_sam2.core.errors import CheckpointError

CARD_KEY = "card"
"""Under which a card stands in the header of a safetensors file (without the SHA-256, which no file can say of itself)."""


def read_card(path: Path) -> ModelCard | None:
    """The card in the JSON file beside a safetensors file, else the one in its header, else None.

    Raises CheckpointError for a card that cannot be read or has fields nobody knows, and for a file
    that is cut off.
    """
    if path.suffix != ".safetensors":
        return None
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        return _parse_card(read_text(sidecar), sidecar)
    text = read_header(path).get(CARD_KEY)
    return _parse_card(text, path) if text else None


def card_to_json(card: ModelCard) -> str:
    """The card as JSON, one field a line."""
    return json.dumps(card.to_dict(), indent=2, ensure_ascii=False) + "\n"


def read_header(path: Path) -> dict[str, str]:
    """The free text in the header of a safetensors file.

    Raises CheckpointError where it is cut off or none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: cut off, or no safetensors file ({error}); get it again"
        ) from error


def read_text(path: Path) -> str:
    """The text in the file. Raises CheckpointError where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


class _CardFile(BaseModel):
    model_config = ConfigDict(extra="forbid")  # handed down to the card

    card: ModelCard


def _parse_card(text: str, path: Path) -> ModelCard:
    try:
        values = json.loads(text)
        fields = ModelCard.rename_fields(values) if isinstance(values, dict) else values
        return _CardFile.model_validate({"card": fields}).card
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc'][1:])) or 'the whole'}: {each['msg']}"
            for each in error.errors()
        )
        raise CheckpointError(
            f"{path}: no card of a model ({wrong}); expected the fields of ModelCard"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: no JSON ({error}); expected the card of a model") from error
