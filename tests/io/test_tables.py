"""Tables and JSON files, and the folders they are written to."""

from __future__ import annotations

import csv
import errno
import json
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_sam2.core.errors import OutputError
from napari_sam2.core.files.atomic import write_atomically
from napari_sam2.core.provenance import Provenance
from napari_sam2.io.output_folder import check_output
from napari_sam2.io.tables import (
    read_table,
    write_json,
    write_provenance,
    write_table,
    write_tables,
)


def _make_table() -> pd.DataFrame:
    numbers = np.random.default_rng(0).normal(size=50) * 10.0 ** np.random.default_rng(1).integers(
        -12, 15, 50
    )
    return pd.DataFrame(
        {
            "track": np.arange(50, dtype=np.uint32),
            "sum_c0": numbers,
            "score": numbers.astype(np.float32),
            "parent": pd.array([1, None] * 25, dtype="Int64"),
            "category": ["Zellkern ä", ""] * 25,
            "area_um2": [np.nan, 0.1] * 25,
        }
    )


def test_numbers_survive_csv_exactly(tmp_path: Path) -> None:
    write_table(_make_table(), tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["sum_c0"]) for row in rows] == list(_make_table()["sum_c0"])
    assert [np.float32(row["score"]) for row in rows] == list(_make_table()["score"])
    assert [row["category"] for row in rows] == list(_make_table()["category"])


def test_missing_values_are_empty_and_integers_stay_integers(tmp_path: Path) -> None:
    write_table(
        _make_table().head(2)[["track", "parent", "area_um2", "category"]], tmp_path / "a.csv"
    )
    assert (
        tmp_path / "a.csv"
    ).read_bytes() == "track,parent,area_um2,category\n0,1,,Zellkern ä\n1,,0.1,\n".encode()


@pytest.mark.parametrize("dtype", ["object", "string", "category"])
@pytest.mark.parametrize(
    "text",
    [
        '=HYPERLINK("http://example.org")',
        "+41",
        "-cell",
        "@SUM(A1)",
        "  =1+1",
        "\t=1",
        "\nx",
        "\uff1d1+1",
        "'=quoted before",
    ],
)
def test_text_that_a_spreadsheet_would_run_is_quoted_and_comes_back(
    text: str, dtype: str, tmp_path: Path
) -> None:
    table = pd.DataFrame(
        {"category": pd.Series([text, "T-cell", None], dtype=dtype), "x": [-1.5, 2, 3]}
    )
    write_table(table, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["category"] for row in rows] == [f"'{text}", "T-cell", ""]
    assert rows[0]["x"] == "-1.5"
    assert read_table(tmp_path / "a.csv")["category"].tolist()[:2] == [text, "T-cell"]


def test_carriage_return_begins_no_row(tmp_path: Path) -> None:
    write_table(
        pd.DataFrame({"category": ["cell\r=1+1", "a\r\nb"], "x": [1, 2]}), tmp_path / "a.csv"
    )
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert [row["category"] for row in csv.DictReader(file)] == ["cell\n=1+1", "a\nb"]


def test_column_names_from_other_files_are_quoted(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"mean_c0": [1.0], "=cmd|x": [2]}), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "mean_c0,'=cmd|x"
    assert list(read_table(tmp_path / "a.csv")) == ["mean_c0", "=cmd|x"]


def test_three_tables_are_written(tmp_path: Path) -> None:
    write_tables(tmp_path, _make_table(), _make_table().head(2), _make_table().head(1))
    assert {path.name: len(pd.read_csv(path)) for path in tmp_path.iterdir()} == {
        "objects.csv": 50,
        "tracks.csv": 2,
        "counts.csv": 1,
    }


def test_json_accepts_numpy_and_paths_and_writes_null_for_nan(tmp_path: Path) -> None:
    data = {
        "path": tmp_path,
        "n": np.int64(3),
        "mean": np.float32(0.5),
        "none": np.nan,
        "list": np.arange(2),
        5: (True, None, "µm"),
    }
    write_json(data, tmp_path / "a.json")
    expected = {
        "path": str(tmp_path),
        "n": 3,
        "mean": 0.5,
        "none": None,
        "list": [0, 1],
        "5": [True, None, "µm"],
    }
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == expected
    assert "µm" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_provenance_is_written_with_versions(tmp_path: Path) -> None:
    made = Provenance(
        input={"source": "a.tif"},
        model={"name": "nano"},
        settings={"patience": 8},
        notes=("channel 0 chosen",),
    )
    write_provenance(made, tmp_path / "provenance.json")
    found = json.loads((tmp_path / "provenance.json").read_text())
    assert (
        found["notes"] == ["channel 0 chosen"]
        and found["settings"] == {"patience": 8}
        and "python" in found["versions"]
    )


def _fail(path: Path, error: Exception) -> None:
    with write_atomically(path) as part:
        part.write_text("half")
        raise error


def test_failed_write_keeps_the_older_file(tmp_path: Path) -> None:
    write_json([1], tmp_path / "a.json")
    with pytest.raises(TypeError):
        write_json({"a": object()}, tmp_path / "a.json")
    with pytest.raises(ZeroDivisionError):
        _fail(tmp_path / "a.json", ZeroDivisionError())
    assert (tmp_path / "a.json").read_text() == "[\n  1\n]\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "No space left on device.*free some space"),
        (errno.EACCES, "Permission denied.*make this one writable"),
    ],
)
def test_write_error_says_what_to_do(number: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=message):
        _fail(tmp_path / "a.csv", OSError(number, os.strerror(number)))
    assert list(tmp_path.iterdir()) == []


def test_written_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_json([], tmp_path / "a.json")
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "b").stat().st_mode
    )


def test_output_folder_is_created_and_stays_empty(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b")
    check_output(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("below", "message"),
    [("", "is a file: expected a folder"), ("out", "file/out: cannot be written")],
)
def test_impossible_output_folder_raises(below: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        check_output(tmp_path / "file" / below)


def test_read_only_folder_raises(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        check_output(tmp_path)
    tmp_path.chmod(0o700)
