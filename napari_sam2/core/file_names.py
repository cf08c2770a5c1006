"""Field names in files, where they differ from those in the code: files of earlier versions stay valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def to_file_names(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`values` by their names in files; `names` maps a name in the code to the one in files."""
    return {names.get(name, name): value for name, value in values.items()}


def from_file_names(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The inverse of `to_file_names`; names of the code are accepted, too."""
    in_code = {in_file: name for name, in_file in names.items()}
    return {in_code.get(name, name): value for name, value in values.items()}
