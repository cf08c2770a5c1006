"""`track` with detections as evidence: recorded, resumed, refused if another is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2.api import job as job_module
from napari_sam2.api.job import Job, run_job
from napari_sam2.cli import main
from napari_sam2.core.errors import PlanError, Sam2Error
from napari_sam2.io.prompts import write_prompts
from napari_sam2.testing.scenes import Scene, make_drifting_scene
from napari_sam2.testing.toy import ToyModel
from tests.propagation.test_evidence import FakeEvidence


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = make_drifting_scene()
    tifffile.imwrite(tmp_path / "scene.tif", np.asarray(scene.stack.data))
    write_prompts(scene.make_log(), tmp_path / "prompts.json")
    seen = np.array(scene.labels)
    seen[5:] = 0
    monkeypatch.setattr(
        job_module,
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
