"""What the window's own thread never does: import torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_sam2.models.device import reserve_core

pytest.importorskip("napari", reason="napari is not installed")

_IMPORT = """
import sys
import napari_sam2.gui.widgets.panel
import napari_sam2.gui.widgets.training_tab, napari_sam2.gui.widgets.tables.tables_tab
print(*(name for name in ("torch", "transformers") if name in sys.modules))
"""


def test_the_panel_is_imported_without_torch() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", _IMPORT], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()
    assert loaded == []


@pytest.mark.parametrize(
    ("cores", "threads"), [(1, 1), (2, 1), (3, 2)], ids=["one core", "two cores", "three cores"]
)
def test_the_window_is_left_a_core(cores: int, threads: int) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert reserve_core(cores) == torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
