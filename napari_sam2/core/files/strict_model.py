"""Base of the pydantic models of our files, and the text of a validation error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

_MAX_VALUE_CHARS = 60


class StrictModel(BaseModel):
    """A frozen model: unknown fields, NaN and infinity are errors; files use the aliases."""

    model_config = ConfigDict(
        serialize_by_alias=True, extra="forbid", frozen=True, allow_inf_nan=False
    )


def format_validation_error(error: ValidationError) -> str:
    """One line: the first wrong field, what is wrong with it, and how many more are wrong."""
    first, *others = error.errors(include_url=False, include_context=False)
    field = ".".join(str(part) for part in first["loc"])
    value = repr(first["input"])
    if len(value) >= _MAX_VALUE_CHARS:
        value = value[: _MAX_VALUE_CHARS - 3] + "…"
    text = f"{field}: {first['msg']}, got {value}" if field else first["msg"]
    return f"{text} (and {len(others)} more)" if others else text
