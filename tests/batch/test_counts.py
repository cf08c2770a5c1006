"""Batches that count: nobody clicks, wells are known, tables lie beside each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_sam2.api.count_job import CountJob
from napari_sam2.api.job import Job
from napari_sam2.batch import read_jobs, run_batch, run_jobs
from napari_sam2.batch.pool import Pool
from napari_sam2.core.errors import PlanError
from napari_sam2.testing.scenes import make_drifting_scene

_TEXT = """
out = "results"
[defaults]
axes = "TYX"
seeds = "auto"
[defaults.counting]
diameter_px = 38
[cluster]
options = { processes = false }
workers = 1
[[stacks]]
input = "p1_*.npy"
"""


@pytest.fixture
def plate(tmp_path: Path) -> Callable[[str], Path]:
    """Writes three fields of two wells, an empty one, and a jobs file."""

    def write(text: str) -> Path:
        scene = make_drifting_scene(count=3, frames=2, shape=(128, 128))
        for name in ("B02_s1", "B02_s2", "C05_s1"):
            np.save(
                tmp_path / f"p1_{name}.npy",
                scene.stack.data[:, 0] if scene.stack.data.ndim == 4 else scene.stack.data,
            )
        np.save(tmp_path / "p1_D01_s1.npy", np.full((2, 128, 128), 7, np.uint16))
        (tmp_path / "jobs.toml").write_text(text)
        return tmp_path / "jobs.toml"

    return write


def test_seeds_make_counts_and_tables_over_all_stacks(
    plate: Callable[[str], Path], loaded_models: list[tuple[str, str]]
) -> None:
    file = plate(_TEXT)
    table = run_batch(read_jobs(file))
    assert table["state"].tolist() == ["done"] * 4
    assert table["objects"].tolist() == [3, 3, 3, 0]
    assert table[["stack", "well"]].to_numpy().tolist()[0] == ["p1_B02_s1", "B02"]
    out = file.parent / "results"
    wells = pd.read_csv(out / "wells.csv")
    assert wells[["well", "stacks", "n"]].to_numpy().tolist() == [
        ["B02", 2, 6],
        ["C05", 1, 3],
        ["D01", 1, 0],
    ]
    assert len(pd.read_csv(out / "tracks.csv")) == 9
    counts = pd.read_csv(out / "counts.csv")
    assert counts.groupby("stack").size().tolist() == [3] * 4
    assert (out / "report.html").exists() and (out / "p1_B02_s1" / "report.html").exists()
    assert run_batch(read_jobs(file))["state"].tolist() == ["skipped"] * 4


def test_a_well_may_be_said_and_labels_may_be_seeds(plate: Callable[[str], Path]) -> None:
    file = plate(_TEXT.replace('seeds = "auto"', 'seeds = "{stem}.npy"\nwell = "{parent}"'))
    jobs = read_jobs(file).jobs
    assert {job.well for job in jobs} == {file.parent.name}
    assert all(isinstance(job, CountJob) and job.counting.seeds == str(job.input) for job in jobs)


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ('seeds = "auto"', 'seeds = "auto"\nwell = "{plate}"', PlanError, "expected {stem}"),
        (
            'seeds = "auto"',
            'seeds = "auto"\nprompts = "p.csv"',
            PlanError,
            "prompts does not go with counting",
        ),
        ("diameter_px = 38", "diameter_px = -1", PlanError, "diameter_px"),
        ("diameter_px = 38", 'patience = "long"', PlanError, "patience"),
    ],
    ids=["unknown name", "seeds and prompts", "negative size", "not a number"],
)
def test_what_is_wrong_is_named(
    plate: Callable[[str], Path], old: str, new: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        read_jobs(plate(_TEXT.replace(old, new)))


def test_fields_with_seeds_are_counts_and_others_are_carried(
    plate: Callable[[str], Path], loaded_models: list[tuple[str, str]]
) -> None:
    folder = plate(_TEXT).parent
    fields = {"input": folder / "p1_B02_s1.npy", "axes": "TYX"}
    table = run_jobs(
        [
            {**fields, "out": folder / "a", "counting": {"diameter_px": 38}},
            Job(**fields, out=folder / "b", prompts=folder / "none.csv"),
        ],
        pool=Pool(workers=1, options={"processes": False}),
    )
    assert table["state"].tolist() == ["done", "failed"]
    assert "none.csv" in table["error"][1]
