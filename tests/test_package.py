"""What `import napari_sam2` loads and which names it has."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import napari_sam2

HEAVY = {
    "torch": {"torch", "torchvision", "transformers"},
    "qt": {"PyQt5", "PyQt6", "PySide2", "PySide6", "qtpy", "superqt", "pyqtgraph", "vispy"},
    "napari": {"napari", "npe2", "magicgui"},
    "tables and plots": {"pandas", "matplotlib"},
    "others": {"anywidget", "dask", "distributed", "skimage", "zarr"},
}

PUBLIC = [
    "BoxPrompt",
    "InferenceOptions",
    "MaskPrompt",
    "PointPrompt",
    "Session",
    "evaluate",
    "finetune",
    "load_model",
    "measure",
    "open_stack",
    "run_job",
    "track",
]


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """Top-level modules loaded by a fresh `import napari_sam2`."""
    code = "import sys, napari_sam2; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.parametrize("packages", HEAVY.values(), ids=HEAVY)
def test_import_loads_no_heavy_package(imported: set[str], packages: set[str]) -> None:
    assert "napari_sam2" in imported
    assert not imported & packages


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_resolves_and_is_listed(name: str) -> None:
    assert callable(getattr(napari_sam2, name))
    assert name in napari_sam2.__all__
    assert name in dir(napari_sam2)


def test_all_public_names_resolve() -> None:
    assert [name for name in napari_sam2.__all__ if not hasattr(napari_sam2, name)] == []


def test_no_submodule_has_a_public_name() -> None:
    """A loaded submodule becomes an attribute of the package and would replace the function."""
    submodules = {module.name for module in pkgutil.iter_modules(napari_sam2.__path__)}
    assert submodules & set(napari_sam2.__all__) == set()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'obj_idx'"):
        napari_sam2.obj_idx  # noqa: B018
