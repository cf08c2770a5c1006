"""The benchmarks: that one command finds them all, what they judge by, and the short form, which compares ratios."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import tiles
from benchmarks.__main__ import BENCHMARKS, make_command
from benchmarks.classical import link_planes, score_labels, segment_plane
from benchmarks.profiles import (
    REST_OF_PROPAGATION,
    STAGES,
    compute_stage_seconds,
    profile_propagation,
)
from benchmarks.scaling import (
    SERIES,
    check_against_reference,
    check_linear_in_objects,
    check_steady_in_frames,
)
from benchmarks.scaling import main as scaled
from napari_sam2.testing import scenes
from tests.models.networks import make_model

ROOT = Path(__file__).parents[1]


def test_what_a_benchmark_needs_stands_in_its_command() -> None:
    given = SimpleNamespace(sam2=[Path("a"), Path("b")], data=Path("d"), pack=None, out=Path("o"))
    found = {name: make_command(name, given) for name in BENCHMARKS}  # type: ignore[arg-type]
    assert all(find_spec(f"benchmarks.{name}") for name in BENCHMARKS)
    assert {name for name, words in found.items() if words is None} == {"stills", "finetuning"}
    assert found["accuracy"] == [
        sys.executable,
        "-m",
        "benchmarks.accuracy",
        "d",
        "--out",
        "o/accuracy.json",
    ]
    assert found["memory"] == [
        sys.executable,
        "-m",
        "benchmarks.memory",
        "--sam2",
        "a",
        "b",
        "--out",
        "o/memory.json",
    ]


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
    assert [good for _, good in check_against_reference(mine, theirs, "cpu")] == expected


def test_more_than_twice_the_time_for_twice_the_objects_is_found() -> None:
    rows = [{"objects": objects, "cpu": cpu} for objects, cpu in ((1, 1.0), (2, 1.5), (4, 3.5))]
    assert [good for _, good in check_linear_in_objects(rows, "cpu")] == [True, False]


@pytest.mark.parametrize(
    ("longest", "expected"), [(44.0, True), (48.0, False)], ids=["as before", "slower and slower"]
)
def test_frames_that_take_longer_and_longer_are_found(longest: float, expected: bool) -> None:
    rows = [{"frames": frames, "cpu": cpu} for frames, cpu in ((8, 9.0), (16, 20.5), (32, longest))]
    assert [good for _, good in check_steady_in_frames(rows, "cpu")] == [expected]


def test_scaling_goes_on_from_earlier_runs_and_judges_them_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs that were made before, of which one too slow: nothing is measured again, all is shown, and the miss is told."""
    cost = {"ours": 0.4, "reference": 36.0, "classical": 0.0}
    rows = [
        {**row, "cpu": 30.0 * row["frames"] / 8 + cost[row["peer"]] * row["objects"]}
        for series in SERIES
        for row in series.list_cases()
    ]
    for slow, status in ((0.0, 0), (60.0, 1)):
        slowed = [
            {**row, "cpu": row["cpu"] + slow * ((row["peer"], row["objects"]) == ("ours", 16))}
            for row in rows
        ]
        for number in range(2):
            (tmp_path / f"{number}.json").write_text(json.dumps({"results": slowed[number::2]}))
        assert (
            scaled(
                [
                    "--earlier",
                    str(tmp_path / "0.json"),
                    str(tmp_path / "1.json"),
                    "--out",
                    str(tmp_path / "all.json"),
                ]
            )
            == status
        )
        said = capsys.readouterr().out
        assert "| 256 | 132.4 | (9246) | 1/69.8 |" in said
        assert ("MISSED" in said) == bool(status)
        assert (tmp_path / "all.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "scene",
    [
        scenes.make_drifting_scene(count=6, frames=6),
        scenes.make_appearing_scene(),
        scenes.make_touching_scene(),
    ],
    ids=str,
)
def test_a_watershed_that_is_linked_follows_what_is_apart(scene: scenes.Scene) -> None:
    pixels = scene.stack.data / scenes.BRIGHTEST
    wide = 2 * np.sqrt((scene.labels[0] == scene.labels[0].max()).sum() / np.pi)
    labels = link_planes(segment_plane(plane, float(wide)) for plane in pixels)
    chosen = {}
    for track in scene.tracks:
        below = labels[scene.find_frames(track)[0]][scene.mask(track, scene.find_frames(track)[0])]
        chosen[track] = int(np.bincount(below).argmax())
    iou, strayed = score_labels(labels, scene.labels, chosen)
    assert iou > 0.85 and strayed == 0


def test_touching_discs_are_parted_by_their_shape() -> None:
    scene = scenes.make_touching_scene(same_level=True)
    assert {
        int(segment_plane(plane / scenes.BRIGHTEST, 16.0).max()) for plane in scene.stack.data
    } == {2}


def test_what_is_linked_to_another_has_strayed() -> None:
    scene = scenes.make_drifting_scene(count=4, frames=6)
    swapped = scene.labels.copy()
    swapped[3:][scene.labels[3:] == 1], swapped[3:][scene.labels[3:] == 2] = 2, 1
    assert score_labels(scene.labels, scene.labels, {1: 1, 2: 2}) == (1.0, 0.0)
    assert score_labels(swapped, scene.labels, {1: 1, 2: 2, 3: 0}) == (
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    )


def test_a_stage_counts_without_those_within_it() -> None:
    whole = SimpleNamespace(name=REST_OF_PROPAGATION, cpu_time_total=9e6, cpu_parent=None)
    model = SimpleNamespace(name="the rest of the model", cpu_time_total=6e6, cpu_parent=whole)
    operator = SimpleNamespace(name="aten::stack", cpu_time_total=5e6, cpu_parent=model)
    inner = SimpleNamespace(name="encode", cpu_time_total=4e6, cpu_parent=operator)
    assert compute_stage_seconds([whole, model, operator, inner]) == {
        "encode": 4.0,
        REST_OF_PROPAGATION: 3.0,
        "the rest of the model": 2.0,
    }  # type: ignore[list-item]


def test_a_walk_shows_all_its_stages() -> None:
    scene = scenes.make_drifting_scene(count=2, frames=3)
    events = profile_propagation(
        make_model(), scene.stack.as_video("t"), [scene.make_click(track) for track in scene.tracks]
    ).events()
    assert compute_stage_seconds(events).keys() == {*STAGES, REST_OF_PROPAGATION}


def test_what_is_measured_of_a_tile_is_kept_on_disk(tmp_path: Path) -> None:
    encoded, read, megabytes = tiles.measure_tile(tmp_path)
    assert min(encoded, read) > 0 and megabytes > 1


@pytest.mark.slow
def test_the_short_form_reaches_its_ratios(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks", "--short", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "reached" in (tmp_path / "summary.md").read_text()
