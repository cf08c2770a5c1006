"""Labels that do not have one number for each object: masks, and numbers of single frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_sam2.api.tables import measure
from napari_sam2.cli import main
from napari_sam2.core.stack import Spacing, Stack
from napari_sam2.io.open import open_labels
from napari_sam2.measurement.label_faults import LabelFaults
from napari_sam2.measurement.label_planes import LabelPlanes
from napari_sam2.tracking.relabel import relabel_planes

_Y, _X = np.mgrid[:64, :80]


def draw_discs(frames: list[dict[tuple[int, int], int]], radius: int = 7) -> np.ndarray:
    """(frames, 64, 80) uint16 discs: the label by the centre (y, x), for each frame."""
    labels = np.zeros((len(frames), 64, 80), np.uint16)
    for plane, discs in zip(labels, frames, strict=True):
        for (y, x), label in discs.items():
            plane[(_Y - y) ** 2 + (_X - x) ** 2 <= radius**2] = label
    return labels


_THREE = {(15, 15): 255, (15, 50): 255, (45, 30): 255}
_CLASSES = {(15, 15): 1, (15, 50): 1, (45, 30): 2, (45, 60): 2}
_STAY = [{(15, 15 + n): 1, (45, 60 - n): 2} for n in range(4)]
_RESTART = [{(15, 15): 1, (45, 60): 2}, {(45, 20): 1, (20, 60): 2}, {(30, 40): 1}]
_SWAP = [{(15, 15): 1, (45, 60): 2}, {(15, 15): 2, (45, 60): 1}, {(15, 15): 1, (45, 60): 2}]
_ONE_MOVES = [{(15, 15): 1}, {(45, 60): 1}]


@pytest.mark.parametrize(
    ("frames", "semantic", "renumbered"),
    [
        ([_THREE] * 3, True, False),
        ([_CLASSES], True, False),
        (_STAY, False, False),
        (_RESTART, False, True),
        (_SWAP, False, True),
        (_ONE_MOVES, False, False),
        ([{}, {}], False, False),
        ([{(15, 15): 7}], False, False),
    ],
    ids=["mask", "classes", "objects", "restart", "swap", "one", "empty", "single"],
)
def test_faults_are_found(frames: Any, semantic: bool, renumbered: bool) -> None:
    faults = LabelFaults.of(LabelPlanes.of(draw_discs(frames)))
    assert (faults.is_semantic, faults.is_renumbered) == (semantic, renumbered)
    assert len(faults.describe()) == semantic + renumbered


def test_specks_beside_an_object_are_no_pieces() -> None:
    labels = draw_discs([{(15, 15): 1, (45, 30): 2}])
    labels[0, 50, 70], labels[0, 2, 2] = 1, 2
    assert not LabelFaults.of(LabelPlanes.of(labels)).is_semantic


@pytest.mark.parametrize(
    ("frames", "how", "along", "expected"),
    [
        ([_THREE] * 3, "components", "t", [3, 3, 3]),
        ([_CLASSES, _CLASSES], "components", "z", [4, 4]),
        (_RESTART, "linked", "z", [2, 2, 1]),
        (_SWAP, "linked", "z", [2, 2, 2]),
        (_SWAP, "linked", "t", [2, 2, 2]),
        ([{}, {(15, 15): 9}, {}], "components", "z", [0, 1, 0]),
    ],
)
def test_relabelled_objects_are_numbered_from_1(
    frames: Any, how: Any, along: str, expected: list[int]
) -> None:
    planes = LabelPlanes.of(draw_discs(frames))
    made = np.stack(list(relabel_planes(planes, how, along)))
    assert [len(np.unique(plane[plane > 0])) for plane in made] == expected
    total = {"components": max(expected), "linked": 5 if frames is _RESTART else 2}[how]
    assert np.unique(made[made > 0]).tolist() == list(range(1, total + 1))
    np.testing.assert_array_equal(made > 0, draw_discs(frames) > 0)


def test_component_that_branches_along_z_is_one_object() -> None:
    frames = [{(32, 40): 255}, {(32, 34): 255, (32, 46): 255}]
    labels = draw_discs(frames, radius=5)
    made = np.stack(list(relabel_planes(LabelPlanes.of(labels), "components", "z")))
    assert np.unique(made).tolist() == [0, 1]


def test_linked_cells_move_in_time_without_overlap() -> None:
    frames = [{(15, 10 + 10 * n): 1 + n % 2, (50, 70): 2 - n % 2} for n in range(4)]
    made = np.stack(list(relabel_planes(LabelPlanes.of(draw_discs(frames, 4)), "linked", "t")))
    assert [int(made[n, 15, 10 + 10 * n]) for n in range(4)] == [1] * 4
    assert made[:, 50, 70].tolist() == [2] * 4


@pytest.mark.parametrize(
    ("frames", "how", "along", "objects"),
    [([_THREE] * 3, "components", "t", 3), (_RESTART, "linked", "z", 5)],
)
def test_measure_notes_the_fault_and_numbers_objects_if_asked(
    frames: Any,
    how: str,
    along: str,
    objects: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels, axes = draw_discs(frames), {"axes": f"{along.upper()}YX"}
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack", metadata=axes)
    tifffile.imwrite(
        tmp_path / "image.tif", labels * 2 + 10, photometric="minisblack", metadata=axes
    )
    call = ["measure", str(tmp_path / "labels.tif"), "--image", str(tmp_path / "image.tif")]
    call += ["--along", along]
    assert main([*call, "--out", str(tmp_path / "a")]) == 0
    plain = capsys.readouterr().out
    assert f"--relabel {how}" in plain and plain.startswith("note: ")
    assert main([*call, "--out", str(tmp_path / "b"), "--relabel", how]) == 0
    assert capsys.readouterr().out.startswith(f"Done: {objects} objects")
    written = open_labels(tmp_path / "b" / "labels.ome.tif")
    assert len(np.unique(np.asarray(written.data))) == objects + 1
    assert not list((tmp_path / "a").glob("labels*"))


_DISC = draw_discs([{(30, 40): 1}])[0]


@pytest.mark.parametrize(
    ("image", "axes"),
    [
        (np.stack([np.zeros((64, 80)), _DISC * 500]), "CYX"),
        (np.zeros((64, 80)), "YX"),
        (np.full((1, 64, 80), 7), "TYX"),
        (np.stack([np.full((3, 64, 80), 40), np.stack([_DISC] * 3)], axis=1), "TCYX"),
    ],
)
def test_blank_channel_is_measured(image: np.ndarray, axes: str, tmp_path: Path) -> None:
    stack = Stack(image.astype(np.uint16), axes.lower(), Spacing())
    frames = stack.sizes.get("t", 1)
    tables = measure(np.stack([_DISC] * frames), stack, out=tmp_path)
    channels = image.reshape(frames, -1, 64, 80)
    for channel in range(channels.shape[1]):
        expected = [plane[_DISC > 0].mean() for plane in channels[:, channel]]
        assert tables.objects[f"mean_c{channel}"].tolist() == pytest.approx(expected)
    assert (tmp_path / "overview.png").is_file()


@pytest.mark.parametrize("dtype", [bool, np.float32, np.float64])
def test_files_of_exact_labels_are_measured(dtype: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _DISC.astype(dtype))
    found = measure(tmp_path / "a.npy", Stack(_DISC * 9, "yx")).objects
    assert found["area_px"].tolist() == [int(_DISC.sum())]
