"""Wells in paths, and names that only look like wells."""

from __future__ import annotations

import pytest

from napari_sam2.io.readers.plate import find_well


@pytest.mark.parametrize(
    ("path", "well"),
    [
        ("plate.zarr/B/3/0", "B03"),
        ("plate.ome.zarr/P/24/1", "P24"),
        ("plate.zarr/0", ""),
        ("plate1_B03_s2_w1.tif", "B03"),
        ("screen-H12.ome.tif", "H12"),
        ("B3.tif", "B03"),
        ("B3_field1.tif", "B03"),
        ("images/B03/stack.tif", "B03"),
        ("r02c03f01p01-ch1.tiff", "B03"),
        ("r17c03f01.tif", ""),
        ("cells_C2.tif", ""),
        ("A549_01.tif", ""),
        ("Fluo-N2DH-SIM.tif", ""),
        ("B25.tif", ""),
        ("B00.tif", ""),
        ("MAX_h2b.tif", ""),
    ],
    ids=lambda value: value or "none",
)
def test_well_in_a_path(path: str, well: str) -> None:
    assert find_well(path) == well
