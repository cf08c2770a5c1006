"""`track` and `count` with evidence: recorded, resumed, refused if another is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2.api import count as count_module
from napari_sam2.api import count_job as count_job_module
from napari_sam2.api import job as job_module
from napari_sam2.api.count import CountResult, count
from napari_sam2.api.count_job import make_job, run_count_job
from napari_sam2.api.job import Job, run_job
from napari_sam2.cli import main
from napari_sam2.core.errors import PlanError, Sam2Error
from napari_sam2.io.open import open_stack
from napari_sam2.io.prompts import write_prompts
from napari_sam2.testing.scenes import Scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel
from napari_sam2.tracking.progress import TrackingProgress, TrackingStage
from tests.propagation.test_evidence import FakeEvidence


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = make_drifting_scene()
    tifffile.imwrite(tmp_path / "scene.tif", np.asarray(scene.stack.data))
    write_prompts(scene.make_log(), tmp_path / "prompts.json")
    seen = np.array(scene.labels)
    seen[5:] = 0
    for module in (job_module, count_module, count_job_module):
        monkeypatch.setattr(
            module,
            "make_evidence",
            lambda video, parts, options: None if parts == "none" else FakeEvidence(seen),
        )
    return scene


def _make_job(folder: Path, **fields: object) -> Job:
    return Job(
        input=folder / "scene.tif",
        prompts=folder / "prompts.json",
        out=folder / "out",
        axes="tyx",
        **fields,
    )


def _read_frames(folder: Path) -> set[int]:
    labels = tifffile.imread(folder / "out" / "labels.ome.tif")
    return {int(frame) for frame in np.flatnonzero(labels.any(axis=(1, 2)))}


def test_presence_ends_the_tracks_of_a_job(scene: Scene, tmp_path: Path) -> None:
    run_job(_make_job(tmp_path, evidence="presence"), model=ToyModel())
    assert _read_frames(tmp_path) == set(range(5))
    made = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert made["settings"]["evidence"] == "presence: fake"


def test_a_job_without_evidence_is_as_before(scene: Scene, tmp_path: Path) -> None:
    run_job(_make_job(tmp_path), model=ToyModel())
    assert _read_frames(tmp_path) == set(range(len(scene.labels)))
    made = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert "evidence" not in made["settings"]


def test_a_killed_job_with_other_evidence_is_not_resumed(scene: Scene, tmp_path: Path) -> None:
    def _stop(step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(_make_job(tmp_path, evidence="presence"), model=ToyModel(), progress=_stop)
    for other in ("none", "mask", "all"):
        with pytest.raises(PlanError, match="another input, model or setting"):
            run_job(_make_job(tmp_path, evidence=other, resume=True), model=ToyModel())
    run_job(_make_job(tmp_path, evidence="presence", resume=True), model=ToyModel())
    assert _read_frames(tmp_path) == set(range(5))


def test_a_finished_job_is_not_resumed_with_other_evidence(scene: Scene, tmp_path: Path) -> None:
    run_job(_make_job(tmp_path), model=ToyModel())
    with pytest.raises(PlanError, match="another job"):
        run_job(_make_job(tmp_path, evidence="all", resume=True), model=ToyModel())


@pytest.mark.parametrize("parts", ["clicks", "", "all,none"])
def test_unknown_evidence_is_one_clear_error(scene: Scene, tmp_path: Path, parts: str) -> None:
    with pytest.raises(Sam2Error, match="expected 'all', 'none'"):
        _make_job(tmp_path, evidence=parts)


def test_command_line_refuses_unknown_evidence(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        [
            "track",
            str(tmp_path / "scene.tif"),
            "--prompts",
            str(tmp_path / "prompts.json"),
            "--out",
            str(tmp_path / "out"),
            "--evidence",
            "eyes",
        ]
    )
    assert code == 2
    assert "evidence 'eyes'" in capsys.readouterr().err


def _make_counting_job(folder: Path, **fields: object) -> Job:
    counting = {"seeds": str(folder / "seeds.tif"), "association": "model"}
    return make_job(
        {
            "input": folder / "scene.tif",
            "out": folder / "out",
            "axes": "tyx",
            "counting": counting,
            **fields,
        }
    )


@pytest.fixture
def seeds(scene: Scene, tmp_path: Path) -> Path:
    """Labels of the first frame alone."""
    first = np.array(scene.labels)
    first[1:] = 0
    tifffile.imwrite(tmp_path / "seeds.tif", first, metadata={"axes": "TYX"})
    return tmp_path / "seeds.tif"


def _count(folder: Path, **options: object) -> object:
    stack = open_stack(folder / "scene.tif", axes="tyx")
    given = {"out": folder / "out", "seeds": str(folder / "seeds.tif"), "association": "model"}
    return count(stack, model=ToyModel(), **{**given, **options})


@pytest.mark.parametrize("parts", ["presence", "all", "none"])
def test_presence_ends_the_tracks_of_a_count(seeds: Path, tmp_path: Path, parts: str) -> None:
    _count(tmp_path, evidence=parts)
    made = json.loads((tmp_path / "out" / "provenance.json").read_text())["settings"]
    if parts == "none":
        assert max(_read_frames(tmp_path)) > 4 and "evidence" not in made
    else:
        assert _read_frames(tmp_path) == set(range(5)) and made["evidence"].endswith(": fake")
    by_count = tifffile.imread(tmp_path / "out" / "labels.ome.tif")
    run_count_job(_make_counting_job(tmp_path, evidence=parts), model=ToyModel())
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "labels.ome.tif"), by_count)


def test_a_count_without_files_has_evidence_in_its_session(seeds: Path, tmp_path: Path) -> None:
    result = _count(tmp_path, out=None, evidence="presence")
    assert isinstance(result, CountResult)
    with result.session as session:
        assert session.evidence is not None and session.settings.evidence == "presence"
        assert not session.compute_label_plane(5).any() and session.compute_label_plane(4).any()


@pytest.mark.parametrize("with_job", [False, True])
def test_a_killed_count_with_other_evidence_is_not_resumed(
    seeds: Path, tmp_path: Path, with_job: bool
) -> None:
    def execute(evidence: str, **more: object) -> None:
        if with_job:
            progress = more.pop("progress", None)
            job = _make_counting_job(tmp_path, evidence=evidence, **more)
            run_count_job(job, model=ToyModel(), progress=progress)
        else:
            _count(tmp_path, evidence=evidence, **more)

    def _stop(step: TrackingProgress) -> None:
        if step.stage is TrackingStage.PROPAGATE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute("presence", progress=_stop)
    for other in ("none", "mask", "all"):
        with pytest.raises(PlanError, match="another input, model or setting"):
            execute(other, resume=True)
    execute("presence", resume=True)
    assert _read_frames(tmp_path) == set(range(5))
    for other in ("none", "mask", "all"):
        with pytest.raises(PlanError, match="another job"):
            execute(other, resume=True)
    execute("presence", resume=True)


@pytest.mark.parametrize("parts", ["eyes", "", "all,none"])
def test_count_refuses_unknown_evidence(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: str
) -> None:
    command = ["count", tmp_path / "scene.tif", "--axes", "tyx", "--out", tmp_path / "out"]
    assert main([*map(str, command), "--seeds", str(seeds), "--evidence", parts]) == 2
    assert f"evidence {parts!r}: expected" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_count_on_the_command_line_uses_the_real_detector(
    shared_folder: Path, tmp_path: Path
) -> None:
    """One nucleus of 8 slices, seeded on its largest one, ends in z where it ends."""
    folder = shared_folder / "data" / "zstack_and_2d_stardist"
    image, truth = (tifffile.imread(folder / name) for name in ("img3d.tif", "mask3d.tif"))
    nucleus = truth == 23
    middle = int(nucleus.sum(axis=(1, 2)).argmax())
    only = np.zeros(truth.shape, np.uint8)
    only[middle][nucleus[middle]] = 1
    tifffile.imwrite(tmp_path / "image.tif", image, metadata={"axes": "ZYX"}, imagej=True)
    tifffile.imwrite(tmp_path / "seeds.tif", only, metadata={"axes": "ZYX"}, imagej=True)
    command = [
        "count",
        tmp_path / "image.tif",
        "--along",
        "z",
        "--axes",
        "zyx",
        "--spacing",
        "2,1,1",
    ]
    command += ["--seeds", tmp_path / "seeds.tif", "--trust", "model", "--device", "cpu"]
    command += ["--out", tmp_path / "out", "--evidence", "presence,mask"]
    assert main([*map(str, command)]) == 0
    made = json.loads((tmp_path / "out" / "provenance.json").read_text())["settings"]
    assert made["evidence"].startswith("presence, mask: learned ")
    shown = tifffile.imread(tmp_path / "out" / "labels.ome.tif") > 0
    extra = shown.any(axis=(1, 2)) & ~nucleus.any(axis=(1, 2))
    assert shown.any(axis=(1, 2)).sum() > 1 and extra.sum() <= 3
