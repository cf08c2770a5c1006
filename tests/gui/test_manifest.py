"""What napari may ask of us: the manifest, and that all it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import napari_sam2

npe2 = pytest.importorskip("npe2", reason="napari is not installed")

MANIFEST = Path(napari_sam2.__file__).parent / "napari.yaml"
ROOT = Path(__file__).parents[2]


def test_the_manifest_is_valid_and_found_by_its_entry_point() -> None:
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    (entry,) = [
        each for each in entry_points(group="napari.manifest") if each.name == "napari-sam2"
    ]
    assert entry.value == "napari_sam2:napari.yaml"


def test_the_panel_is_offered_under_plugins_and_layers_and_the_samples_under_file() -> None:
    contributions = npe2.PluginManifest.from_file(MANIFEST).contributions
    assert [widget.command for widget in contributions.widgets] == ["napari-sam2.panel"]
    assert [item.command for item in contributions.menus["napari/layers/segment"]] == [
        "napari-sam2.panel"
    ]
    assert {sample.key for sample in contributions.sample_data} == {"nuclei_z", "migration_t"}


def test_the_napari_extra_brings_no_qt_binding() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (needed,) = re.findall(r"^napari = \[(.*)\]$", text, flags=re.M)
    assert not re.search(r"pyqt\d|pyside", needed, flags=re.I)


def test_the_controller_needs_neither_qt_nor_napari() -> None:
    code = (
        "import sys\n"
        "for name in ('qtpy', 'PyQt6', 'napari', 'superqt', 'vispy'): sys.modules[name] = None\n"
        "import napari_sam2.gui.app.controller, napari_sam2.gui.layers.layer_axes\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
