"""Jobs files: what they may say, and what they are told when they say something else."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from napari_sam2.api.count import CountingOptions
from napari_sam2.api.count_job import CountJob
from napari_sam2.api.job import Job
from napari_sam2.batch import read_jobs, run_jobs
from napari_sam2.batch.pool import Pool
from napari_sam2.core.errors import FileError, PlanError
from napari_sam2.core.inference_options import DEFAULT_ATTENTION

_GOOD = """
out = "results"
[defaults]
axes = "TYX"
device = "cpu"
[cluster]
workers = 2
[[stacks]]
input = "s*.npy"
prompts = "prompts/{stem}.csv"
"""


def _written(folder: Path, text: str) -> Path:
    path = folder / "jobs.toml"
    path.write_text(text)
    return path


def test_a_glob_is_one_job_a_file_each_with_its_own_prompts_and_folder(
    write_stacks: Callable[[int], Path],
) -> None:
    folder = write_stacks(3)
    batch = read_jobs(_written(folder, _GOOD))
    assert [job.input for job in batch.jobs] == [folder / f"s{number}.npy" for number in range(3)]
    assert [job.prompts for job in batch.jobs] == [
        folder / "prompts" / f"s{number}.csv" for number in range(3)
    ]
    assert [job.out for job in batch.jobs] == [
        folder / "results" / f"s{number}" for number in range(3)
    ]
    assert {(job.axes, job.device) for job in batch.jobs} == {("TYX", "cpu")}
    assert batch.pool == Pool(workers=2)


def test_all_stacks_are_looked_at_as_the_defaults_say(write_stacks: Callable[[int], Path]) -> None:
    folder = write_stacks(2)
    for line, expected in (('attention = "near"', "local"), ("", DEFAULT_ATTENTION)):
        jobs = read_jobs(_written(folder, _GOOD.replace('device = "cpu"', line))).jobs
        assert {job.attention for job in jobs} == {expected}


def test_label_images_are_prompts_and_names_may_be_put_together(
    write_stacks: Callable[[int], Path],
) -> None:
    text = (
        'out = "r"\n[[stacks]]\ninput = "s*.npy"\nmasks = "m/{stem}_mask.tif"\nframe = 2\nout = '
        '"{parent}/{number}-{stem}"\n'
    )
    (job, *_) = read_jobs(_written(write_stacks(2), text)).jobs
    assert (job.masks.name, job.frame, job.out.parts[-3:]) == (
        "s0_mask.tif",
        2,
        ("r", "data", "0-s0"),
    )


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ('out = "results"', "", PlanError, "out: Field required"),
        ('out = "results"', 'oot = "results"', PlanError, "oot: Extra inputs"),
        ("[[stacks]]", "[[stacks]", PlanError, "is not valid TOML"),
        ('input = "s*.npy"', 'input = "nothing*.npy"', FileError, "matches no file or folder"),
        ('device = "cpu"', "channel = 'red'", PlanError, "channel is 'red'"),
        ('device = "cpu"', 'attention = "far"', PlanError, "attention is 'far'"),
        ('device = "cpu"', 'colour = "red"', PlanError, "colour is 'red': Extra inputs"),
        ("{stem}.csv", "{well}.csv", PlanError, "expected {stem}"),
        ("workers = 2", "workers = 0", PlanError, "cluster.workers"),
        ("workers = 2", 'kind = "cloud"', PlanError, "cluster.kind"),
        (
            'input = "s*.npy"',
            'input = "s*.npy"\nout = "same"',
            PlanError,
            "2 stacks would be written to",
        ),
    ],
)
def test_what_is_wrong_is_named(
    write_stacks: Callable[[int], Path], old: str, new: str, error: type[Exception], said: str
) -> None:
    assert old in _GOOD
    with pytest.raises(error) as caught:
        read_jobs(_written(write_stacks(2), _GOOD.replace(old, new)))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.toml: No such file"):
        read_jobs(tmp_path / "none.toml")


def test_no_jobs_are_refused() -> None:
    with pytest.raises(PlanError, match="no jobs given"):
        run_jobs([])


_COUNTED = _GOOD.replace('prompts = "prompts/{stem}.csv"', "")


@pytest.mark.parametrize(
    ("old", "new", "seeds"),
    [
        ('device = "cpu"', 'device = "cpu"\nseeds = "blobs"', "blobs"),
        (
            'input = "s*.npy"',
            'input = "s*.npy"\nseeds = "bodies"\ncounting = { kind = "box" }',
            "bodies",
        ),
        ('input = "s*.npy"', 'input = "s*.npy"\ncounting = { diameter_px = 9.0 }', "auto"),
        ('input = "s*.npy"', 'input = "s*.npy"\nseeds = "labels/{stem}.tif"', "labels/s0.tif"),
        ("[defaults]", '[defaults]\nseeds = "peaks"\ncounting = { patience = 1 }', "peaks"),
    ],
    ids=[
        "for all",
        "with how they are said",
        "as guessed",
        "of another tool",
        "with how they are joined",
    ],
)
def test_a_stack_may_be_counted_instead(
    write_stacks: Callable[[int], Path], old: str, new: str, seeds: str
) -> None:
    folder = write_stacks(2)
    jobs = read_jobs(_written(folder, _COUNTED.replace(old, new))).jobs
    assert [type(job) for job in jobs] == [CountJob, CountJob]
    counting = cast(CountJob, jobs[0]).counting
    assert counting.seeds == (str(folder / seeds) if "/" in seeds else seeds)
    assert counting == CountingOptions(seeds=counting.seeds, **_fields_of(new))


def _fields_of(line: str) -> dict[str, Any]:
    said = tomllib.loads(line.replace("[defaults]", ""))
    return dict(said.get("counting", {}))


def test_prompts_of_one_stack_take_the_place_of_seeds_for_all(
    write_stacks: Callable[[int], Path],
) -> None:
    text = _GOOD.replace('device = "cpu"', 'device = "cpu"\nseeds = "bodies"')
    assert [type(job) for job in read_jobs(_written(write_stacks(2), text)).jobs] == [Job, Job]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('prompts = "p.csv"\nseeds = "auto"', "either prompts or seeds"),
        ("counting = { diameter_px = -1.0 }", "counting.diameter_px"),
        ('counting = { colour = "red" }', "counting.colour"),
        ('direction = "forward"\nseeds = "auto"', "direction does not go with counting"),
        ('seeds = "labels/{well}.tif"', "expected {stem}"),
    ],
)
def test_what_does_not_go_with_counting_is_named(
    write_stacks: Callable[[int], Path], line: str, said: str
) -> None:
    with pytest.raises(PlanError) as caught:
        read_jobs(
            _written(
                write_stacks(1), _COUNTED.replace('input = "s*.npy"', f'input = "s*.npy"\n{line}')
            )
        )
    assert said in str(caught.value)
