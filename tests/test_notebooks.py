"""The notebooks in docs/ run from top to bottom on the shipped samples."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
_MAX_BYTES = 60_000  # without pictures


def test_the_notebooks_are_there() -> None:
    assert {"first_stack", "timelapse_to_counts", "finetune"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small_and_has_no_outputs(path: Path) -> None:
    assert path.stat().st_size < _MAX_BYTES
    cells = nbformat.read(path, as_version=4).cells
    assert [
        cell.id
        for cell in cells
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_without_warnings(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    monkeypatch.setenv("NAPARI_SAM2_MINUTES", "0.3")  # of training, enough to see that it runs
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert [
        output.text
        for output in outputs
        if output.get("name") == "stderr" and "Warning" in output.text
    ] == []
    nbformat.write(notebook, tmp_path / path.name)
    if os.environ.get("NAPARI_SAM2_SCREENSHOTS"):
        nbformat.write(notebook, Path(os.environ["NAPARI_SAM2_SCREENSHOTS"]) / path.name)
