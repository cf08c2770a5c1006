"""Counting gives what it gave: every case of `cases` against the golden files.

They were written before the pipelines were merged, by ``python -m tests.golden.make``. A change
that is meant to change results writes them anew, and says why.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import pytest

from tests.golden import pipelines
from tests.golden.cases import CASES, WRONG, Case
from tests.golden.store import Store


@cache
def read_golden() -> Store:
    """The golden files, read once."""
    return Store.read()


def run_case(case: Case, folder: Path) -> pipelines.Outcome:
    """What a case comes to now."""
    with pipelines.look_up_plug_ins_once():
        return _run_case(case, folder)


def _run_case(case: Case, folder: Path) -> pipelines.Outcome:
    scene = pipelines.make_scene(case.scene, **case.scene_options)
    match case.pipeline:
        case "headless":
            return pipelines.count_headless(scene, case.options, folder)
        case "folder":
            return pipelines.count_to_folder(scene, case.options, folder)
        case "job":
            return pipelines.count_job(scene, case.options, folder, kill=case.more)
    return pipelines.count_in_window(scene, case.options, case.more, folder)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_counting_gives_what_it_gave(case: Case, tmp_path: Path) -> None:
    read_golden().compare(case.name, run_case(case, tmp_path))


def test_no_golden_case_is_left_over() -> None:
    assert sorted(read_golden().cases) == sorted(case.name for case in CASES)


@pytest.mark.parametrize("case", WRONG, ids=[case.name for case in WRONG])
def test_what_cannot_be_counted_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(pipelines.RefusedError):
        run_case(case, tmp_path)


@pytest.mark.parametrize("name", [case.name for case in CASES if case.pipeline == "job"])
def test_a_killed_job_ends_as_one_that_was_not(name: str) -> None:
    """Said of the golden files themselves, where the same job is there without a kill."""
    whole = read_golden().cases["job: whole"]
    if name.startswith("job: killed"):
        assert read_golden().cases[name] == whole


def write_golden(folder: Path) -> None:
    """Write the golden files anew, and say how long each case took."""
    store = Store({})
    for number, case in enumerate(CASES):
        place = folder / str(number)
        place.mkdir()
        start = time.perf_counter()
        outcome = run_case(case, place)
        seconds = time.perf_counter() - start
        store.put(case.name, outcome)
        print(f"{seconds:6.2f} s  {case.name}: {len(outcome.tables['tracks'])} objects")
    store.write()
