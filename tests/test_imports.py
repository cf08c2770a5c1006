"""Which folder may import what: the packages nobody may use elsewhere.

The layers themselves: lint-imports, in pyproject.toml.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "napari_sam2"
HOMES = {
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
"""Folders of the package that may import a package, at the top of a module, in a function or for types only."""


@pytest.mark.parametrize("package", HOMES)
def test_package_is_imported_only_where_it_belongs(package: str) -> None:
    strays = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path, line, name in _imports(PACKAGE)
        if _within(name, package) and path.relative_to(PACKAGE).parts[0] not in HOMES[package]
    ]
    assert strays == []


def test_the_core_imports_nothing_of_ours_but_itself() -> None:
    ours = [name for _, _, name in _imports(PACKAGE / "core") if _within(name, "napari_sam2")]
    assert ours
    assert [name for name in ours if not _within(name, "napari_sam2.core")] == []


@pytest.mark.parametrize(
    ("source", "found"),
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
        "a module of that name",
    ],
)
def test_stray_import_is_seen(tmp_path: Path, source: str, found: bool) -> None:
    (tmp_path / "module.py").write_text(source)
    strays = [
        name
        for _, _, name in _imports(tmp_path)
        if _within(name, "torch") or _within(name, "dask.distributed")
    ]
    assert bool(strays) is found


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _imports(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """Every imported name with its file and line; ``from a import b`` is ``a.b``."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield from (
                    (path, node.lineno, f"{node.module}.{alias.name}") for alias in node.names
                )
