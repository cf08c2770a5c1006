"""Packages that only some files need: what is missing is named, and how to get it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from napari_sam2.core.errors import FileError

MEDICAL, VIDEO, MICROSCOPES, EXPORT = "medical", "video", "microscopes", "export"
"""Extras of this package, as in ``pip install 'napari-sam2[medical]'``."""


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """The module `module`; raises FileError that says which extra `purpose` needs, where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise FileError(
            f"{purpose} needs the package {module.split('.')[0]}: pip install 'napari-sam2[{extra}]'"
        ) from error
