"""Which folder may import which package; import-linter checks the layers (pyproject.toml)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "napari_sam2"
ALLOWED_FOLDERS = {
    "torch": {"models", "train"},
    "transformers": {"models", "train"},
    "qtpy": {"gui"},
    "PyQt5": {"gui"},
    "PyQt6": {"gui"},
    "PySide6": {"gui"},
    "superqt": {"gui"},
    "pyqtgraph": {"gui"},
    "napari": {"gui"},
    "magicgui": {"gui"},
    "anywidget": {"notebook"},
    "ipywidgets": {"notebook"},
    "distributed": {"batch"},
    "dask.distributed": {"batch"},
}
"""Folders that may import a package: in a module, in a function or for types only."""


@pytest.mark.parametrize("package", ALLOWED_FOLDERS)
def test_package_is_imported_only_in_its_folders(package: str) -> None:
    strays = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path, line, name in _list_imports(PACKAGE)
        if _is_within(name, package)
        and path.relative_to(PACKAGE).parts[0] not in ALLOWED_FOLDERS[package]
    ]
    assert strays == []


def test_core_imports_no_other_layer() -> None:
    internal = [
        name for _, _, name in _list_imports(PACKAGE / "core") if _is_within(name, "napari_sam2")
    ]
    assert internal
    assert [name for name in internal if not _is_within(name, "napari_sam2.core")] == []


@pytest.mark.parametrize(
    ("source", "stray"),
    [
        ("import torch.nn", True),
        ("def f():\n    from torch import nn", True),
        ("if TYPE_CHECKING:\n    import torch", True),
        ("from dask import distributed", True),
        ("import torchlight", False),
        ("from napari_sam2.core import torch", False),
    ],
    ids=[
        "submodule",
        "in a function",
        "for types",
        "as a name",
        "another package",
        "a module with the same name",
    ],
)
def test_stray_import_is_found(tmp_path: Path, source: str, stray: bool) -> None:
    (tmp_path / "module.py").write_text(source)
    strays = [
        name
        for _, _, name in _list_imports(tmp_path)
        if _is_within(name, "torch") or _is_within(name, "dask.distributed")
    ]
    assert bool(strays) is stray


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _list_imports(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """Every imported name with its file and line; ``from a import b`` is ``a.b``."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from (
                    (path, node.lineno, f"{node.module}.{alias.name}") for alias in node.names
                )
