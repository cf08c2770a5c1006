"""Optional packages, and the error that says which extra installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from napari_sam2.core.errors import MissingPackageError

# the extras of this package, as in ``pip install 'napari-sam2[medical]'``
ANNDATA = "anndata"
CLASSES = "classes"
CLUSTER = "cluster"
EVALUATE = "evaluate"
EXPORT = "export"
GEFF = "geff"
LORA = "lora"
MEDICAL = "medical"
MICROSCOPES = "microscopes"
NOTEBOOK = "notebook"
TABLES = "tables"
VIDEO = "video"


def import_extra(module: str, extra: str, purpose: str) -> Any:
    """Import `module`; raise MissingPackageError if its package is not installed.

    Parameters
    ----------
    module
        Dotted name, for example "pycocotools.mask".
    extra
        The extra of this package that installs it.
    purpose
        The subject of the message "`purpose` needs the package …".
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError(format_missing_package(module, extra, purpose)) from error


def format_missing_package(module: str, extra: str, purpose: str) -> str:
    """The message that names the package of `module` and the command that installs it."""
    package = module.split(".")[0]
    return f"{purpose} needs the package {package}: pip install 'napari-sam2[{extra}]'"
