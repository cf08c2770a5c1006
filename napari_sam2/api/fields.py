"""Fields: what a caller or a file says, checked and told of in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from napari_sam2.core.errors import PlanError


class ValidatedModel(BaseModel):
    """A pydantic model whose wrong fields are errors of ours."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """One of these fields. Raises PlanError with one line where one of them cannot be."""
        try:
            return cls(**fields)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(str(part) for part in each['loc'])} is {each['input']!r}: {each['msg']}"
                for each in error.errors()
            )
            raise PlanError(wrong) from error
