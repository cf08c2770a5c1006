"""Lineages on disk: Cell Tracking Challenge folders and GEFF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_sam2.core.errors import FileError
from napari_sam2.core.stack import Spacing
from napari_sam2.core.track import Branch
from napari_sam2.io.readers.ctc import read_ctc
from napari_sam2.io.writers.ctc import write_ctc
from napari_sam2.testing.scenes import make_dividing_scene


def test_division_survives_writing_and_reading(tmp_path: Path) -> None:
    scene = make_dividing_scene()
    rows = write_ctc(tmp_path, lambda frame: scene.labels[frame], len(scene.labels), scene.parents)
    assert rows == [Branch(1, 0, 3), Branch(2, 4, 9, 1), Branch(3, 4, 9, 1)]
    again = read_ctc(tmp_path)
    assert dict(again.parents) == dict(scene.parents)
    np.testing.assert_array_equal(np.asarray(again.labels.data), scene.labels)


def test_package_of_the_challenge_accepts_the_folder(tmp_path: Path) -> None:
    evaluate = pytest.importorskip("ctc_metrics.scripts.evaluate")
    scene = make_dividing_scene()
    (tmp_path / "01_RES").mkdir()
    (tmp_path / "01_GT" / "TRA").mkdir(parents=True)
    write_ctc(tmp_path / "01_RES", lambda frame: scene.labels[frame], 10, scene.parents)
    write_ctc(tmp_path / "01_GT" / "TRA", lambda frame: scene.labels[frame], 10, scene.parents)
    (tmp_path / "01_GT" / "TRA" / "res_track.txt").rename(
        tmp_path / "01_GT" / "TRA" / "man_track.txt"
    )
    for mask in (tmp_path / "01_GT" / "TRA").glob("mask*.tif"):
        mask.rename(mask.with_name(mask.name.replace("mask", "man_track")))
    found = evaluate.evaluate_sequence(
        str(tmp_path / "01_RES"), str(tmp_path / "01_GT"), ["Valid", "TRA", "DET"], threads=1
    )
    assert (found["Valid"], found["TRA"]) == (1, 1.0)


def make_labels_with_gap() -> np.ndarray:
    """Track 70000 on frames 0, 1 and 3; its daughter 70001 from frame 1 on."""
    labels = np.zeros((4, 20, 20), np.uint32)
    labels[[0, 1, 3], 2:5, 2:5] = 70_000
    labels[1:, 10:13, 10:13] = 70_001
    return labels


def test_gaps_and_surviving_parents_split_tracks_and_renumber_large_ids(tmp_path: Path) -> None:
    labels = make_labels_with_gap()
    rows = write_ctc(tmp_path, lambda frame: labels[frame], 4, {70_001: 70_000})
    assert rows == [Branch(1, 0, 0), Branch(2, 1, 1, 1), Branch(3, 3, 3, 2), Branch(4, 1, 3, 1)]
    np.testing.assert_array_equal(np.asarray(read_ctc(tmp_path).labels.data) > 0, labels > 0)


def test_labels_without_objects_write_an_empty_track_file(tmp_path: Path) -> None:
    assert write_ctc(tmp_path, lambda frame: np.zeros((4, 4), np.uint16), 2) == []
    assert (tmp_path / "res_track.txt").read_text() == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "expected res_track.txt"), ("1 0 3", "line 1"), ("a b c d", "line 1")],
)
def test_other_folder_raises(tmp_path: Path, text: str | None, message: str) -> None:
    if text:
        (tmp_path / "res_track.txt").write_text(text)
    with pytest.raises(FileError, match=message):
        read_ctc(tmp_path)


def test_geff_has_a_node_for_each_object_and_edges_along_tracks_and_divisions(
    tmp_path: Path,
) -> None:
    geff = pytest.importorskip("geff")
    from napari_sam2.io.writers.geff import write_geff

    objects = pd.DataFrame(
        {
            "track": [1, 1, 2, 3],
            "frame": [0, 1, 2, 2],
            "y": [5.0, 5, 3, 7],
            "x": [5.0, 6, 6, 6],
            "area_px": [30, 31, 15, 16],
        }
    )
    tracks = pd.DataFrame({"track": [1, 2, 3], "parent": pd.array([None, 1, 1], dtype="Int64")})
    write_geff(
        tmp_path / "tracks.geff", objects, tracks, Spacing(y_um=0.5, x_um=0.5, t_s=60.0), along="t"
    )
    graph, metadata = geff.read(tmp_path / "tracks.geff")
    assert sorted(graph.edges) == [(0, 1), (1, 2), (1, 3)]
    for number, row in objects.iterrows():
        node = graph.nodes[number]
        assert (node["t"], node["y"], node["x"], node["track"]) == (
            row["frame"],
            row["y"],
            row["x"],
            row["track"],
        )
    axes = [(axis.name, axis.unit, axis.scale) for axis in metadata.axes]
    assert axes == [("t", "second", 60.0), ("y", "micrometer", 0.5), ("x", "micrometer", 0.5)]
