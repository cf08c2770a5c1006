"""The benchmarks: that one command finds them all, what they judge by, and the short form, which compares ratios."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.__main__ import ALL, command
from benchmarks.profiles import STAGES, WHOLE, profiled, shares
from benchmarks.scaling import doubled, judged
from napari_sam2.testing.scenes import drifting
from tests.models.networks import model

ROOT = Path(__file__).parents[1]


def test_what_a_benchmark_needs_stands_in_its_command() -> None:
    given = SimpleNamespace(sam2=[Path("a"), Path("b")], data=Path("d"), pack=None, out=Path("o"))
    found = {name: command(name, given) for name in ALL}  # type: ignore[arg-type]
    assert all(find_spec(f"benchmarks.{name}") for name in ALL)
    assert {name for name, words in found.items() if words is None} == {"stills", "finetuning"}
    assert found["accuracy"] == [sys.executable, "-m", "benchmarks.accuracy", "d", "--out", "o/accuracy.json"]
    assert found["memory"] == [sys.executable, "-m", "benchmarks.memory", "--sam2", "a", "b", "--out", "o/memory.json"]


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        pytest.param(0.5, [True, True, True], id="a forty-eighth an object"),
        pytest.param(1.9, [True, False, False], id="a thirteenth"),
        pytest.param(30.0, [False, False, False], id="as dear as the reference"),
    ],
)
def test_scaling_is_judged_by_the_references_line(each: float, expected: list[bool]) -> None:
    theirs = [{"objects": objects, "cpu": 50 + 24.0 * objects} for objects in (1, 2)]
    mine = [{"objects": objects, "cpu": 12 + each * objects} for objects in (1, 16, 64)]
    assert [good for _, good in judged(mine, theirs, "cpu")] == expected


def test_more_than_twice_the_time_for_twice_the_objects_is_found() -> None:
    rows = [{"objects": objects, "cpu": cpu} for objects, cpu in ((1, 1.0), (2, 1.5), (4, 3.5))]
    assert [good for _, good in doubled(rows, "cpu")] == [True, False]


def test_a_stage_counts_without_those_within_it() -> None:
    whole = SimpleNamespace(name=WHOLE, cpu_time_total=9e6, cpu_parent=None)
    model = SimpleNamespace(name="the rest of the model", cpu_time_total=6e6, cpu_parent=whole)
    operator = SimpleNamespace(name="aten::stack", cpu_time_total=5e6, cpu_parent=model)
    inner = SimpleNamespace(name="encode", cpu_time_total=4e6, cpu_parent=operator)
    assert shares([whole, model, operator, inner]) == {"encode": 4.0, WHOLE: 3.0, "the rest of the model": 2.0}  # type: ignore[list-item]


def test_a_walk_shows_all_its_stages() -> None:
    scene = drifting(count=2, frames=3)
    events = profiled(model(), scene.stack.as_video("t"), [scene.click(track) for track in scene.tracks]).events()
    assert shares(events).keys() == {*STAGES, WHOLE}


@pytest.mark.slow
def test_the_short_form_reaches_its_ratios(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks", "--short", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "reached" in (tmp_path / "summary.md").read_text()
