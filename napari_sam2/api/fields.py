"""ValidatedModel: fields from a caller or a file, with errors in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from napari_sam2.core.errors import PlanError


class ValidatedModel(BaseModel):
    """A pydantic model that raises PlanError for wrong fields."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Build the model; raise PlanError, with one line for all wrong fields."""
        try:
            return cls(**fields)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(str(part) for part in each['loc'])} is {each['input']!r}: {each['msg']}"
                for each in error.errors()
            )
            raise PlanError(wrong) from error
