"""Optional exports of a count, read back with the packages of their formats."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

from napari_sam2.api.count import count
from napari_sam2.api.evaluation import evaluate_files
from napari_sam2.core.errors import LabelsError, MissingPackageError, OutputError
from napari_sam2.io.open import open_labels
from napari_sam2.io.readers.ctc import read_ctc
from napari_sam2.testing.scenes import make_dividing_scene
from napari_sam2.testing.toy import ToyModel

OPTIONAL = {"geff": "geff", "parquet": "pyarrow", "h5ad": "anndata"}
"""Exports that need a package, with that package."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    also = ["ctc", *(name for name, package in OPTIONAL.items() if find_spec(package))]
    out = tmp_path_factory.mktemp("count") / "out"
    rules = {"large": "area_px > 1000", "small": "area_px > 0"}
    count(
        make_dividing_scene(shape=(128, 128)).stack,
        model=ToyModel(),
        out=out,
        also=also,
        rules=rules,
    )
    return out


def test_all_exports_are_written(folder):
    names = {
        "labels.ome.tif",
        "objects.csv",
        "tracks.csv",
        "counts.csv",
        "prompts.json",
        "provenance.json",
        "overview.png",
        "report.html",
    }
    written = {
        "geff": {"tracks.geff"},
        "h5ad": {"objects.h5ad"},
        "parquet": {f"{name}.parquet" for name in ("objects", "tracks", "counts")},
    }
    more = [written[name] for name, package in OPTIONAL.items() if find_spec(package)]
    assert names.union({"01_RES"}, *more) == {path.name for path in folder.iterdir()}


def test_parquet_has_the_rows_of_the_csv(folder):
    pytest.importorskip("pyarrow")
    for name in ("objects", "tracks", "counts"):
        ours, theirs = (
            pd.read_parquet(folder / f"{name}.parquet"),
            pd.read_csv(folder / f"{name}.csv"),
        )
        assert list(ours.columns) == list(theirs.columns) and len(ours) == len(theirs)
        if "sum_c0" in ours.columns:
            np.testing.assert_array_equal(ours["sum_c0"], theirs["sum_c0"])


def test_anndata_has_features_positions_and_provenance(folder):
    anndata = pytest.importorskip("anndata")
    table, rows = anndata.read_h5ad(folder / "objects.h5ad"), pd.read_csv(folder / "objects.csv")
    np.testing.assert_array_equal(table.X[:, list(table.var_names).index("sum_c0")], rows["sum_c0"])
    np.testing.assert_array_equal(table.obsm["spatial"], rows[["x", "y"]])
    assert table.obs["track"].tolist() == rows["track"].tolist()
    assert json.loads(table.uns["provenance"])["model"]["name"] == "toy"


def test_ctc_folder_has_the_division(folder):
    assert sorted(read_ctc(folder / "01_RES").parents) == [2, 3]


def test_categories_by_rule_are_in_tables_and_counts(folder):
    tracks, counts = pd.read_csv(folder / "tracks.csv"), pd.read_csv(folder / "counts.csv")
    assert tracks["category"].tolist() == ["large", "small", "small"]
    assert counts["n"].tolist()[-3:] == [1, 2, 3]


def test_result_folder_is_evaluated_against_the_challenge_folder(folder):
    pytest.importorskip("ctc_metrics")
    found = evaluate_files(folder, folder / "01_RES", tracks=True)
    assert found.agreement.overall["TRA"] == 1.0 and found.agreement.overall["BC(0)"] == 1.0
    assert found.counts is None
    assert evaluate_files(folder, folder).counts["count_error"].abs().sum() == 0


def test_unknown_export_is_refused_before_any_work(tmp_path):
    with pytest.raises(OutputError, match="expected one of ctc, geff, h5ad, parquet, report"):
        count(make_dividing_scene().stack, model=ToyModel(), out=tmp_path / "out", also=["xlsx"])
    assert not (tmp_path / "out" / "labels.ome.tif").exists()


def test_missing_package_is_reported_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam2.api.exports.find_spec", lambda _: None)
    with pytest.raises(
        MissingPackageError, match=r"h5ad needs the package anndata: .*napari-sam2\[anndata\]"
    ):
        count(make_dividing_scene().stack, model=ToyModel(), out=tmp_path / "out", also=["h5ad"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("swapped", [False, True], ids=["truth", "prediction"])
def test_file_without_axes_gets_those_of_the_other_side(folder, tmp_path, swapped):
    bare = tmp_path / "bare.npy"
    np.save(bare, np.asarray(open_labels(folder / "labels.ome.tif").data))
    overall = evaluate_files(*((bare, folder) if swapped else (folder, bare))).agreement.overall
    assert overall["f1"] == 1.0
    np.save(bare, np.zeros((2, 9, 9), np.uint16))
    with pytest.raises(
        LabelsError, match=r"expected \(10, 128, 128\), the shape of the other side"
    ):
        evaluate_files(folder, bare)
