"""The benchmarks: one command runs them all, and each judges given figures correctly."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import __main__ as all_benchmarks
from benchmarks.__main__ import BENCHMARKS, make_command
from benchmarks.accuracy.watershed import score_labels
from benchmarks.speed import ratios, scaling, tile_cache
from benchmarks.speed.profiles import (
    REST_OF_PROPAGATION,
    STAGES,
    compute_stage_seconds,
    profile_propagation,
)
from benchmarks.speed.scaling import (
    SERIES,
    check_against_reference,
    check_linear_in_objects,
    check_steady_in_frames,
)
from benchmarks.support.watershed import link_planes, segment_plane
from napari_sam2.testing import scenes
from tests.models.networks import make_model


def test_commands_contain_what_a_benchmark_requires() -> None:
    given = SimpleNamespace(sam2=[Path("a"), Path("b")], data=Path("d"), pack=None, out=Path("o"))
    commands = {name: make_command(name, given) for name in BENCHMARKS}  # type: ignore[arg-type]
    assert all(find_spec(f"benchmarks.{name}") for name in BENCHMARKS)
    assert {name for name, command in commands.items() if command is None} == {
        "accuracy.images",
        "accuracy.finetuning",
    }
    python = [sys.executable, "-m"]
    assert commands["accuracy.propagation"] == [
        *python,
        *["benchmarks.accuracy.propagation", "d", "--out", "o/accuracy.propagation.json"],
    ]
    assert commands["speed.memory"] == [
        *python,
        *["benchmarks.speed.memory", "--sam2", "a", "b", "--out", "o/speed.memory.json"],
    ]


@pytest.mark.parametrize(("status", "verdict"), [(0, "reached"), (1, "MISSED")])
def test_the_summary_says_what_is_reached(
    status: int, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, status, stdout="a table")

    monkeypatch.setattr(subprocess, "run", run)
    assert all_benchmarks.main(["--short", "--out", str(tmp_path)]) == status
    assert f"| speed.ratios | {verdict} |" in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "speed.ratios.txt").read_text() == "a table"


def test_ratios_are_judged_by_their_limits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"once": 2.0, "objects": 3.8, "frames": 5.0}
    doubled = ratios.make_doubling_ratios("nano", figures)
    assert [(ratio.value, ratio.reached) for ratio in doubled] == [(1.9, True), (2.5, False)]
    for name in ("measure_growth", "measure_nano", "measure_correction"):
        monkeypatch.setattr(ratios, name, lambda: doubled[:1])
    assert ratios.main([]) == 0
    monkeypatch.setattr(ratios, "measure_nano", lambda: doubled)
    assert ratios.main([]) == 1
    assert "| nano: twice the frames | 2.5 | 2.3 | MISSED |" in capsys.readouterr().out


def test_the_least_of_repeated_measures_counts() -> None:
    figures = {"once": iter([3.0, 2.0]), "frames": iter([4.0, 5.0])}
    measures = {name: lambda values=values: next(values) for name, values in figures.items()}
    assert ratios.take_minimum(measures) == {"once": 2.0, "frames": 4.0}


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        pytest.param(0.5, [True, True, True], id="a forty-eighth an object"),
        pytest.param(1.9, [True, False, False], id="a thirteenth"),
        pytest.param(30.0, [False, False, False], id="as expensive as the reference"),
    ],
)
def test_scaling_is_compared_with_the_references_line(each: float, expected: list[bool]) -> None:
    theirs = [{"objects": objects, "cpu": 50 + 24.0 * objects} for objects in (1, 2)]
    mine = [{"objects": objects, "cpu": 12 + each * objects} for objects in (1, 16, 64)]
    assert [good for _, good in check_against_reference(mine, theirs, "cpu")] == expected


def test_more_than_twice_the_time_for_twice_the_objects_is_found() -> None:
    rows = [{"objects": objects, "cpu": cpu} for objects, cpu in ((1, 1.0), (2, 1.5), (4, 3.5))]
    assert [good for _, good in check_linear_in_objects(rows, "cpu")] == [True, False]


@pytest.mark.parametrize(
    ("longest", "expected"), [(44.0, True), (48.0, False)], ids=["steady", "slower and slower"]
)
def test_frames_that_take_longer_and_longer_are_found(longest: float, expected: bool) -> None:
    rows = [{"frames": frames, "cpu": cpu} for frames, cpu in ((8, 9.0), (16, 20.5), (32, longest))]
    assert [good for _, good in check_steady_in_frames(rows, "cpu")] == [expected]


def test_scaling_continues_earlier_runs_and_judges_them_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
            scaling.main(
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
        printed = capsys.readouterr().out
        assert "| 256 | 132.4 | (9246) | 1/69.8 |" in printed
        assert ("MISSED" in printed) == bool(status)
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
def test_a_linked_watershed_tracks_separate_objects(scene: scenes.Scene) -> None:
    pixels = scene.stack.data / scenes.BRIGHTEST
    width_px = 2 * np.sqrt((scene.labels[0] == scene.labels[0].max()).sum() / np.pi)
    labels = link_planes(segment_plane(plane, float(width_px)) for plane in pixels)
    chosen = {}
    for track in scene.tracks:
        below = labels[scene.find_frames(track)[0]][scene.mask(track, scene.find_frames(track)[0])]
        chosen[track] = int(np.bincount(below).argmax())
    iou, strayed = score_labels(labels, scene.labels, chosen)
    assert iou > 0.85 and strayed == 0


def test_touching_discs_are_split_by_their_shape() -> None:
    scene = scenes.make_touching_scene(same_level=True)
    assert {
        int(segment_plane(plane / scenes.BRIGHTEST, 16.0).max()) for plane in scene.stack.data
    } == {2}


def test_objects_linked_to_another_one_have_strayed() -> None:
    scene = scenes.make_drifting_scene(count=4, frames=6)
    swapped = scene.labels.copy()
    swapped[3:][scene.labels[3:] == 1], swapped[3:][scene.labels[3:] == 2] = 2, 1
    assert score_labels(scene.labels, scene.labels, {1: 1, 2: 2}) == (1.0, 0.0)
    assert score_labels(swapped, scene.labels, {1: 1, 2: 2, 3: 0}) == (
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    )


def test_a_stage_counts_without_the_stages_inside_it() -> None:
    whole = SimpleNamespace(name=REST_OF_PROPAGATION, cpu_time_total=9e6, cpu_parent=None)
    model = SimpleNamespace(name="the rest of the model", cpu_time_total=6e6, cpu_parent=whole)
    operator = SimpleNamespace(name="aten::stack", cpu_time_total=5e6, cpu_parent=model)
    inner = SimpleNamespace(name="encode", cpu_time_total=4e6, cpu_parent=operator)
    assert compute_stage_seconds([whole, model, operator, inner]) == {
        "encode": 4.0,
        REST_OF_PROPAGATION: 3.0,
        "the rest of the model": 2.0,
    }  # type: ignore[list-item]


def test_a_propagation_shows_all_stages() -> None:
    scene = scenes.make_drifting_scene(count=2, frames=3)
    events = profile_propagation(
        make_model(), scene.stack.as_video("t"), [scene.make_click(track) for track in scene.tracks]
    ).events()
    assert compute_stage_seconds(events).keys() == {*STAGES, REST_OF_PROPAGATION}


def test_a_measured_tile_is_on_disk(tmp_path: Path) -> None:
    *_, megabytes = tile_cache.measure_tile(tmp_path, size=256)
    assert megabytes > 0.1


@pytest.mark.parametrize(
    ("again", "read_s", "expected"),
    [(0, 0.1, [True, True]), (3, 0.1, [False, True]), (0, 2.0, [True, False])],
    ids=["reached", "encoded again", "read slowly"],
)
def test_tiles_on_disk_are_judged(again: int, read_s: float, expected: list[bool]) -> None:
    rows = [["", "no", 1.0, 1.0, 3, 7, 1.0], ["", "yes", 1.0, 1.0, 3, again, 1.0]]
    checks = tile_cache.check_requirements(rows, encoded_s=1.0, read_s=read_s)
    assert [reached for _, reached in checks] == expected
